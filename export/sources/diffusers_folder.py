"""``export_diffusers``: a diffusers ``UNet2DModel`` folder with its scheduler, as a bundle."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition, DenoiserSpec, TimeInput
from revstep.export.progress import Progress
from revstep.export.sources.diffusers_schedule import Sampling, read_scheduler
from revstep.export.sources.module import check_arguments, export_module

if TYPE_CHECKING:
    import torch


WEIGHTS = "diffusion_pytorch_model"
FACTORY = "write a factory for it: revstep export package.module:factory"

logger = logging.getLogger(__name__)


def export_diffusers(
    folder: str | Path,
    path: str | Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    opset: int = 20,
    null_class: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Exports a diffusers folder: ``load_diffusers``, then ``export_module``.

    Args:
        folder: ``unet/`` and ``scheduler/``, or ``config.json`` and ``scheduler_config.json``.
        path: The bundle's directory.
        precisions: Of ``fp32``, ``fp16``, ``bf16``.
        opset: ONNX opset.
        null_class: The class label that means "no condition", for classifier-free guidance; the
            folder can't say, so None exports without guidance.
        overwrite: Replace an existing bundle.
        progress: Called with (description, done, total).

    Raises:
        ValueError: ``null_class`` out of range; and as ``export_module``.
        ExportError: As ``load_diffusers`` and ``export_module``.
    """
    check_arguments(path, precisions, opset, overwrite)
    if progress is not None:
        progress("loading the diffusers folder", 0, 1)
    module, spec, sampling = _loaded(folder, null_class)
    source = {"kind": "diffusers", "name": Path(folder).resolve().name}
    if sampling.sampler is not None:
        source["sampler"] = repr(sampling.sampler)
    return export_module(
        module, spec, path, precisions=precisions, opset=opset, overwrite=overwrite,
        progress=progress, source=source,
    )  # fmt: skip


def load_diffusers(
    folder: str | Path, *, null_class: int | None = None
) -> tuple[torch.nn.Module, DenoiserSpec]:
    """The (module, spec) of a diffusers ``UNet2DModel`` folder with its scheduler config.

    fp16 weights (``*.fp16.safetensors``) are found where there are no full ones. Pickled weights
    are refused. The scheduler's own sampler is ``read_scheduler(config).sampler``.

    Raises:
        ValueError: ``null_class`` out of range, or for a model without classes.
        ExportError: Files are missing, or the folder says something that a spec can't carry.
    """
    module, spec, _ = _loaded(folder, null_class)
    return module, spec


def _loaded(
    folder: str | Path, null_class: int | None
) -> tuple[torch.nn.Module, DenoiserSpec, Sampling]:
    folder = Path(folder).expanduser()
    unet, scheduler = _find(folder)
    config = read_config(unet / "config.json")
    sampling = read_scheduler(read_config(scheduler))
    spec = _spec(unet / "config.json", config, sampling, null_class)
    logger.info('the scheduler is sampler=%r with compat="diffusers"', sampling.sampler)
    return _load(unet, config), spec, sampling


