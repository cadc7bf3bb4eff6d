"""What PyTorch's exporter writes wrong, fixed in the graph before it is saved.

Known of torch 2.13 with onnxscript 0.7.2: values named like an input; a Squeeze of an axis that is
not 1 long, which does nothing in PyTorch; a Concat of several element types, which promotes there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir


def fix(model: ir.Model) -> None:
    """All passes, in place."""
    squeeze_only_ones(model)
    join_one_type(model)
    drop_settled_choices(model)
    unique_names(model)


def unique_names(model: ir.Model) -> None:
    """Renames inner values, and outputs, that are named like an input or like one another."""
    from onnx_ir.passes.common import NameFixPass

    NameFixPass()(model)


def squeeze_only_ones(model: ir.Model) -> None:
    """Takes out of every Squeeze the axes that are known to be longer than 1."""
    import onnx_ir as ir

    for node in _nodes(model, "Squeeze"):
        source, axes = node.inputs[0], _numbers(node.inputs[1] if len(node.inputs) > 1 else None)
        if source is None or source.shape is None or axes is None:
            continue
        sizes = list(source.shape)
        ones = [a for a in axes if not isinstance(sizes[a], int) or sizes[a] == 1]
        if len(ones) == len(axes):
            continue
        if ones:
            _feed(node, 1, "Constant", [], {"value": ir.tensor(ones, ir.DataType.INT64)})
        else:
            node.op_type = "Identity"
            node.resize_inputs(1)


def join_one_type(model: ir.Model) -> None:
    """Casts the inputs of every Concat of several element types to the type they promote to."""
    for node in _nodes(model, "Concat"):
        types = [value.dtype for value in node.inputs if value is not None]
        if len(set(types)) == 1 or None in types or len(types) < len(node.inputs):
            continue
        to = _promoted(types)
        for number, value in enumerate(node.inputs):
            if value is not None and value.dtype != to:
                _feed(node, number, "Cast", [value], {"to": to})
        node.outputs[0].dtype = to


def drop_settled_choices(model: ir.Model) -> None:
    """Takes out every Where whose condition is a constant of one value, and broadcasts nothing.

    As of attention under a constant mask that turns no row off whole.
    """
    import onnx_ir as ir

    for node in _nodes(model, "Where"):
        tensor = None if node.inputs[0] is None else ir.convenience.get_const_tensor(node.inputs[0])
        if tensor is None or tensor.size == 0:
            continue
        condition = tensor.numpy()
        if condition.all() or not condition.any():
            chosen = node.inputs[1 if condition.all() else 2]
            out = node.outputs[0]
            if chosen is not None and chosen.shape is not None and chosen.shape == out.shape:
                node.op_type = "Identity"
                node.resize_inputs(1)
                node.replace_input_with(0, chosen)


def _promoted(types: list[Any]) -> ir.DataType:
    """The type that PyTorch gives tensors of several types together."""
    import functools

    import torch
    from onnx_ir.tensor_adapters import from_torch_dtype, to_torch_dtype

    whole = functools.reduce(torch.promote_types, map(to_torch_dtype, types))
    found: ir.DataType = from_torch_dtype(whole)
    return found


def _nodes(model: ir.Model, kind: str) -> list[ir.Node]:
    return [n for n in model.graph.all_nodes() if n.op_type == kind and n.domain == ""]


def _numbers(value: ir.Value | None) -> list[int] | None:
    import onnx_ir as ir

    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else [int(n) for n in tensor.numpy().reshape(-1)]


def _feed(
    node: ir.Node, number: int, kind: str, inputs: list[ir.Value], attributes: dict[str, Any]
) -> None:
    """Makes the output of a new node the ``number``-th input of a node."""
    import onnx_ir as ir

    made = ir.node(kind, inputs, attributes, metadata_props=dict(node.metadata_props))
    if kind == "Cast":
        made.outputs[0].dtype, made.outputs[0].shape = attributes["to"], inputs[0].shape
    assert node.graph is not None
    node.graph.insert_before(node, made)
    node.replace_input_with(number, made.outputs[0])
