"""A graph's file to another one's, by the rewrites of some names; the batch stays dynamic."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.errors import ExportError

if TYPE_CHECKING:
    import onnx_ir as ir

LARGEST = 2**31 - 1  # bytes of one protobuf file


def rewrite_graph(graph: Path, out: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Writes ``graph`` to ``out``, changed by the rewrites of these names, in the table's order.

    The same bytes every time. Nothing is written where nothing changes.

    Returns:
        The names of those that changed something.

    Raises:
        ExportError: A name that is none, a graph with weights in a file of their own, or one that
            ONNX's checker refuses after the changes; ``out`` is not touched.
    """
    from revstep.export.graph.check import check_loads
    from revstep.export.rewrite.table import REWRITES

    unknown = [n for n in names if n not in REWRITES]
    if unknown:
        raise ExportError(
            f"no rewrite is called {', '.join(map(repr, unknown))}; there are {', '.join(REWRITES)}"
        )
    if (reason := _too_large(graph)) is not None:
        raise ExportError(reason)
    model = _loaded(graph)
    before = _interface(model)
    changed = tuple(r.name for r in REWRITES.values() if r.name in names and _change(model, r.name))
    if not changed:
        return ()
    _finish(model)
    if (after := _interface(model)) != before:
        raise ExportError(
            f"the rewrites {', '.join(changed)} changed the graph's inputs and outputs from "
            f"{before} to {after}; compile without them"
        )
    partial = out.with_name(f".{out.name}.part")
    try:
        partial.write_bytes(_serialised(model))
        check_loads(
            partial,
            f"the rewrites {', '.join(changed)} gave a graph that no runtime loads; compile "
            "without them",
        )
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return changed


def applicable(graph: Path, runtime: str | None = None) -> tuple[str, ...]:
    """The names of the rewrites that change something in a graph, each of those before it applied.

    With a runtime, of those that are for it. None of a graph that can't be rewritten, as of one
    with weights in a file of their own.
    """
    from revstep.export.rewrite.table import REWRITES

    if _too_large(graph) is not None:
        return ()
    model = _loaded(graph)
    tried = [r.name for r in REWRITES.values() if runtime is None or runtime in r.runtimes]
    return tuple(name for name in tried if _change(model, name))


def _change(model: ir.Model, name: str) -> int:
    from revstep.export.rewrite.table import REWRITES

    changed = REWRITES[name].change(model)
    if changed:
        _sweep(model)
    return changed


def _too_large(graph: Path) -> str | None:
    """Why a graph is not rewritten: its weights are elsewhere, or protobuf can't hold them."""
    import onnx

    if graph.stat().st_size > LARGEST:
        return f"{graph} is larger than 2 GB, which one file of protobuf can't hold"
    proto = onnx.load(str(graph), load_external_data=False)
    weights = [i for i in proto.graph.initializer if i.data_location == onnx.TensorProto.EXTERNAL]
    if weights:
        return (
            f"{graph} keeps {len(weights)} weights in a file beside it, as graphs above 2 GB do: "
            "such a graph is run as exported, without rewrites"
        )
    return None


def _loaded(graph: Path) -> ir.Model:
    """The model with the shapes of all values that ONNX can infer."""
    import onnx
    import onnx_ir as ir

    proto = onnx.load(str(graph))
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    return ir.serde.deserialize_model(inferred)


def _sweep(model: ir.Model) -> None:
    """Takes out nodes that nothing reads any more, and gives every value its own name."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    from revstep.export.graph.passes import unique_names

    RemoveUnusedNodesPass()(model)
    unique_names(model)


def _finish(model: ir.Model) -> None:
    """Drops the shapes of inner values: a runtime infers its own, and none can be stale."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
                value.type = None


def _interface(model: ir.Model) -> list[tuple[Any, ...]]:
    """Names, types and shapes of inputs and outputs, in their order."""
    values = [*model.graph.inputs, *model.graph.outputs]
    return [(v.name, str(v.dtype), str(v.shape)) for v in values]


def _serialised(model: ir.Model) -> bytes:
    import onnx_ir as ir

    written: bytes = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    return written
