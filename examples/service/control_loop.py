"""A control loop with a deadline a tick: a robot follows a goal by a policy's plans.

python examples/service/control_loop.py /tmp/policy.revstep --robots 4 --hz 50

At each tick a robot looks, asks for a plan, drives its first velocity, and forgets the rest but
for two uses: the next plan starts from it (moved on by a tick and noised half way, so that half of
the steps are enough), and where the next plan misses its deadline it is driven on. Robots share
network calls.
"""

import argparse
import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

import revstep
from revstep.errors import DeadlineError

STEPS, STRENGTH = 16, 0.5  # 16 steps for the first plan, 8 for those that start from the last one
SPEED = 0.05  # of a velocity of 1, per tick
Array = NDArray[np.float32]


@dataclasses.dataclass
class Drive:
    """How a drive went.

    Attributes:
        missed: Ticks whose plan came too late: the robot drove the last plan on.
        late: Ticks that ended late.
        plan_ms: From the look to the plan, of the ticks that had one.
        distance: From the goal, after each tick.
    """

    missed: int = 0
    late: int = 0
    plan_ms: list[float] = dataclasses.field(default_factory=list)
    distance: list[float] = dataclasses.field(default_factory=list)


def goal_at(tick: int) -> Array:
    """A goal that jumps to the next corner of a square every 50 ticks."""
    corners = [(1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)]
    return np.asarray(corners[tick // 50 % 4], np.float32)


def moved_on(plan: Array) -> Array:
    """The plan (16, 2) one tick later; its last velocity again at its end."""
    return np.concatenate([plan[1:], plan[-1:]])


def first_plan(service: revstep.Service, offset: Array, seed: int) -> Array:
    """A plan (16, 2) from noise. The robot stands, so it has no deadline."""
    conditions = {"observation": offset}
    job = service.submit(1, sampler="dpmpp_2m", steps=STEPS, seed=seed, conditions=conditions)
    return job.result().x[0]


def next_plan(
    service: revstep.Service, offset: Array, last: Array, seed: int, deadline_s: float
) -> Array | None:
    """A plan (16, 2) from the last one; None where it would come too late."""
    job = service.submit(
        1,
        sampler="dpmpp_2m",
        steps=STEPS,
        seed=seed,
        start=last[None],
        strength=STRENGTH,
        conditions={"observation": offset},
        deadline_s=deadline_s,
    )
    try:
        return job.result(timeout=deadline_s).x[0]
    except (DeadlineError, TimeoutError):  # a timeout: one network call takes longer
        job.cancel()
        return None


def drive(
    service: revstep.Service, ticks: int, tick_s: float, deadline_s: float, robot: int = 0
) -> Drive:
    """Drives a robot from the origin; ``deadline_s`` is what a tick leaves for its plan."""
    found, position = Drive(), np.zeros(2, np.float32)
    plan = first_plan(service, goal_at(0) - position, robot)
    next_plan(service, goal_at(0), plan, 0, 10.0)  # a new form of request is prepared once
    begun = time.monotonic()
    for tick in range(ticks):
        looked = time.monotonic()
        offset = goal_at(tick) - position
        plan = moved_on(plan)
        newer = next_plan(service, offset, plan, ticks * robot + tick, deadline_s)
        if newer is None:
            found.missed += 1
        else:
            plan = newer
            found.plan_ms.append(1e3 * (time.monotonic() - looked))
        position = position + SPEED * plan[0]
        found.distance.append(float(np.linalg.norm(goal_at(tick) - position)))
        wait = begun + (tick + 1) * tick_s - time.monotonic()
        found.late += wait < 0
        time.sleep(max(0.0, wait))
    return found


def report(name: str, found: Drive, ticks: int) -> str:
    """A line on a drive."""
    times = np.percentile(found.plan_ms, [50, 95, 100]) if found.plan_ms else [np.nan] * 3
    p50, p95, most = (f"{value:.2f}" for value in times)
    return (
        f"{name}: {found.missed} of {ticks} plans missed their deadline, "
        f"{found.late} ticks ended late; "
        f"plan p50 {p50} ms, p95 {p95} ms, longest {most} ms; "
        f"{found.distance[-1]:.3f} from the goal"
    )


def main() -> None:
    """Robots, each in a thread of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--hz", type=float, default=50.0)
    parser.add_argument("--ticks", type=int, default=200)
    parser.add_argument("--robots", type=int, default=1)
    asked = parser.parse_args()
    tick_s = 1 / asked.hz
    engine = revstep.load(asked.bundle, threads=1)
    with revstep.Service(engine) as service, ThreadPoolExecutor(asked.robots) as pool:
        drives = [
            pool.submit(drive, service, asked.ticks, tick_s, 0.8 * tick_s, robot)
            for robot in range(asked.robots)
        ]
        for robot, one in enumerate(drives):
            print(report(f"robot {robot}", one.result(), asked.ticks))


if __name__ == "__main__":
    main()
