"""In bf16: what is computed of a row's scalars, such as a time's sinusoids, stays in float32.

bfloat16 has 8 bits of mantissa: the time 999 would be 1000 before its sine is taken, or before it
is an index.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from revstep.engine.backends.ov import library

HEAD = "revstep.head."
"""Begins the names of tensors that the head gives the body."""
# a product in float32 costs what bf16 is for; a shape doesn't depend on values
OUTSIDE = {"MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData", "ShapeOf"}
LARGEST = 1 << 14  # elements a row of what the head computes, which the body reads from memory


def split_scalar_path(model: Any, scalars: frozenset[str]) -> tuple[Any | None, Any]:
    """(head, body) of a model with fixed shapes, which is taken apart.

    The head computes what depends on nothing but ``scalars`` and constants, up to the first matrix
    product; the body has it as further inputs. There is no head where nothing is computed so.

    Args:
        model: An OpenVINO model.
        scalars: The names of inputs.
    """
    ov = library.openvino()
    from openvino import passes

    folding = passes.Manager()
    folding.register_pass(passes.ConstantFolding())  # times are broadcast to a shape of x
    folding.run_passes(model)
    inside = _inside(model, scalars)
    results, parameters = model.get_results(), model.get_parameters()
    given: list[Any] = []
    taken: list[Any] = []
    for output, readers in list(_leaving(model, inside)):
        wire = ov.op.Parameter(output.get_element_type(), output.get_partial_shape())
        wire.output(0).set_names({f"{HEAD}{len(taken)}"})
        for reader in readers:
            reader.replace_source_output(wire.output(0))
        given.append(ov.op.Result(output))
        taken.append(wire)
    if not taken:
        return None, model
    own = [p for p in parameters if _read_by(p, inside, True)]
    for shared in [p for p in own if _read_by(p, inside, False)]:
        twin = ov.op.Parameter(shared.get_element_type(), shared.get_partial_shape())
        twin.output(0).set_names(shared.output(0).get_names())
        for reader in shared.output(0).get_target_inputs():
            if reader.get_node().get_name() not in inside:
                reader.replace_source_output(twin.output(0))
        taken.append(twin)
    rest = [p for p in parameters if p not in own]
    return ov.Model(given, own, "head"), ov.Model(results, [*rest, *taken], "body")


def _inside(model: Any, scalars: frozenset[str]) -> set[str]:
    """The names of the head's nodes, its inputs among them."""
    inside: set[str] = set()
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Parameter":
            if scalars.intersection(node.output(0).get_names()):
                inside.add(node.get_name())
            continue
        sources = [value.get_node() for value in node.input_values()]
        varying = [s.get_name() for s in sources if s.get_type_name() != "Constant"]
        if varying and inside.issuperset(varying) and _may_move(node):
            inside.add(node.get_name())
    return inside


def _may_move(node: Any) -> bool:
    if node.get_type_name() in OUTSIDE or not node.get_output_size():
        return False
    return all(
        output.get_partial_shape().is_static
        and output.get_element_type().get_type_name() in library.INTERFACE
        and math.prod(list(output.get_shape())[1:]) <= LARGEST
        for output in node.outputs()
    )


def _leaving(model: Any, inside: set[str]) -> Iterator[tuple[Any, list[Any]]]:
    """(output, its readers in the body) of what the head computes for it."""
    for node in model.get_ordered_ops():
        if node.get_name() not in inside or node.get_type_name() == "Parameter":
            continue
        for output in node.outputs():
            readers = [
                r for r in output.get_target_inputs() if r.get_node().get_name() not in inside
            ]
            if readers:
                yield output, readers


def _read_by(parameter: Any, inside: set[str], head: bool) -> bool:
    """Whether the head, or the body, reads a scalar's parameter."""
    return parameter.get_name() in inside and any(
        (reader.get_node().get_name() in inside) == head
        for reader in parameter.output(0).get_target_inputs()
    )
