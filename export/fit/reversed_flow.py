"""``reversed_flow``: a flow whose time runs from noise to data, in revstep's convention."""

from __future__ import annotations

import torch

from revstep.engine.checks import check_number
from revstep.export.module.checks import check_kind


def reversed_flow(module: torch.nn.Module, span: float = 1.0) -> torch.nn.Module:
    """A network trained on x_t = (1 - t) noise + t data, as one of t = 1 for noise.

    Flow matching from noise to data (Lipman et al. 2023; torchcfm and Meta's flow_matching) gives
    the velocity data - noise, and t = 0 is noise. With ``span - t`` for t and the output negated it
    is prediction ``flow`` over a ``FlowSchedule``.

    Args:
        module: Takes (x, t, *conditions), by position.
        span: The time at its data end: 1, or 1000 where it is fed 1000 t.

    Raises:
        TypeError: No module, or no number.
        ValueError: The span is not above 0.
    """
    check_kind(module, "the module")
    check_number(span, "span", 0.0, above=True, finite=True)
    return _Reversed(module, span)


class _Reversed(torch.nn.Module):
    def __init__(self, module: torch.nn.Module, span: float) -> None:
        super().__init__()
        self.module = module
        self.span = span

    def forward(self, x: torch.Tensor, t: torch.Tensor, *conditions: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.module(x, self.span - t, *conditions)
        return -out
