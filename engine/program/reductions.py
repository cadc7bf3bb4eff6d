"""Options of other libraries that no table of numbers can hold, refused with the reason.

A step here is one affine pass, whose numbers are known before the run. What has to look at the
whole sample first (its standard deviation, its percentiles, its norm) is none.
"""

from __future__ import annotations

from revstep.engine.errors import ProgramError

__all__ = ["REDUCTIONS", "refuse_reductions"]

REDUCTIONS = {
    "guidance_rescale": (
        "rescaled guidance (Lin et al. 2023, section 3.4) divides by the standard deviation of the "
        "whole sample",
        "lower the guidance, or guide an interval of noise levels only "
        "(guidance_weight=GuidanceInterval(lo, hi))",
    ),
    "thresholding": (
        "dynamic thresholding (Saharia et al. 2022) clips at a percentile of the whole sample",
        "use clip=True, which clips at the fixed ends of the spec's value_range",
    ),
}


def refuse_reductions(**options: object) -> None:
    """Refuses ``guidance_rescale`` and ``thresholding`` unless they are off (None, False, 0).

    Raises:
        ProgramError: One of them is on; names the reason and what to use instead.
    """
    for name, value in options.items():
        if name in REDUCTIONS and value not in (None, False, 0):
            reason, cure = REDUCTIONS[name]
            raise ProgramError(
                f"{name}={value!r} is refused: {reason}, and a step is one affine pass whose "
                f"numbers are known before the run. Instead, {cure}"
            )
