"""All rewrites, in the order in which they are applied."""

from __future__ import annotations

from revstep.export.rewrite.attention import ATTENTION
from revstep.export.rewrite.broadcast import BROADCAST
from revstep.export.rewrite.channel_affine import CHANNEL_AFFINE
from revstep.export.rewrite.conv_1d import CONV_2D
from revstep.export.rewrite.group_norm import GROUP_NORM
from revstep.export.rewrite.joined_linear import JOINED_LINEAR
from revstep.export.rewrite.mish import MISH
from revstep.export.rewrite.rewrite import Rewrite
from revstep.export.rewrite.shapes import SHAPES

REWRITES: dict[str, Rewrite] = {
    r.name: r
    for r in (
        SHAPES,
        JOINED_LINEAR,
        ATTENTION,
        CONV_2D,
        GROUP_NORM,
        CHANNEL_AFFINE,
        MISH,
        BROADCAST,
    )
}
