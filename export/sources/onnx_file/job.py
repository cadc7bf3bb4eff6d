"""``Job``: what a bundle of an ONNX file is made of, step by step."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.backends.protocol import Denoiser
from revstep.engine.bundle.layout import PARITY
from revstep.engine.errors import BackendError, ExportError, ParityError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.graph.check import check_loads
from revstep.export.graph.index_limits import limited
from revstep.export.parity.bounds import BOUNDS, Bounds, finding, wider
from revstep.export.parity.check import check_forward
from revstep.export.parity.runs import STEPS
from revstep.export.parity.vectors import vectors_of
from revstep.export.precision.convert import reduced_graphs, remove_graph
from revstep.export.precision.trial import DenoiserTrial
from revstep.export.progress import Stages
from revstep.export.sources.onnx_file.adapt import adapted, save
from revstep.export.sources.onnx_file.checks import check_rows, takes
from revstep.export.sources.onnx_file.original import OriginalDenoiser
from revstep.export.sources.onnx_file.ports import OnnxFile
from revstep.export.sources.onnx_file.wiring import Wiring
from revstep.export.sources.parts import GRAPH_UNITS

CHECKING, ADAPTING = "checking the file", "adapting the graph"
OTHER_FLOATS = ("float16", "bfloat16", "float64")

logger = logging.getLogger(__name__)


def count_units(precisions: tuple[str, ...]) -> int:
    """Units of an export's progress."""
    return 3 + STEPS + GRAPH_UNITS * (1 + sum(p != "fp32" for p in precisions))


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """What is to be made of a file, in the directory ``work``."""

    file: OnnxFile
    spec: DenoiserSpec
    wiring: Wiring
    precisions: tuple[str, ...]
    opset: int | None
    work: Path
    stages: Stages

    def make(self) -> dict[str, Any]:
        """Writes every file of the bundle but its manifest; gives the manifest's fields."""
        self.stages.start(CHECKING)
        original = self._original()
        graph, limits = self._graph("fp32"), self._limits()
        self.stages.start(ADAPTING)
        if original is None:
            opset, adapted = self._adapt(graph, runs=False)
            check_rows(adapted, f"{self.file.path} in float32")
            parity = self._reference(adapted)
        else:
            parity = self._reference(original)
            opset, adapted = self._held(graph, parity, limits["fp32"])
        spec = limited(adapted.spec, graph, functools.partial(takes, adapted))
        self.stages.advance(ADAPTING, GRAPH_UNITS)
        np.savez(self.work / PARITY, **parity)
        targets = {p: self._graph(p) for p in self.precisions if p != "fp32"}
        reduced = reduced_graphs(
            graph, DenoiserTrial(spec, parity), limits, targets, self.stages, GRAPH_UNITS
        )
        if "fp32" not in self.precisions:
            remove_graph(graph)
        own = "float32" if original is None else self.wiring.feeds[0].dtype
        return {
            "opset": opset,
            "spec": spec.to_dict(),
            "graphs": {p: self._graph(p).name for p in self.precisions},
            "parity": {
                "bounds": {p: dataclasses.asdict(limits[p]) for p in self.precisions},
                "figures": {f"graph.{p}": r.figures for p, r in reduced.items()},
                "reference": {"dtype": own, "device": "cpu", "runtime": "onnxruntime"},
            },
            "precision": {p: {"nodes": r.nodes, "fp32": r.kept} for p, r in reduced.items()},
        }

    def _graph(self, precision: str) -> Path:
        return self.work / f"denoiser.{precision}.onnx"

    def _original(self) -> Denoiser | None:
        """The file as a network, checked; None where ONNX Runtime can't run its types."""
        what = str(self.file.path)
        try:
            network = OriginalDenoiser(
                self.file.path, self.spec, self.wiring, torch.get_num_threads()
            )
        except BackendError as error:
            others = sorted(self.file.dtypes.intersection(OTHER_FLOATS))
            if not others:
                raise ExportError(*error.args) from error
            logger.warning(
                "ONNX Runtime can't run %s in its own %s, so the bundle is held to its float32 "
                "form. It said: %s",
                what, " and ".join(others), error,
            )  # fmt: skip
            return None
        check_rows(network, what)
        self.stages.advance(CHECKING)
        return network

    def _held(self, graph: Path, parity: Mapping[str, Any], limit: Bounds) -> tuple[int, Denoiser]:
        """Writes the float32 graph, of any rows where it can be; raises where it isn't the file.

        A batch that the file fixes is freed, and one time for all rows is spread over them, if
        every row then gets what the file gives it.
        """
        wanted, freed = self.wiring.wanted, self.wiring.wider()
        if wanted is not None and freed is not None:
            spec = dataclasses.replace(self.spec, batch=wanted)
            job = dataclasses.replace(self, spec=spec, wiring=freed)
            try:
                opset, adapted = job._adapt(graph, runs=True)
                check_rows(adapted, f"{self.file.path} with its rows freed")
                self._compare(adapted, parity, limit)
            except ExportError as error:
                remove_graph(graph)
                taken = f"{self.file.path} takes {self.wiring.batch} rows a call"
                why = f"{self.wiring.why_fixed}, and its graph holds for no other number"
                if self.wiring.must:
                    raise ExportError(
                        f"{taken} ({why}), and the spec says batch = {list(wanted)}: leave batch "
                        "out, or write the file with a free batch"
                    ) from error
                logger.warning("%s, and so does the bundle: %s", taken, why)
                logger.debug("freed, it said: %s", error)
            else:
                return opset, adapted
        opset, adapted = self._adapt(graph, runs=True)
        self._compare(adapted, parity, limit)
        return opset, adapted

    def _adapt(self, graph: Path, *, runs: bool) -> tuple[int, Denoiser]:
        """Writes the float32 graph; its opset, and it as a network.

        float64 inside stays where the file ``runs`` and takes a float32 state.
        """
        whole = not runs or self.wiring.feeds[0].dtype == "float64"
        dtypes = (*self.file.narrow, *(["float64"] if whole else []))
        model = adapted(self.file, self.spec, self.wiring, opset=self.opset, dtypes=dtypes)
        save(model, graph)
        check_loads(graph, f"{self.file.path} can't be adapted to revstep's inputs")
        try:
            network = OrtDenoiser(graph, self.spec, threads=torch.get_num_threads())
        except BackendError as error:
            raise ExportError(
                f"ONNX Runtime can't run {self.file.path} as it was adapted: {error}"
            ) from error
        return model.graph.opset_imports[""], network

    def _limits(self) -> dict[str, Bounds]:
        """The bounds of every precision; 16 bits in the file widen them."""
        halves = {"float16": "fp16", "bfloat16": "bf16"}
        limits = {p: BOUNDS[p] for p in ("fp32", *self.precisions)}
        for dtype in self.file.narrow:
            limits = {p: wider(limit, BOUNDS[halves[dtype]]) for p, limit in limits.items()}
        return limits

    def _reference(self, network: Denoiser) -> dict[str, Any]:
        what = str(self.file.path)
        return vectors_of(network, self.stages, what=what, runs_in="ONNX Runtime")

    def _compare(self, network: Denoiser, parity: Mapping[str, Any], limit: Bounds) -> None:
        try:
            check_forward(network, parity, limit)
        except ParityError as error:
            raise ExportError(
                f"the adapted graph does not do what {self.file.path} does; nothing was exported: "
                f"{finding(error)}"
            ) from error
