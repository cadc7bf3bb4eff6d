"""All rewrites, in the order in which they are applied."""

from __future__ import annotations

from revstep.export.rewrite.mish import MISH
from revstep.export.rewrite.rewrite import Rewrite

REWRITES: dict[str, Rewrite] = {r.name: r for r in (MISH,)}
