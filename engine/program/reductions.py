"""Options of other libraries that no table of numbers can hold, refused with the reason.

A step here is one affine pass, whose numbers are known before the run. What has to look at the
whole sample first (its standard deviation, its percentiles, its norm) is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from revstep.engine.errors import ArgumentTypeError, ProgramError
from revstep.engine.message import Argument, Message
from revstep.engine.nearest import unknown_names

REDUCTIONS: dict[str, tuple[str, str]] = {
    "guidance_rescale": (
        "rescaled guidance (Lin et al. 2023, section 3.4) divides by the standard deviation of the "
        "whole sample",
        "lower the guidance, or guide an interval of noise levels only "
        "(guidance_weight=GuidanceInterval(lo, hi))",
    ),
    "thresholding": (
        "dynamic thresholding (Saharia et al. 2022) clips at a percentile of the whole sample",
        Message(
            "use ", Argument("clip", True), ", which clips at the ends of the spec's value_range"
        ),
    ),
}


def refuse_unknown(what: str, given: Mapping[str, object], known: Iterable[str]) -> None:
    """Refuses options that aren't ``known``; ``REDUCTIONS`` may be off (None, False, 0).

    Args:
        what: The words before their names: ``sampler 'ddim' has no option``.
        given: Options by name.
        known: The names that there are.

    Raises:
        ProgramError: One of ``REDUCTIONS`` is on; says the reason and what to use instead.
        ArgumentTypeError: Another, as Python's own of unknown arguments; says the nearest name.
    """
    for name, value in given.items():
        if name in REDUCTIONS and value not in (None, False, 0):
            reason, fix = REDUCTIONS[name]
            raise ProgramError(
                f"{name}={value!r} is refused: {reason}, and a step is one affine pass whose "
                "numbers are known before the run. Instead, ",
                fix,
            )
    if others := set(given) - set(known) - set(REDUCTIONS):
        raise ArgumentTypeError(unknown_names(what, others, known), min(others))
