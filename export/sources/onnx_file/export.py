"""``export_onnx``: any denoiser in an ONNX file, as a bundle."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from revstep.engine.bundle.layout import PARITY, file_digest
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.writer import seal, writing_bundle
from revstep.engine.errors import ArgumentError, BackendError, ExportError, ParityError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.progress import Progress, Stages
from revstep.export.sources.module import MISSING, check_arguments, few_threads
from revstep.export.turns import TURNS

if TYPE_CHECKING:
    from revstep.engine.backends.protocol import Denoiser
    from revstep.export.parity.bounds import Bounds
    from revstep.export.sources.onnx_file.names import Names
    from revstep.export.sources.onnx_file.ports import OnnxFile
    from revstep.export.sources.onnx_file.wiring import Wiring

NO_RUNTIME = (
    "an ONNX file's own output is what its bundle is held to, and ONNX Runtime, which gives it, is "
    "not installed; pip install 'revstep[cpu]'"
)
CHECKING, ADAPTING = "checking the file", "adapting the graph"
OTHER_FLOATS = ("float16", "bfloat16", "float64")

logger = logging.getLogger(__name__)


def export_onnx(
    file: str | Path,
    spec: DenoiserSpec | Mapping[str, Any] | str | Path,
    path: str | Path,
    *,
    inputs: Mapping[str, Any] | None = None,
    constants: Mapping[str, Any] | None = None,
    output: str | Mapping[str, Any] | None = None,
    precisions: Sequence[str] = ("fp32",),
    opset: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Exports a denoiser in an ONNX file, and its own outputs as the reference, as a bundle.

    The file's graph is adapted by renames, casts and reshapes at its inputs and its output; floats
    of 16 bits become float32, which the precisions reduce again, and the parity bounds are then
    those of 16 bits. Opsets below 18 are raised.

    Where a file fixes its batch, or its time is one number for all rows, which may be at different
    times, the graph is changed to take any number of rows, and a time of each. Where that doesn't
    give every row what the file gives it, the bundle's calls have the file's rows.

    Args:
        file: The ONNX file, with its external data beside it.
        spec: A TOML file of the spec's fields and the names below (``revstep inspect --write``
            makes one); the same as a mapping; or a spec, whose names are then the file's, or the
            keys of ``inputs``.
        path: The bundle's directory; it appears when all is done, or not at all.
        inputs: With a ``DenoiserSpec``: ``state``, ``time`` or a condition's name -> the file's
            name of it, or a mapping: ``{"name": "t", "scale": -1.0, "shift": 1.0}`` feeds a time
            that is 1 at the data, ``{"name": "x", "channels_last": True}`` is a state (B, H, W, C)
            for the spec's (C, H, W).
        constants: With a ``DenoiserSpec``: the file's inputs that always have one value.
        output: The file's output that is the prediction, where there are several, or a mapping:
            ``{"name": "v", "scale": -1.0}``.
        precisions: Of ``fp32``, ``fp16``, ``bf16``; one graph each.
        opset: The least ONNX opset of the graph, 18 to 22; None: the file's own, or 18.
        overwrite: Replace an existing bundle.
        progress: Called with (description, done, total).

    Raises:
        ValueError: An unknown precision, opset or field, or a value that is not allowed.
        TypeError: A value of another type.
        ExportError: The file can't be read or run, the spec contradicts it, or writing failed; the
            target is as it was.
    """
    for name in ("torch", "onnx", "onnxscript"):
        if find_spec(name) is None:
            raise ExportError(MISSING.format(name=name))
    if find_spec("onnxruntime") is None:
        raise ExportError(NO_RUNTIME)
    from revstep.export.sources.onnx_file.ports import read_file

    precisions = check_arguments(path, precisions, opset or 18, overwrite)
    found = read_file(file)
    whole, names, wiring = _fitted(found, spec, inputs, constants, output)
    stages = Stages(progress, _units(precisions))
    with TURNS, few_threads(found.parameters), writing_bundle(path, overwrite=overwrite) as work:
        job = _Job(found, whole, wiring, precisions, opset, work, stages)
        made = job.make()
        stages.start("writing the bundle")
        seal(work, _body(found, names, made))
    bundle = Bundle.open(path)
    stages.advance("writing the bundle")
    return bundle


