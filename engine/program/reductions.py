"""Options and samplers of other libraries that no table of numbers can hold, with the reasons.

A step here is one affine pass, whose numbers are known before the run. What has to look at the
whole sample first (its standard deviation, its percentiles, its norm) is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from revstep.engine.errors import ArgumentTypeError, ProgramError
from revstep.engine.message import Argument, Message
from revstep.engine.nearest import unknown_names

LESS_GUIDANCE = (
    "lower the guidance, or guide an interval of noise levels only "
    "(guidance_weight=GuidanceInterval(lo, hi))"
)
CFG_ZERO_STAR = (
    "CFG-Zero* (Fan et al. 2025) scales by a scalar product over the whole sample",
    LESS_GUIDANCE,
)
REDUCTIONS: dict[str, tuple[str, str]] = {
    "guidance_rescale": (
        "rescaled guidance (Lin et al. 2023, section 3.4) divides by the standard deviation of the "
        "whole sample",
        LESS_GUIDANCE,
    ),
    "adaptive_projected_guidance": (
        "adaptive projected guidance (Sadat et al. 2024) takes the norm of the whole sample's "
        "guidance, and its projection on the sample",
        LESS_GUIDANCE,
    ),
    "use_cfg_zero_star": CFG_ZERO_STAR,
    "is_cfg_zero_star": CFG_ZERO_STAR,
    "thresholding": (
        "dynamic thresholding (Saharia et al. 2022) clips at a percentile of the whole sample",
        Message(
            "use ", Argument("clip", True), ", which clips at the ends of the spec's value_range"
        ),
    ),
}


NO_ROWS: dict[str, str] = {
    "dpmpp_sde": (
        "DPM-Solver++ SDE with two calls a step draws two noises of one Brownian path, which is "
        "the same for any steps; noise here is independent from row to row. Take 'dpmpp_2m_sde', "
        "'dpmpp_3m_sde' or 'dpmpp_2s_sde'"
    ),
    "piflow": (
        "PiFlow follows the policy that one network call gives over a number of substeps, "
        "interpolated where each substep is; a row is one affine step. Take a flow model without "
        "it, with 'flow_euler'"
    ),
    "rfd4_proteina": (
        "RFD4Proteina's scheduler moves two states, each over times of its own; a program has one"
    ),
}
"""Samplers by the names that they have elsewhere, and why there is none here."""


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
