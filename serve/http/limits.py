"""What one request may ask for."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a request; beyond them it is refused before any work.

    Attributes:
        steps: Steps of the time grid, times what a sampler's option repeats them.
        samples: Samples.
        body_bytes: Bytes of the body.
        deadline_s: Seconds in which a request that names no deadline must be done; None: any time.
    """

    steps: int = 1000
    samples: int = 64
    body_bytes: int = 16 << 20
    deadline_s: float | None = None
