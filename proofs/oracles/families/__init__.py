"""All comparisons."""

from __future__ import annotations

from proofs.oracles.case import Case
from proofs.oracles.families import (
    adams,
    ancestral,
    exponential,
    few_steps,
    models,
    scores,
    slopes,
    two_times,
)

__all__ = ["all_cases"]


def all_cases() -> list[Case]:
    """Every case, in the order of the families."""
    families = (ancestral, slopes, exponential, adams, scores, few_steps, models, two_times)
    return [case for family in families for case in family.cases()]
