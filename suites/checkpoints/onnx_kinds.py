"""Kinds that come as ONNX files; their whole runs are held to the file itself, or its trainer."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suites.checkpoints.kind import Compared, Kind, Made
from suites.support import support

if TYPE_CHECKING:
    from revstep.engine.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "ONNX file"
EQUINOX = "Equinox network through jax2onnx"
SIGMAS = {"kind": "ve", "sigma_min": 0.01, "sigma_max": 20.0}
EDM = {"kind": "ve", "sigma_min": 0.002, "sigma_max": 80.0, "levels": "karras"}
FORMS: dict[str, dict[str, Any]] = {  # of tests/support/onnx_files.py
    "D(x; sigma), other names": {},
    "float16, label, int64": {"dtype": "float16", "label": "label"},
    "channels last, a further output": {"channels_last": True, "extra_output": True},
}


def onnx_kinds() -> list[Kind]:
    """Files of several forms, one of JAX, and a published one."""
    forms = [
        Kind(name, SOURCE, "the file's network in numpy", _maker(form))
        for name, form in FORMS.items()
    ]
    return [
        *forms,
        Kind(EQUINOX, SOURCE, "JAX's own samples", _equinox),
        Kind(
            "adaptive-terrain-diffusion 0.4.2, trained, one step", SOURCE,
            "the file in ONNX Runtime", _terrain, ("terrain_diffusion",),
        ),
    ]  # fmt: skip


def _maker(form: dict[str, Any]) -> Any:
    def make(folder: Path) -> Made:
        files = support("onnx_files")
        file = files.write_denoiser(folder / "model.onnx", **form)
        spec: dict[str, Any] = {
            "prediction": "sample", "schedule": SIGMAS,
            "time": {"kind": "sigma", "fractions": True},
            "inputs": {"state": "noisy", "time": "sigma"},
        }  # fmt: skip
        label = form.get("label")
        if label is not None:
            spec["conditions"] = [{"name": label, "dtype": "int64", "classes": files.CLASSES}]
        if form.get("extra_output"):
            spec["output"] = "denoised"
        return Made(
            lambda path, precisions: _export(file, spec, path, precisions),
            lambda engine: _numpy_run(engine, files, label, form.get("channels_last", False)),
        )

    return make


def _export(file: Path, spec: Any, path: Path, precisions: Sequence[str]) -> None:
    from revstep.export import export_onnx

    export_onnx(file, spec, path, precisions=precisions)


def _numpy_run(engine: Engine, files: Any, label: str | None, last: bool) -> Compared:
    import revstep

    class Denoiser:
        spec = engine.spec

        def bind(self, buffers: Any) -> Any:
            def call() -> None:
                named = {"label": buffers.conditions[label]} if label else {}
                x = np.moveaxis(buffers.x, -1, 1) if last else buffers.x
                out = files.network(x, buffers.t, **named)
                buffers.out[:] = np.moveaxis(out, 1, -1) if last else out

            return call

        def describe(self) -> dict[str, Any]:
            return {"backend": "numpy"}

    run: dict[str, Any] = {"n": 3, "seed": 1, "steps": 8}
    if label:
        run["conditions"] = {label: [0, 2, 4]}
    return engine.sample(**run).x, revstep.Engine(Denoiser()).sample(**run).x


def _equinox(_: Path) -> Made:
    golden = ROOT / "tests/examples/trainers"
    spec = ROOT / "examples/trainers/equinox_network.toml"

    def whole(engine: Engine) -> Compared:
        with np.load(golden / "equinox.npz") as known:
            noise, want = known["noise"], known["samples"]
        return engine.sample(3, noise=noise, sampler="ddim", steps=20).x, want

    return Made(lambda p, precisions: _export(golden / "equinox.onnx", spec, p, precisions), whole)


def _terrain(_: Path) -> Made:
    package = importlib.util.find_spec("terrain_diffusion")
    assert package is not None
    assert package.origin is not None
    (file,) = Path(package.origin).parent.rglob("*.onnx")
    spec = {
        "prediction": "sample", "schedule": EDM, "time": {"kind": "sigma", "fractions": True},
        "inputs": {"state": "noisy", "time": "sigma"}, "conditions": [{"name": "difficulty"}],
    }  # fmt: skip

    def whole(engine: Engine) -> Compared:
        import onnxruntime

        noise = np.random.default_rng(0).standard_normal((2, *engine.spec.shape))
        noise = noise.astype(np.float32)
        difficulty = np.array([0.2, 0.8], np.float32)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        sigma = np.full(2, 80.0, np.float32)
        fed = {"noisy": 80.0 * noise, "sigma": sigma, "difficulty": difficulty}
        own = engine.sample(
            2, noise=noise, steps=1, sampler="ddim", conditions={"difficulty": difficulty}
        )
        return own.x, session.run(["denoised"], fed)[0]

    return Made(lambda path, precisions: _export(file, spec, path, precisions), whole)
