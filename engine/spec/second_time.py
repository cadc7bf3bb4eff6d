"""The second time input of a network of two times: where a row goes, or how far."""

from __future__ import annotations

import dataclasses

from revstep.engine.checks import check_bool, check_identifier, check_one_of
from revstep.engine.spec.parts import TIME_KINDS

MEANINGS = ("end", "length")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SecondTime:
    """The second time input, float32 (B,) at revstep's interface: the module's third argument.

    Flow maps, MeanFlow, shortcut and consistency-trajectory models take the time t of the state
    and the time r that the step goes to (docs/two-times.md). Where a sampler evaluates the network
    at a time, r is t and the length 0.

    At the clean end, ``unit`` and ``thousand`` of a flow, ``sigma`` and ``angle`` are 0. The others
    have no number there that training had, and are fed that of training index 0, as the first time
    is.

    Attributes:
        name: The input's name.
        kind: Its unit, a row of ``TimeInput``'s table; it may differ from the first time's.
        of: ``end``: r; ``length``: that of t less that of r, in the unit.
        fractions: As in ``TimeInput``.
    """

    name: str = "r"
    kind: str = "index"
    of: str = "end"
    fractions: bool = False

    def __post_init__(self) -> None:
        check_identifier(self.name, "the second time's name")
        check_bool(self.fractions, "the second time's fractions")
        check_one_of(self.kind, "time kind", TIME_KINDS)
        check_one_of(self.of, "second time's 'of'", MEANINGS)
