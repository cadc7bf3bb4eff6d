"""What exporters note in a graph for their own debugging, which a bundle doesn't pass on.

torch.onnx writes into every node the whole Python stack that made it, with the paths of the machine
and the source of the module (2.13: 19 % of the file of a small U-Net). Of all that a node keeps the
line of the module, for errors that name it.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import onnx_ir as ir

from revstep.export.module.line import CALL, FRAME, LINE, STACK, short_line

KEYS = ("namespace",)
PREFIXES = ("pkg.torch.", "pkg.onnxscript.", "pkg.onnx_ir.")


def forget_exporter(model: ir.Model, *, here: bool) -> None:
    """Drops the notes of torch.onnx and onnxscript, in place, weights unread; others stay.

    ``here`` says that this process exported the model, and not whoever wrote a file.
    """
    _drop(model.metadata_props)
    wholes: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for whole in wholes:
        for graph in (whole, *whole.subgraphs()):
            _forget_graph(graph, here=here)


def _forget_graph(graph: ir.Graph | ir.Function, *, here: bool) -> None:
    _drop(graph.metadata_props)
    weights = [] if isinstance(graph, ir.Function) else graph.initializers.values()
    for value in (*graph.inputs, *graph.outputs, *weights):
        _drop(value.metadata_props)
        if value.const_value is not None:
            _drop(value.const_value.metadata_props)
    for node in graph:
        _forget_node(node, here=here)


def _forget_node(node: ir.Node, *, here: bool) -> None:
    stack = node.metadata_props.get(STACK, "")
    if node.doc_string and (FRAME.search(node.doc_string) or CALL.search(node.doc_string)):
        stack, node.doc_string = stack or node.doc_string, None  # of torch.onnx without dynamo
    _drop(node.metadata_props)
    if line := short_line(stack, here=here):
        node.metadata_props[LINE] = line
    for value in node.outputs:
        _drop(value.metadata_props)


def _drop(notes: MutableMapping[str, str]) -> None:
    for key in [k for k in notes if k in KEYS or k.startswith(PREFIXES)]:
        del notes[key]
