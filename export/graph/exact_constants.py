"""The exporter's optimiser, held to constants as they are.

onnxscript (0.7.2) takes ``x + c`` for x where |c| is at most 1e-8, and ``x * c`` for x where c is
within 1e-5 of 1. So ``x / (norm + 1e-8)`` loses its epsilon, and a row of zeros becomes NaN.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

RULES = "_DEFAULT_REWRITE_RULES"
EXACT = ("dropout_zero_rule", "dropout_inference_rule")  # of the module's rules, those to keep


@contextlib.contextmanager
def exact_constants() -> Iterator[bool]:
    """Leaves the optimiser's rules of "almost 0" and "almost 1" out while it lasts.

    Yields:
        Whether it could: where an onnxscript keeps its rules elsewhere, the optimiser as a whole
        must stay out.
    """
    try:
        from onnxscript import rewriter
        from onnxscript.rewriter.rules.common import _no_op

        rules = getattr(rewriter, RULES)
        kept = [getattr(_no_op, name) for name in EXACT]
        left_out = [rule for rule in _no_op.rules if rule not in kept]
    except (ImportError, AttributeError):
        yield False
        return
    setattr(rewriter, RULES, tuple(rule for rule in rules if rule not in left_out))
    try:
        yield True
    finally:
        setattr(rewriter, RULES, rules)
