"""One golden run: its network, its engine and its arguments, drawn by the run's name.

What a case leaves open is picked by a checksum of its name, so that a new case or a new choice of
one axis leaves the others as they are.
"""

import dataclasses
import zlib

import numpy as np

import revstep
from revstep import Condition, TimeInput, grids
from revstep.schedules import FlowSchedule, VESchedule, VPSchedule

__all__ = ["KINDS", "LABEL", "SCHEDULES", "SHAPES", "VECTOR", "Picks", "Setup", "draw", "numbers"]

KINDS = {
    "vp": ("epsilon", "sample", "v_prediction", "flow", "score", "mean"),
    "ve": ("epsilon", "sample", "v_prediction", "score", "edm", "mean"),
    "edm": ("edm", "epsilon"),
    "flow": ("flow", "v_prediction", "sample", "epsilon", "score"),
}
SCHEDULES = {
    "vp": [
        VPSchedule(),
        VPSchedule(betas="scaled_linear", beta_start=0.00085, beta_end=0.012),
        VPSchedule(betas="squaredcos_cap_v2"),
        VPSchedule(steps=50, beta_end=0.3),
        VPSchedule(zero_terminal_snr=True),
    ],
    "ve": [VESchedule(), VESchedule.edm(sigma_max=20.0)],
    "edm": [VESchedule.edm()],
    "flow": [FlowSchedule()],
}
TIMES = {
    "vp": [TimeInput(), TimeInput(fractions=True), TimeInput(kind="unit", fractions=True)],
    "ve": [TimeInput(kind="sigma"), TimeInput(kind="log_sigma"), TimeInput(fractions=True)],
    "edm": [TimeInput(kind="log_sigma", fractions=True)],
    "flow": [TimeInput(kind="unit"), TimeInput(kind="thousand"), TimeInput(fractions=True)],
}
GRIDS = {
    "vp": [
        None, None, "linspace", "leading", "karras", "exponential", "beta", "sgm_uniform",
        "logsnr_uniform", grids.TimeGrid(times=(49, 30, 12, 5, -1)),
    ],
    "ve": [
        None, "karras", "exponential", "sgm_uniform", grids.TimeGrid(sigmas=(20.0, 4.0, 0.7, 0.1))
    ],
    "flow": [
        None, "linspace", "leading", grids.ShiftedGrid(3.0),
        grids.TimeGrid(sigmas=(0.9, 0.5, 0.1)),
    ],
}  # fmt: skip
GRIDS["edm"] = GRIDS["ve"]
LATE = [  # starts after alpha = 0
    grids.LinspaceGrid(first=900.0), grids.TimeGrid(sigmas=(0.9, 0.5, 0.1)),
    grids.ShiftedGrid(2.0, grids.LinspaceGrid(first=800.0)),
]  # fmt: skip
SHAPES = [(1,), (3,), (4, 4, 4), (7, 11, 13), (3, 32, 32)]
LABEL = Condition(name="label", dtype="int64", null=4, classes=5)
VECTOR = Condition(name="vector", shape=(3,), null=0.25)
BARE = Condition(name="bare", shape=(2, 2))  # without a null value
CONDITIONS = [(), (LABEL,), (VECTOR,), (LABEL, VECTOR), (BARE,), (VECTOR, BARE)]
GUIDANCE = ["off", "off", "on", "mixed", "mixed", "interval", "indices", "falling"]
STARTS = [
    "noise", "noise", "noise", "given noise", "image 0.05", "image 0.5", "image and noise",
    "mask", "mask and image", "soft masks",
]  # fmt: skip
RANGES = [{}, {"value_range": (-1.0, 1.0)}, {"value_range": (-1.0, 1.0), "clip": True}]
WATCHES = ["nobody", "nobody", "previews", "trace", "some", "previews and trace", "progress"]


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """What runs: an engine of ``spec`` with these options, and one call of its method."""

    spec: revstep.DenoiserSpec
    arguments: dict
    method: str = "sample"
    reproducible: bool = False
    decoded: bool = False
    watch: str = "nobody"


def numbers(shape, salt):
    """float32 in [-1, 1), the same everywhere: integer arithmetic."""
    count = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) + np.uint64(1000 * salt)
    mixed = (count * np.uint64(2654435761) ^ (count >> np.uint64(2))) % np.uint64(1 << 24)
    return (mixed.astype(np.float32) / np.float32(1 << 23) - np.float32(1)).reshape(shape)


def falling(at):
    """A guidance weight of the user's own."""
    return 1.5 if at.index > 500 else 0.5


class Picks:
    """Choices by a checksum of a name."""

    def __init__(self, name):
        self._name = name

    def __call__(self, axis, choices):
        """One of the choices."""
        return choices[zlib.crc32(f"{axis}: {self._name}".encode()) % len(choices)]


