"""The reference of a bundle: the module as it was given, and the float32 copy held to it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from revstep.engine.backends.module.cast import (
    cast_dtype,
    cast_weights,
    copy_module,
    shared_weights,
    weight_dtype,
)
from revstep.engine.errors import ExportError, ParityError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.module.examples import example_inputs
from revstep.export.module.form import DtypeWatch, Form, find_form, in_eval_mode
from revstep.export.module.run import GivenDenoiser, run_decoder, run_module
from revstep.export.module.unsupported import no_autocast
from revstep.export.parity.bounds import BOUNDS, Bounds, finding, relative_error, wider
from revstep.export.parity.check import check_forward
from revstep.export.parity.vectors import decoder_images, make_parity
from revstep.export.progress import Stages

HALVES = {torch.float16: "fp16", torch.bfloat16: "bf16"}
MAX_NAMED = 3

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Reference:
    """What a bundle's graphs are compared with.

    Attributes:
        parity: The arrays of ``make_parity``.
        limits: The bounds of every precision; weights of 16 bits widen them, for the module's own
            rounding limits the agreement.
        inner: The fp32 bounds, wider where the module computes any part in 16 bits.
        run_in: For the manifest: the dtype and device that the module was run in.
        figures: Of the float32 copy.
    """

    parity: dict[str, NDArray[Any]]
    limits: dict[str, Bounds]
    inner: Bounds
    run_in: dict[str, str]
    figures: dict[str, dict[str, float]]


def float32_copy(module: torch.nn.Module) -> torch.nn.Module:
    """A copy on the CPU in float32 and eval mode, without gradients; what a cast leaves stays.

    It shares the memory of large float32 weights, and is to be read alone.

    Raises:
        ExportError: The module can't be copied.
    """
    try:
        copy = copy_module(module, shared_weights(module, torch.float32, "cpu"))
    except Exception as error:  # whatever an attribute of the module says
        raise ExportError(
            f"the module can't be copied, and its graph is made of a float32 copy: "
            f"{type(error).__name__}: {error}. Delete the attribute that it names before the export"
        ) from error
    return cast_weights(copy, torch.float32, "cpu").eval().requires_grad_(False)


def make_reference(
    module: torch.nn.Module,
    copy: torch.nn.Module,
    spec: DenoiserSpec,
    precisions: Sequence[str],
    stages: Stages | None = None,
) -> Reference:
    """Runs the module as it was given, in the form that it takes, and compares the copy with it.

    Its own dtypes and device are kept; where a part of it is in train mode, it is a copy in eval
    mode. A float16 module on a CPU, which is slow at it, has its DDIM-20 run made by the copy. One
    that takes no form at all (half weights after a float32 time embedding, say) is warned of, and
    the copy is the reference.

    Raises:
        ExportError: It gives NaN, enters autocast, or the copy differs from it beyond the bound.
    """
    given = in_eval_mode(module)
    inputs = example_inputs(spec, max(2, spec.batch[0]))
    form = _form(given, lambda form: run_module(given, inputs, spec, form), "the module")
    if form is None:
        given, form = copy, Form()
    own = bounds_of({p.dtype for p in given.parameters()})
    with DtypeWatch() as watch:
        run_module(given, inputs, spec, form)
    limits = {p: wider(BOUNDS[p], own) for p in ("fp32", *precisions)}
    run_in = {"dtype": _name(weight_dtype(given)), "device": str(form.device)}
    runner = None
    if form.device.type == "cpu" and weight_dtype(given) == torch.float16:
        runner, run_in["ddim20"] = GivenDenoiser(copy, spec, Form()), "float32"
    parity = make_parity(given, spec, stages, form=form, runner=runner)
    try:
        figures = check_forward(GivenDenoiser(copy, spec, Form()), parity, limits["fp32"])
    except ParityError as error:
        raise ExportError(_differs("the module", module, finding(error))) from error
    inner = wider(limits["fp32"], bounds_of(watch.seen))
    return Reference(parity, limits, inner, run_in, figures)


def make_decoder_reference(
    module: torch.nn.Module, copy: torch.nn.Module, spec: DenoiserSpec, final: NDArray[np.float32]
) -> tuple[NDArray[np.float32], Bounds]:
    """The given decoder's images of final states (n, *shape), and the bounds of their parity.

    Raises:
        ExportError: NaN, or the float32 copy differs from it beyond the bound.
    """
    given = in_eval_mode(module)
    form = _form(given, lambda form: run_decoder(given, final[:1], spec, form), "the decoder")
    if form is None:
        given, form = copy, Form()
    images = decoder_images(given, spec, final, form)
    limit = bounds_of({p.dtype for p in given.parameters()})
    error = relative_error(decoder_images(copy, spec, final, Form()), images)
    if not error <= limit.forward:
        found = f"by {error:.3g} of its RMS, the bound is {limit.forward:g}"
        raise ExportError(_differs("the decoder", module, found))
    return images, limit


def decoder_rounding(
    copy: torch.nn.Module, spec: DenoiserSpec, final: NDArray[np.float32]
) -> float:
    """How far the float32 decoder is from itself in float64, on the first final state."""
    wide = copy_module(copy).double()
    exact = decoder_images(wide, spec, final[:1], Form(dtype=torch.float64))
    return relative_error(decoder_images(copy, spec, final[:1], Form()), exact)


def _form(module: torch.nn.Module, run: Callable[[Form], object], what: str) -> Form | None:
    """The form that a module takes; None, with a warning, where it takes none."""
    device = next((t.device for t in module.parameters()), torch.device("cpu"))
    with no_autocast(device):
        try:
            return find_form(module, run)
        except ExportError as error:
            logger.warning(
                "%s can't be run as it was given (weights of %s, float32 time), so the bundle is "
                "held to its float32 copy; export %s.float() to say so. It said: %s",
                what, _name(weight_dtype(module)), what.removeprefix("the "), error,
            )  # fmt: skip
    return None


def bounds_of(dtypes: set[torch.dtype]) -> Bounds:
    """The bounds of the narrowest of some dtypes."""
    found = BOUNDS["fp32"]
    for dtype in dtypes:
        found = wider(found, BOUNDS[HALVES.get(dtype, "fp32")])
    return found


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _differs(what: str, module: torch.nn.Module, found: str) -> str:
    causes = "does its forward ask for a dtype or device, or keep what it computed before?"
    if changed := _changed(module):
        causes = (
            f"float32 changes {', '.join(changed)}: keep tables in float32 or complex64, or in "
            "float64 buffers of a module whose weights are float32"
        )
    return (
        f"{what}'s float32 copy on the CPU, which the graphs are made of, does not do what {what} "
        f"does as it was given ({found}); nothing was exported: {causes}"
    )


def _changed(module: torch.nn.Module) -> list[str]:
    """The first tensors whose values a cast to float32 changes."""
    weights = weight_dtype(module)
    tensors = [*module.named_buffers(), *module.named_parameters()]
    changed = [
        (name, tensor)
        for name, tensor in tensors
        if cast_dtype(tensor, torch.float32, weights) != tensor.dtype
        and not torch.equal(tensor.to(torch.float32).to(tensor.dtype), tensor)
    ]
    more = [f"and {len(changed) - MAX_NAMED} more"] if len(changed) > MAX_NAMED else []
    return [f"{name!r} ({_name(t.dtype)})" for name, t in changed[:MAX_NAMED]] + more
