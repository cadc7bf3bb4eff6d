"""All comparisons."""

from __future__ import annotations

from proofs import ancestral, exponential, few_steps, scores, slopes
from proofs.case import Case

__all__ = ["all_cases"]


def all_cases() -> list[Case]:
    """Every case, in the order of the families."""
    families = (ancestral, slopes, exponential, scores, few_steps)
    return [case for family in families for case in family.cases()]
