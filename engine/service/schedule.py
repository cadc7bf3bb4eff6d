"""Who goes next, and for how long: decisions of the service, as functions of what is there.

Nothing here knows threads, clocks or devices.
"""

from __future__ import annotations

from collections.abc import Sequence


def turn_key(arrived_s: float, priority: int, ageing_s: float) -> float:
    """What requests are ordered by; the smallest goes first.

    Waiting ``ageing_s`` is worth one level of priority: of two requests the order never changes,
    and whatever keeps coming, everyone's turn comes.

    Args:
        arrived_s: When it came, in seconds of a clock that never goes back.
        priority: Higher goes first.
        ageing_s: Seconds, above 0.
    """
    return arrived_s / ageing_s - priority


def fitting(rows: Sequence[int], first: int, free_slots: int, free_rows: int, lot: int) -> int:
    """How many samples of a request fit now, from ``first`` on.

    Args:
        rows: Network rows of each sample: 1, or 2 where it is guided.
        first: The first that has no slot yet.
        free_slots: Slots that are free.
        free_rows: Network rows that are free.
        lot: At most so many.
    """
    last = min(len(rows), first + free_slots, first + lot)
    for k in range(first, last):
        free_rows -= rows[k]
        if free_rows < 0:
            return k - first
    return max(0, last - first)


def steps_ahead(
    next_end: int, next_look: int | None, step_s: float, turn_s: float, *, at_once: bool
) -> int:
    """Steps to run before looking at the queue again.

    A network of microseconds would otherwise spend more time between its calls than in them; who
    comes meanwhile waits ``turn_s`` at most, or one step.

    Args:
        next_end: Steps until the first sample is done, at least 1.
        next_look: Steps until somebody looks at an estimate; None: nobody does.
        step_s: What a step takes, in seconds; 0: not known yet.
        turn_s: What a turn may take.
        at_once: Whether a step is over when its call returns; else the device has its own queue.
    """
    if not at_once or step_s <= 0.0:
        return 1
    most = max(1, int(turn_s / step_s))
    if next_look is not None:
        most = min(most, next_look)
    return max(1, min(next_end, most))


def retry_after_s(waiting_rows_steps: int, row_steps_per_s: float) -> float:
    """When a queue may have room again: seconds that its work takes, from 1 to 60.

    Args:
        waiting_rows_steps: Network rows times steps of all that waits.
        row_steps_per_s: What was done of those per second; 0: not known.
    """
    if row_steps_per_s <= 0.0:
        return 1.0
    return min(60.0, max(1.0, waiting_rows_steps / row_steps_per_s))
