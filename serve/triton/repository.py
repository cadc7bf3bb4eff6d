"""Writing models into a Triton model repository: each is whole, or as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from revstep import __version__
from revstep.engine.bundle.layout import MANIFEST
from revstep.engine.bundle.leftovers import beside, owned, remove_leftovers
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.writer import put_in_place, sync_tree
from revstep.engine.checks import check_whole
from revstep.engine.devices.choose import check_device
from revstep.engine.errors import ArgumentError
from revstep.serve.triton.config import network_config, sampling_config
from revstep.serve.triton.pbtxt import text_format
from revstep.serve.triton.settings import Settings

CONFIG = "config.pbtxt"
VERSION = "1"
NETWORK = "_network"  # after the name of the sampling model
WRITTEN = "# Written by revstep deploy"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

MODEL = '''"""Samples a revstep bundle in Triton's Python backend. Written by revstep deploy."""

from pathlib import Path

import triton_python_backend_utils as pb_utils

from revstep.serve.triton.model import SamplingModel


class TritonPythonModel(SamplingModel):
    """The model; the settings are in config.pbtxt."""

    folder = Path(__file__).resolve().parent
    triton = pb_utils
'''


@dataclasses.dataclass(frozen=True, slots=True)
class Deployed:
    """What was written.

    Attributes:
        sampling: The folder of the model that samples.
        network: That of the network alone, or None.
        bundle: Where the sampling model reads its bundle: in the repository, or as it was.
        precision: That of the network alone, or None.
    """

    sampling: Path
    network: Path | None
    bundle: Path
    precision: str | None


def write_models(
    path: str | Path,
    repository: str | Path,
    *,
    name: str | None = None,
    settings: Settings | None = None,
    device: str = "auto",
    instances: int = 1,
    network: bool = True,
    reference: bool = False,
    overwrite: bool = False,
) -> Deployed:
    """Writes a bundle's models into a repository; models of other names stay as they are.

    They are made beside the repository and renamed into it, since Triton takes every folder in it
    for a model, hidden ones too.

    Args:
        path: The bundle.
        repository: The model repository; made where there is none.
        name: Name of the sampling model; None: that of the bundle's folder. The network's is that
            and ``_network``.
        settings: How the sampling model runs; its ``bundle`` is set here.
        device: ``auto`` (each GPU that Triton has, else the CPU), ``cpu``, ``cuda`` (each GPU), or
            ``cuda:<i>``.
        instances: Instances of the sampling model on each device.
        network: Whether the network alone is written too; a Triton without the ONNX Runtime backend
            won't start on a repository with it, unless told to.
        reference: Name the bundle by its path instead of copying it.
        overwrite: Replace models of these names, if a deploy wrote them.

    Raises:
        ArgumentError: An argument out of range.
        BundleError: The bundle is damaged, or lacks the precision.
        FileExistsError: A model of that name is there.
        OSError: The repository can't be written; its models are as they were.
    """
    check_device(device)
    check_whole(instances, "instances", 1)
    bundle = Bundle.open(path)
    directory = Path(repository).expanduser().resolve()
    settings = _settings(bundle, settings or Settings(), reference)
    target = directory / _checked_name(name, bundle.path)
    models = [target, *([target.with_name(target.name + NETWORK)] if network else [])]
    for model in models:
        _check_target(model, overwrite=overwrite)
    directory.mkdir(parents=True, exist_ok=True)
    precision = _network_precision(bundle, settings) if network else None
    with _work(directory) as work:
        made = [work / model.name for model in models]
        _write_sampling(made[0], bundle, settings, device, instances, copied=not reference)
        if precision is not None:
            _write_network(made[1], bundle, precision, device)
        sync_tree(work)
        for one, model in zip(made, models, strict=True):
            _check_target(model, overwrite=overwrite)
            put_in_place(one, model)
    return Deployed(
        target, models[1] if network else None, target / VERSION / settings.bundle, precision
    )


def _settings(bundle: Bundle, settings: Settings, reference: bool) -> Settings:
    """The settings with the bundle's place; what its spec refuses is refused here."""
    if settings.slots is not None:
        least, most = bundle.spec.batch
        check_whole(settings.slots, "slots", least, most, more=", the denoiser's batch range")
    if settings.precision not in (None, "bf16"):  # which OpenVINO makes of the fp32 graph
        bundle.graph(settings.precision)
    where = str(bundle.path.resolve()) if reference else Settings().bundle
    return dataclasses.replace(settings, bundle=where)


def _checked_name(name: str | None, bundle: Path) -> str:
    found = bundle.resolve().stem if name is None else name
    if not NAME.fullmatch(found):
        raise ArgumentError(
            f"a model's name is made of letters, digits, '_', '-' and '.', and begins with none of "
            f"the last two; got {found!r}: give another name",
            "name",
        )
    return found


def _network_precision(bundle: Bundle, settings: Settings) -> str:
    wanted = (settings.precision, "fp32", bundle.precisions[0])
    return next(p for p in wanted if p in bundle.precisions)


def _check_target(model: Path, *, overwrite: bool) -> None:
    """Refuses a place that must not be written.

    Raises:
        FileExistsError: Something is there, and it is no model of ours, or ``overwrite`` is off.
    """
    if not model.exists() or (model.is_dir() and not any(model.iterdir())):
        return
    config = model / CONFIG
    ours = config.is_file() and config.read_text("utf-8", errors="replace").startswith(WRITTEN)
    if not ours:
        raise FileExistsError(
            f"{model} exists and is no model that a deploy wrote, so it is not replaced; give "
            "another name"
        )
    if not overwrite:
        raise FileExistsError(
            f"{model} exists; pass --overwrite (overwrite=True) to replace it, or give another name"
        )


@contextlib.contextmanager
def _work(repository: Path) -> Iterator[Path]:
    """A folder on the repository's disk, outside of it where that can be."""
    outside = not repository.is_mount() and os.access(repository.parent, os.W_OK)
    like = repository if outside else repository / "models"
    remove_leftovers(like)
    work = beside(like, "partial")
    with owned(work):
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _write_sampling(
    model: Path, bundle: Bundle, settings: Settings, device: str, instances: int, *, copied: bool
) -> None:
    version = model / VERSION
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL, "utf-8")
    _write_config(model, bundle, sampling_config(bundle.spec, settings, device, instances))
    if copied:
        copy = version / settings.bundle
        for name in (MANIFEST, *bundle.manifest["files"]):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, copy / name)
        Bundle.open(copy)  # all of one export, should another have come meanwhile


def _write_network(model: Path, bundle: Bundle, precision: str, device: str) -> None:
    version = model / VERSION
    version.mkdir(parents=True)
    shutil.copyfile(bundle.graph(precision), version / "model.onnx")
    _write_config(model, bundle, network_config(bundle.spec, device))


def _write_config(model: Path, bundle: Bundle, config: dict[str, Any]) -> None:
    source = f"{WRITTEN} ({__version__}) of {bundle.path.name!a}.\n"
    (model / CONFIG).write_text(source + text_format(config), "utf-8")
