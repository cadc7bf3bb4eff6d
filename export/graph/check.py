"""That a written graph loads and is the module: ONNX's full check, and one run of it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from numpy.typing import NDArray

from revstep.engine.errors import BackendError, ExportError, ParityError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.module.line import line_of_node
from revstep.export.module.part import Part
from revstep.export.parity.bounds import Bounds, finding
from revstep.export.parity.check import check_decoder_parity, check_forward
from revstep.export.parity.parts import check_part_parity

if TYPE_CHECKING:
    from revstep.engine.backends.part import PartGraph
    from revstep.engine.parts.network import PartNetwork

WHO = "the bundle's latent decoder"
ROUNDINGS = 4.0  # of the module's own: a runtime rounds too
UNLOADABLE = "the exporter wrote a graph that no runtime loads; nothing was exported"

logger = logging.getLogger(__name__)


def check_loads(path: Path, failure: str = UNLOADABLE) -> None:
    """Runs ONNX's checker with shape and type inference on a file, of any size.

    Raises:
        ExportError: ``failure``, what it says, and the module's line.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"{failure}. ONNX says: {joined(error)}{line_of_node(path, str(error))}"
        ) from error


def check_runs(
    path: Path,
    spec: DenoiserSpec,
    parity: Mapping[str, NDArray[Any]],
    limit: Bounds,
    inner: Bounds | None = None,
) -> Bounds:
    """Loads an fp32 graph in ONNX Runtime, if that is installed, and compares it with the module.

    ``inner`` are the bounds of a module that computes a part in 16 bits, which a runtime may round
    otherwise; taken, with a warning, where ``limit`` does not hold.

    Returns:
        The bounds that hold.

    Raises:
        ExportError: It can't be loaded or run, or differs by more than the bound.
    """
    with _running(path) as threads:
        if threads is not None:
            from revstep.engine.backends.onnx_cpu import OrtDenoiser

            denoiser = OrtDenoiser(path, spec, threads=threads)
            try:
                check_forward(denoiser, parity, limit)
            except ParityError:
                if inner is None or inner == limit:
                    raise
                check_forward(denoiser, parity, inner)
                logger.warning(
                    "the module computes a part in 16 bits, which rounds by more than the bound "
                    "%g of one forward pass; its bundle's bound is %g",
                    limit.forward, inner.forward,
                )  # fmt: skip
                return inner
    return limit


def check_decoder_runs(
    path: Path,
    spec: DenoiserSpec,
    parity: Mapping[str, NDArray[Any]],
    limit: Bounds,
    rounding: Callable[[], float],
) -> Bounds:
    """``check_runs`` of the decoder's graph.

    ``rounding`` gives how far the module's own float32 is from float64; it is asked where the bound
    doesn't hold, and widens it.

    Returns:
        The bounds that hold.

    Raises:
        ExportError: As ``check_runs``.
    """
    assert spec.decoder is not None
    with _running(path) as threads:
        if threads is not None:
            from revstep.engine.backends.onnx_part import OrtPart
            from revstep.engine.parts.decoder import LatentDecoder

            decode = LatentDecoder(OrtPart(path, WHO, threads=threads), path, spec.decoder)
            return _holding(
                lambda bounds: check_decoder_parity(decode, parity, bounds), limit, rounding,
                "the decoder",
            )  # fmt: skip
    return limit


def check_part_runs(
    path: Path,
    part: Part,
    parity: Mapping[str, NDArray[Any]],
    limit: Bounds,
    rounding: Callable[[], float],
) -> Bounds:
    """``check_decoder_runs`` of the graph of another part."""
    with _running(path) as threads:
        if threads is not None:
            run = open_part(path, part, threads)
            return _holding(
                lambda bounds: check_part_parity(run, part, parity, bounds), limit, rounding,
                part.what,
            )  # fmt: skip
    return limit


def _holding(
    check: Callable[[Bounds], object], limit: Bounds, rounding: Callable[[], float], what: str
) -> Bounds:
    """The bounds that hold: wider ones where float32 itself rounds by about as much.

    A norm over a picture of 512 x 512 sums a million values, in another order in every runtime.

    Raises:
        ParityError: None of them hold.
    """
    try:
        check(limit)
    except ParityError:
        own = rounding()
        wide = dataclasses.replace(limit, forward=max(limit.forward, ROUNDINGS * own))
        if wide == limit:
            raise
        check(wide)
        logger.warning(
            "%s's own float32 is %.1g of its RMS from float64; its bundle's bound is %.1g",
            what, own, wide.forward,
        )  # fmt: skip
        return wide
    return limit


def open_part(path: Path, part: Part, threads: int | None = None) -> PartNetwork:
    """A part's graph in ONNX Runtime on the CPU; raises as ``PartNetwork``."""
    from revstep.engine.backends.onnx_part import OrtPart

    return part_network(OrtPart(path, part.what, threads=threads), path, part)


def part_network(opened: PartGraph, path: Path, part: Part) -> PartNetwork:
    """A part's graph, opened in a runtime; raises as ``PartNetwork``."""
    from revstep.engine.parts.network import PartNetwork

    inputs = [(c.name, c.interface, c.shape) for c in part.inputs]
    return PartNetwork(opened, path, inputs, part.outputs)


@contextlib.contextmanager
def _running(path: Path) -> Iterator[int | None]:
    """Gives the threads of a session, None without ONNX Runtime; names what fails meanwhile."""
    import torch

    try:
        yield torch.get_num_threads() if find_spec("onnxruntime") is not None else None
    except ParityError as error:
        raise ExportError(
            f"the graph does not do what the module does; nothing was exported: {finding(error)}"
        ) from error
    except Exception as error:  # ONNX Runtime's own errors share no base
        said = error.__cause__ if isinstance(error, BackendError) and error.__cause__ else error
        raise ExportError(
            "ONNX Runtime can't run the graph, so nothing was exported. It says: "
            f"{joined(said)}{line_of_node(path, str(said))}"
        ) from error


def joined(error: object) -> str:
    """An error's text in one line, of any length: a cut hides the reason."""
    return " ".join(str(error).split())
