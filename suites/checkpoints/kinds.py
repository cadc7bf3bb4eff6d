"""All kinds of checkpoints that the table has."""

from __future__ import annotations

from suites.checkpoints.folders import folder_kinds
from suites.checkpoints.kind import Kind
from suites.checkpoints.modules import module_kinds
from suites.checkpoints.onnx_kinds import onnx_kinds
from suites.checkpoints.pipelines import pipeline_kinds
from suites.checkpoints.trainers import trainer_kinds
from suites.checkpoints.two_times import two_time_kinds

SOURCES = (
    folder_kinds, pipeline_kinds, onnx_kinds, module_kinds, two_time_kinds, trainer_kinds,
)  # fmt: skip


def all_kinds() -> list[Kind]:
    """The kinds, in the table's order."""
    return [kind for source in SOURCES for kind in source()]


def kind_named(name: str) -> Kind:
    """The kind of that name.

    Raises:
        ValueError: There is none.
    """
    for kind in all_kinds():
        if kind.name == name:
            return kind
    raise ValueError(f"no kind is named {name!r}; {', '.join(k.name for k in all_kinds())}")
