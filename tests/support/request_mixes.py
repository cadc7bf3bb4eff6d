"""Random mixes of requests, for hypothesis: all that a request can be, and how they come."""

import dataclasses

import numpy as np
from hypothesis import strategies as st

from revstep import GuidanceInterval

SAMPLERS = (
    "ddim", "ddpm", "euler", "euler_ancestral", "heun", "dpm2", "dpmpp_2m", "dpmpp_3m",
    "dpmpp_2m_sde", "unipc", "lms", "repaint", "lcm",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Arrival:
    """A request, and how it comes.

    Attributes:
        arguments: Of ``Engine.sample``.
        own: Of ``Service.submit`` alone.
        after: Steps of the service that are waited for before it is submitted.
        cancels: Which of the earlier requests is cancelled then, counted from the latest; or None.
    """

    arguments: dict
    own: dict
    after: int
    cancels: int | None


def arrivals(spec, samplers, most=7):
    """Lists of ``Arrival`` for a spec with the conditions ``label`` and ``seen``."""
    own = st.fixed_dictionaries({
        "priority": st.sampled_from((0, 0, 3, -2)),
        "previews": st.sampled_from((0, 0, 0, 1, 3)),
    })  # fmt: skip
    one = st.builds(
        Arrival,
        arguments=requests(spec, samplers),
        own=own,
        after=st.integers(0, 6),
        cancels=st.sampled_from((None, None, None, None, 1, 2, 4)),
    )
    return st.lists(one, min_size=2, max_size=most)


@st.composite
def requests(draw, spec, samplers):
    """Arguments of ``Engine.sample``; some are refused together."""
    n = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))

    def states(several):
        shape = (n, *spec.shape) if several else spec.shape
        return rng.uniform(-1.0, 1.0, shape).astype(np.float32)

    seeds = st.integers(0, (1 << 64) - 1)
    found = {
        "n": n,
        "sampler": draw(st.sampled_from(samplers)),
        "steps": draw(st.integers(1, 9)),
        "seed": draw(st.one_of(seeds, st.lists(seeds, min_size=n, max_size=n))),
        "conditions": _values(draw, rng, n),
    }
    if draw(st.booleans()):
        found["guidance"] = draw(st.sampled_from((2.5, 0.0, [1.0, 3.0, 1.5, 1.0, 7.0][:n])))
        if draw(st.booleans()):
            found["null_conditions"] = _values(draw, rng, n)
        if draw(st.booleans()):
            found["guidance_weight"] = GuidanceInterval(0.1, draw(st.sampled_from((0.7, 5.0))))
    kind = draw(st.sampled_from(("noise", "plain", "plain", "start", "inpaint", "both")))
    if kind == "noise":
        found["noise"] = rng.standard_normal((n, *spec.shape)).astype(np.float32)
    if kind in ("start", "both"):
        found["start"] = states(draw(st.booleans()))
        found["strength"] = draw(st.sampled_from((0.3, 0.75, 1.0)))
    if kind in ("inpaint", "both"):
        mask = (rng.random(spec.shape) < 0.5).astype(np.float32)
        found["mask"] = mask
        if kind == "inpaint":
            found["known"] = states(draw(st.booleans()))
    options = {
        "grid": st.sampled_from(("leading", "trailing", "linspace")),
        "clip": st.booleans(),
        "final": st.sampled_from(("clean", "first")),
        "compat": st.just("diffusers"),
    }
    name = draw(st.sampled_from((None, None, None, *options)))
    if name is not None:
        found[name] = draw(options[name])
    return found


def _values(draw, rng, n):
    """Some or all of the conditions: one for all samples, or each its own."""
    found = {}
    if draw(st.booleans()):
        found["label"] = int(rng.integers(5)) if draw(st.booleans()) else rng.integers(5, size=n)
    if not found or draw(st.booleans()):
        shape = (3,) if draw(st.booleans()) else (n, 3)
        found["seen"] = rng.standard_normal(shape).astype(np.float32)
    return found