def _conditions(spec, n, which):
    """(values, null values) of a request's conditions."""
    rows = np.arange(n)
    values = {
        "label": rows % 4,
        "vector": numbers((n, 3), 5),
        "bare": numbers((n, 2, 2), 6),
        "switch": rows % 3 == 0,
        "code": (rows % 7).astype(np.int32),
    }
    nulls = {"vector": numbers((n, 3), 7), "bare": numbers((2, 2), 8), "label": (rows + 1) % 5}
    names = [c.name for c in spec.conditions]
    needed = {c.name for c in spec.conditions if c.null is None}
    own = {name: nulls[name] for name in names if name in needed or which == "own"}
    return {name: values[name] for name in names}, own


def _guidance(kind, n):
    if kind == "off":
        return {}
    mixed = np.resize(np.float32([3.0, 1.0, 0.0, 1.75, 1.0, -0.5]), n)
    scale = mixed if kind in ("mixed", "indices") else 2.5
    weight = {
        "interval": revstep.GuidanceInterval(lo=0.3, hi=5.0),
        "indices": revstep.GuidanceInterval(100, 800, unit="index", inside=1.3, outside=0.2),
        "falling": falling,
    }.get(kind)
    return {"guidance": scale} if weight is None else {"guidance": scale, "guidance_weight": weight}


def _start(kind, n, shape):
    """The arguments of where a run begins, and which pixels are known."""
    one, many = numbers(shape, 1), numbers((n, *shape), 2)
    noise = np.float32(1.5) * numbers((n, *shape), 3)
    mask = np.arange(shape[-1]) % 2 == 0
    return {
        "noise": {},
        "given noise": {"noise": noise},
        "image 0.05": {"start": one, "strength": 0.05},
        "image 0.5": {"start": many, "strength": 0.5},
        "image and noise": {"start": many, "strength": 1.0, "noise": noise},
        "mask": {"mask": mask, "known": one},
        "mask and image": {"mask": mask, "start": many},
        "soft masks": {"mask": np.abs(numbers((n, *shape), 4)), "known": many, "start": -many},
    }[kind]


def _choices(kind, prediction):
    """(schedules, grids, steps) where a run of the prediction is possible and of sane numbers."""
    schedules, grids, steps = SCHEDULES[kind], GRIDS[kind], [1, 2, 3, 5, 7, 12]
    if prediction in ("epsilon", "score"):  # nothing to learn of x0 where alpha = 0
        schedules = [s for s in schedules if not getattr(s, "zero_terminal_snr", False)]
        grids = LATE if kind == "flow" else grids
    return schedules, grids, steps[:3] if prediction == "mean" else steps


def _is_long(sampler):
    """Whether its steps are several network calls each."""
    name = sampler if isinstance(sampler, str) else type(sampler).__name__.lower()
    return name in ("langevin", "predictor_corrector", "predictorcorrector", "repaint")


def draw(name, sampler, kind, fields=(), arguments=(), **fixed):
    """A setup whose other axes are picked by name; ``fixed`` are choices made beforehand."""
    picks = Picks(name)

    def pick(axis, choices):
        return fixed[axis] if axis in fixed else picks(axis, choices)

    n, shape = pick("n", [1, 3, 19]), pick("shape", SHAPES)
    schedules, time_grids, counts = _choices(kind, dict(fields).get("prediction", "epsilon"))
    conditions = pick("conditions", CONDITIONS)
    spec = revstep.DenoiserSpec(
        **{
            "shape": shape,
            "schedule": pick("schedule", schedules),
            "prediction": "epsilon",
            "time": pick("time", TIMES[kind]),
            "conditions": conditions,
            "batch": pick("batch", [(1, 64), (1, 8), (5, 40)]),
            "final": pick("final", ["clean", "clean", "clean", "first"]),
            **pick("range", RANGES),
            **dict(fields),
        }
    )
    guidance = pick("guidance", GUIDANCE) if conditions else "off"
    values, nulls = _conditions(spec, n, pick("nulls", ["spec", "own"]))
    grid = pick("grid", time_grids)
    steps = pick("steps", counts[:4] if _is_long(sampler) else counts)
    chosen = {
        "n": n,
        "steps": None if isinstance(grid, grids.TimeGrid) else steps,
        "grid": grid,
        "seed": pick("seed", [5, 2**64 - 2, [7 * k + 3 for k in range(n)]]),
        "conditions": values,
        **_guidance(guidance, n),
        **({} if guidance == "off" else {"null_conditions": nulls}),
        **_start(pick("start", STARTS), n, shape),
        "batch_size": pick("batch size", [None, None, 1, 3]),
    }
    if spec.value_range is not None:
        chosen["clip"] = pick("clip", [None, True, False])
    return Setup(
        spec=spec,
        arguments={"sampler": sampler, **chosen, **dict(arguments)},
        reproducible=pick("reproducible", [False, False, True]),
        decoded=pick("decoded", [False] * 9 + [True]),
        watch=pick("watch", WATCHES),
    )
