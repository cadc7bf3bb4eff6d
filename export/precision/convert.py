"""Reduced precision as a pass over the float32 graph: what turns to 16 bits is measured.

The float32 graph runs on the parity data (8 times and a DDIM-20 run) once, for the largest value of
every tensor. Nodes stay float32 by what they are and by those values (``precision_nodes``); the
others turn (``precision_types``); the result is emulated in float32 on the same data. Where the
error is more than ``SHARE`` of the precision's bound, more nodes stay float32, in this order: all
but matrix products and convolutions, then those too, from both ends of the network inwards, an
eighth of them at a time.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx_ir as ir
import torch
from onnxscript.version_converter import convert_version

from revstep.engine.errors import ExportError, ParityError
from revstep.engine.message import Argument
from revstep.export.graph.check import check_loads
from revstep.export.parity.bounds import Bounds, finding
from revstep.export.precision.nodes import Kept, can_turn, keep, products
from revstep.export.precision.ranges import add_ranges
from revstep.export.precision.trial import Trial
from revstep.export.precision.types import emulate, reduce_types, save_graph
from revstep.export.progress import Stages

TYPES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
OPSETS = {ir.DataType.BFLOAT16: 22}  # the first that has bfloat16 in Conv
SHARE = 0.8  # of the bound: a runtime sums in another order
EIGHTHS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Reduced:
    """What became of a graph's nodes, and its error.

    Attributes:
        nodes: How many compute in 16 bits.
        kept: How many stayed float32, by reason.
        figures: Error and bound of one forward pass and of a DDIM-20 run, of the emulated graph.
    """

    nodes: int
    kept: dict[str, int]
    figures: dict[str, dict[str, float]]


def reduced_graphs(
    source: Path,
    trial: Trial,
    bounds: Mapping[str, Bounds],
    targets: Mapping[str, Path],
    stages: Stages,
    units: int,
) -> dict[str, Reduced]:
    """Writes the graph of each reduced precision, with as few float32 nodes as its bound allows.

    ``trial`` says what is measured. ``targets`` has the file of each precision's graph, which stays
    float32 at its inputs and outputs; a precision counts ``units`` of the progress.

    Raises:
        ExportError: The bound allows no product in 16 bits, or the graph is not sound.
        BackendError: ONNX Runtime is missing or refuses a graph.
    """
    if not targets:
        return {}
    made = {}
    with tempfile.TemporaryDirectory(prefix=".precision", dir=source.parent) as folder:
        passes = _Passes(source, trial, Path(folder), torch.get_num_threads())
        for precision, target in targets.items():
            stages.start(f"choosing nodes for {precision}")
            made[precision] = passes.reduce(target, precision, bounds[precision])
            stages.advance(f"choosing nodes for {precision}", units)
    return made


@dataclasses.dataclass(frozen=True)
class _Passes:
    """A float32 graph, what it does on the parity data, and the graphs made of it."""

    source: Path
    trial: Trial
    scratch: Path
    threads: int

    def reduce(self, target: Path, precision: str, bounds: Bounds) -> Reduced:
        """Writes ``target``; raises as ``reduced_graphs``."""
        low, found = TYPES[precision], ""
        for model, kept in self._choices(low):
            turned = reduce_types(model.graph, kept, low)
            remove_graph(target)
            save_graph(model, target)
            check_loads(
                target, f"the {precision} graph's types don't agree; export without {precision}"
            )
            try:
                emulated = self._emulated(target, low)
                figures = self.trial.figures(emulated, precision, bounds, self.threads)
            except ParityError as error:
                found = finding(error)
                continue
            found = f"the errors are {figures}"
            if all(f["error"] <= SHARE * f["bound"] for f in figures.values()):
                return Reduced(turned, dict(collections.Counter(kept.values())), figures)
        raise ExportError(
            f"no matrix product or convolution of this module can be in {precision}: with few of "
            f"them {found}; export without {precision}"
        )

    @functools.cached_property
    def _ranges(self) -> Mapping[str, float]:
        """The largest finite absolute value of every float32 tensor on the parity data."""
        model = _loaded(self.source)
        names = add_ranges(model.graph)
        path = self.scratch / "ranges.onnx"
        save_graph(model, path)
        found = self.trial.ranges(path, names, self.threads)
        remove_graph(path)
        return found

    def _choices(self, low: ir.DataType) -> Iterator[tuple[ir.Model, Kept]]:
        """A fresh graph and the nodes that stay float32, more of them each time."""
        for level in range(EIGHTHS + 1):
            model = _loaded(self.source, OPSETS.get(low, 0))
            kept = keep(model.graph, self._ranges, low, self.trial.states)
            heavy = products(model.graph, kept)
            if level:
                ends = sorted(range(len(heavy)), key=lambda i: min(i, len(heavy) - 1 - i))
                wide = {heavy[i] for i in ends[: -(-len(heavy) * (level - 1) // EIGHTHS)]}
                left = set(heavy) - wide
                if not left:
                    return
                kept |= {n: "accuracy" for n in can_turn(model.graph, kept, low) if n not in left}
            yield model, kept

    def _emulated(self, target: Path, low: ir.DataType) -> Path:
        model = ir.load(target)
        emulate(model.graph, low)
        path = self.scratch / "emulated.onnx"
        remove_graph(path)
        save_graph(model, path)
        return path


def _loaded(path: Path, opset: int = 0) -> ir.Model:
    """A graph with the types of all values, of that opset or a later one."""
    model = ir.load(path)
    if model.graph.opset_imports[""] < opset:
        try:
            convert_version(model, opset)
        except Exception as error:  # the converter passes on whatever its rules raise
            raise ExportError(
                f"the graph can't be raised to opset {opset}, which bf16 needs: {error}; "
                "export it with ",
                *(Argument("opset", opset), ", or without bf16"),
            ) from error
    if any(v.dtype is None for node in model.graph for v in node.outputs):
        from onnx_ir.passes.common import ShapeInferencePass

        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)
    return model


def remove_graph(path: Path) -> None:
    """Removes a graph's file and that of its weights, if there are such."""
    for file in (path, path.with_name(f"{path.name}.data")):
        file.unlink(missing_ok=True)