def read_config(path: Path) -> dict[str, Any]:
    """A diffusers config file.

    Raises:
        ExportError: It is missing or no JSON object.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ExportError(
            f"{path} is missing; a diffusers folder has unet/config.json and "
            "scheduler/scheduler_config.json (or both files in the folder itself)"
        ) from None
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ExportError(f"{path} holds {type(values).__name__}, expected a JSON object")
    return values


def _find(folder: Path) -> tuple[Path, Path]:
    """(the network's folder, the scheduler's config)."""
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise ExportError(f"{folder} {found}; give a diffusers folder")
    for part in ("vae", "vqvae", "text_encoder"):
        if (folder / part).is_dir():
            raise ExportError(
                f"{folder} has a {part}/, which this import does not carry; {FACTORY} "
                "(it may return a decoder, too)"
            )
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    places = [
        folder / "scheduler" / "scheduler_config.json",
        folder / "scheduler_config.json",
        folder.parent / "scheduler" / "scheduler_config.json",
    ]
    found_at = [p for p in places if p.is_file()]
    return unet, (found_at or places)[0]


def _spec(
    where: Path, config: dict[str, Any], sampling: Sampling, null_class: int | None
) -> DenoiserSpec:
    import inspect

    import diffusers

    name = config.get("_class_name")
    if name != "UNet2DModel":
        raise ExportError(f"{where} is of class {name!r}, expected 'UNet2DModel'; {FACTORY}")
    parameters = inspect.signature(diffusers.UNet2DModel.__init__).parameters
    fields = {k: v for k, v in config.items() if not k.startswith("_")}
    if unknown := sorted(set(fields) - set(parameters)):
        raise ExportError(
            f"{where} has the field {', '.join(map(repr, unknown))}, which this diffusers "
            f"({diffusers.__version__}) does not know: it would be ignored. Remove it, or install "
            "the diffusers that wrote it"
        )
    values = {k: p.default for k, p in parameters.items() if k != "self"} | fields
    if values["time_embedding_type"] == "fourier" or values["class_embed_type"] is not None:
        raise ExportError(
            f"{where}: time_embedding_type={values['time_embedding_type']!r} with class_embed_type="
            f"{values['class_embed_type']!r} is not carried; {FACTORY}"
        )
    channels, out = values["in_channels"], values["out_channels"]
    if out not in (channels, 2 * channels):
        raise ExportError(
            f"{where}: {channels} channels in and {out} out; expected as many out, or twice as "
            "many (learned variance)"
        )
    if sampling.learned_variance and out != 2 * channels:
        raise ExportError(
            f"the scheduler says a learned variance, which needs {2 * channels} channels out; "
            f"{where} says {out}"
        )
    size = values["sample_size"]
    if size is None:
        raise ExportError(f'{where} has no sample_size; add it ("sample_size": 32)')
    height, width = (size, size) if isinstance(size, int) else size
    spec = sampling.spec_fields
    if spec["value_range"] is None and channels in (1, 3):
        spec["value_range"] = (-1.0, 1.0)  # diffusers' pixels
    try:
        return DenoiserSpec(
            shape=(channels, height, width),
            time=TimeInput(
                kind=sampling.time_kind, fractions=values["time_embedding_type"] == "positional"
            ),
            conditions=_conditions(values["num_class_embeds"], null_class),
            learned_variance=out == 2 * channels,
            **spec,
        )
    except (TypeError, ValueError) as error:
        if isinstance(error, NullClassError):
            raise ValueError(str(error)) from None
        raise ExportError(f"{where.parent} describes no valid denoiser: {error}") from error


class NullClassError(ValueError):
    """The caller's null class does not fit the folder."""


def _conditions(classes: int | None, null_class: int | None) -> tuple[Condition, ...]:
    if classes is None:
        if null_class is not None:
            raise NullClassError(
                f"null_class={null_class} was given, but this model has no classes "
                "(num_class_embeds)"
            )
        return ()
    if null_class is not None and not 0 <= null_class < classes:
        raise NullClassError(
            f"null_class={null_class} is out of range; this model has the classes "
            f"0 to {classes - 1}"
        )
    if null_class is None:
        logger.warning(
            "the model has %d classes and no null class was named, so the bundle has no "
            "classifier-free guidance; if one of them (often the last, %d) means 'no class', pass "
            "--null-class %d",
            classes, classes - 1, classes - 1,
        )  # fmt: skip
    return (Condition(name="class_labels", dtype="int64", null=null_class, classes=classes),)


def _load(unet: Path, config: dict[str, Any]) -> torch.nn.Module:
    import diffusers
    import torch

    from revstep.export.sources.unet_module import UNetModule

    full, half = (sorted(unet.glob(f"{WEIGHTS}{v}*.safetensors*")) for v in ("", ".fp16"))
    full = [f for f in full if f not in half]
    if not full and not half:
        pickled = ", ".join(sorted(p.name for p in unet.glob("*.bin")))
        why = f"; {pickled} is pickled, which can run code and is not read" if pickled else ""
        raise ExportError(
            f"{unet} has no {WEIGHTS}.safetensors{why}; save it with "
            "model.save_pretrained(folder, safe_serialization=True)"
        )
    try:
        load: Any = diffusers.UNet2DModel.from_pretrained
        model, report = load(
            str(unet), variant=None if full else "fp16", use_safetensors=True,
            torch_dtype=torch.float32, low_cpu_mem_usage=False, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # safetensors and diffusers raise many kinds for a damaged file
        raise ExportError(
            f"{(full or half)[0]} can't be loaded: {type(error).__name__}: {error}"
        ) from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if report[kind]:
            keys = ", ".join(map(str, report[kind][:3]))
            raise ExportError(
                f"{(full or half)[0]} does not fit {unet / 'config.json'}: "
                f"{len(report[kind])} {kind.replace('_', ' ')} ({keys}, ...)"
            )
    return UNetModule(model, whole_times=config.get("time_embedding_type") == "learned").eval()
