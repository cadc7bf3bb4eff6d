"""The samplers that have a name, all of them imported."""

from __future__ import annotations

from revstep.engine.program import samplers
from revstep.engine.program.samplers.base import BaseSampler

SAMPLERS: dict[str, type[BaseSampler]] = {
    name: getattr(samplers, cls) for name, cls in samplers.NAMES.items()
}