def _fitted(
    file: OnnxFile,
    spec: DenoiserSpec | Mapping[str, Any] | str | Path,
    inputs: object,
    constants: object,
    output: object,
) -> tuple[DenoiserSpec, Names, Wiring]:
    """The whole spec, the names, and the wiring."""
    from revstep.export.sources.onnx_file.fit import fit
    from revstep.export.sources.onnx_file.names import Names
    from revstep.export.sources.onnx_file.spec_file import read_toml

    if isinstance(spec, DenoiserSpec):
        return fit(file, spec, Names.read(inputs, constants, output))
    if inputs or constants:
        raise ArgumentError("inputs and constants go with a DenoiserSpec; TOML has its own tables")
    where = f"{spec}: " if isinstance(spec, str | Path) else ""
    values = read_toml(spec) if isinstance(spec, str | Path) else dict(spec)
    if output is not None:
        own = values.get("output")
        values["output"] = {**(own if isinstance(own, dict) else {}), **_table(output)}
    try:
        return fit(file, values)
    except ExportError:
        raise
    except (ValueError, TypeError) as error:
        raise ExportError(where, *error.args) from error


def _table(output: object) -> dict[str, Any]:
    return dict(output) if isinstance(output, Mapping) else {"name": output}


def _units(precisions: tuple[str, ...]) -> int:
    from revstep.export.parity.runs import STEPS
    from revstep.export.sources.parts import GRAPH_UNITS

    return 3 + STEPS + GRAPH_UNITS * (1 + sum(p != "fp32" for p in precisions))


def _body(file: OnnxFile, names: Names, made: dict[str, Any]) -> dict[str, Any]:
    """The manifest's own fields."""
    from revstep.export.provenance import provenance, revstep_version

    source = {"kind": "onnx", "name": file.path.name, "sha256": file_digest(file.path)}
    if file.producer:
        source["producer"] = file.producer
    origin = provenance(file.parameters, opset=made.pop("opset"), source=source)
    origin["names"] = names.to_dict()
    if nodes := made.pop("precision"):
        origin["precision"] = nodes
    return {"revstep": revstep_version(), "provenance": origin, **made, "engines": []}


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
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
        from revstep.export.graph.index_limits import limited
        from revstep.export.precision.convert import reduced_graphs, remove_graph
        from revstep.export.precision.trial import DenoiserTrial
        from revstep.export.sources.onnx_file.checks import check_rows, takes
        from revstep.export.sources.parts import GRAPH_UNITS

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
        from revstep.export.sources.onnx_file.checks import check_rows
        from revstep.export.sources.onnx_file.original import OriginalDenoiser

        what = str(self.file.path)
        try:
            network = OriginalDenoiser(self.file.path, self.spec, self.wiring, _threads())
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
        from revstep.export.precision.convert import remove_graph
        from revstep.export.sources.onnx_file.checks import check_rows

        wanted, wider = self.wiring.wanted, self.wiring.wider()
        if wanted is not None and wider is not None:
            spec = dataclasses.replace(self.spec, batch=wanted)
            job = dataclasses.replace(self, spec=spec, wiring=wider)
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
        from revstep.engine.backends.onnx_cpu import OrtDenoiser
        from revstep.export.graph.check import check_loads
        from revstep.export.sources.onnx_file.adapt import adapted, save

        whole = not runs or self.wiring.feeds[0].dtype == "float64"
        dtypes = (*self.file.narrow, *(["float64"] if whole else []))
        model = adapted(self.file, self.spec, self.wiring, opset=self.opset, dtypes=dtypes)
        save(model, graph)
        check_loads(graph, f"{self.file.path} can't be adapted to revstep's inputs")
        try:
            network = OrtDenoiser(graph, self.spec, threads=_threads())
        except BackendError as error:
            raise ExportError(
                f"ONNX Runtime can't run {self.file.path} as it was adapted: {error}"
            ) from error
        return model.graph.opset_imports[""], network

    def _limits(self) -> dict[str, Bounds]:
        """The bounds of every precision; 16 bits in the file widen them."""
        from revstep.export.parity.bounds import BOUNDS, wider

        halves = {"float16": "fp16", "bfloat16": "bf16"}
        limits = {p: BOUNDS[p] for p in ("fp32", *self.precisions)}
        for dtype in self.file.narrow:
            limits = {p: wider(limit, BOUNDS[halves[dtype]]) for p, limit in limits.items()}
        return limits

    def _reference(self, network: Denoiser) -> dict[str, Any]:
        from revstep.export.parity.vectors import vectors_of

        what = str(self.file.path)
        return vectors_of(network, self.stages, what=what, runs_in="ONNX Runtime")

    def _compare(self, network: Denoiser, parity: Mapping[str, Any], limit: Bounds) -> None:
        from revstep.export.parity.bounds import finding
        from revstep.export.parity.check import check_forward

        try:
            check_forward(network, parity, limit)
        except ParityError as error:
            raise ExportError(
                f"the adapted graph does not do what {self.file.path} does; nothing was exported: "
                f"{finding(error)}"
            ) from error


def _threads() -> int:
    import torch

    return torch.get_num_threads()
