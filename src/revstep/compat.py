"""Ways out: revstep's step under the interfaces of other libraries (docs/compat.md)."""

from revstep.export.compat.scheduler import RevstepScheduler

__all__ = ["RevstepScheduler"]
