"""The policy in ONNX Runtime and TensorRT, where installed: exported, compiled, and run."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import revstep
from revstep.engine.backends.trt.choice import NO_RTX_TARGET, GpuModel
from revstep.engine.errors import BackendError
from revstep.engine.spec.denoiser import DenoiserSpec
from suites.gpu.context import Run
from suites.gpu.networks import Network, make_network
from suites.gpu.peers import our_run, torch_engine
from suites.gpu.runs import Contender, check_same_samples, graphs_of, report, steps_of

SECONDS = 120
BATCHES = (1, 8, 64)
TORCH = "revstep's torch backend"
PROBED = "sm_89"


def policy() -> tuple[Any, DenoiserSpec]:
    """The factory that ``revstep export`` calls."""
    return _factory(dry=False)


def tiny_policy() -> tuple[Any, DenoiserSpec]:
    """The same in a dry run."""
    return _factory(dry=True)


def _factory(*, dry: bool) -> tuple[Any, DenoiserSpec]:
    import torch

    network = make_network(Run.bare(torch.device("cpu"), Path.cwd(), dry=dry), "policy")
    return network.module, network.spec


def measure_backends(run: Run) -> None:
    """Probes every backend first: what is missing costs no export."""
    wanted: list[tuple[str, Callable[..., None]]] = []
    for name, why, case in (
        ("ONNX Runtime", _no_onnxruntime(run), _onnxruntime),
        ("TensorRT", _no_package(run, "tensorrt"), _tensorrt),
        ("TensorRT-RTX", _no_package(run, "tensorrt_rtx"), _tensorrt_rtx),
    ):
        if why is None:
            wanted.append((name, case))
        else:
            run.skip(name, why)
    missing = [n for n in ("onnx", "onnxscript") if importlib.util.find_spec(n) is None]
    for name, _ in wanted if missing else []:
        run.skip(name, f"export needs {', '.join(missing)}, not installed")
    if not wanted or missing:
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "policy.revstep"
        run.attempt("export of the policy", 20, _export, bundle)
        for name, case in wanted if bundle.exists() else []:
            run.attempt(name, 15, case, bundle)


def _no_onnxruntime(run: Run) -> str | None:
    """Why ONNX Runtime can't run here."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed"
    import onnxruntime

    have = onnxruntime.get_available_providers()
    if run.on_gpu and "CUDAExecutionProvider" not in have:
        return f"onnxruntime {onnxruntime.__version__} has no CUDA provider, only {', '.join(have)}"
    return None


def _no_package(run: Run, name: str) -> str | None:
    if importlib.util.find_spec(name) is None:
        return f"{name} is not installed"
    return "no GPU" if not run.on_gpu else None


def _revstep(run: Run, *arguments: str) -> None:
    """One of revstep's own commands.

    Raises:
        RuntimeError: It failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "revstep", *arguments],
        capture_output=True, text=True, timeout=SECONDS, cwd=run.suite.links,
    )  # fmt: skip
    if done.returncode:
        last = " ".join((done.stderr or done.stdout).split())[-400:]
        raise RuntimeError(f"revstep {arguments[0]} ended with code {done.returncode}: {last}")


def _export(run: Run, bundle: Path) -> None:
    factory = f"{__name__}:{run.pick('policy', 'tiny_policy')}"
    _revstep(run, "export", factory, "-o", str(bundle), "--precision", run.pick("fp16", "fp32"))


def _onnxruntime(run: Run, bundle: Path) -> None:
    options: dict[str, Any] = {"device": "cpu"}
    if run.on_gpu:
        options = {"device": "cuda", "buckets": BATCHES, "unroll": (steps_of(run),)}
    _against_torch(run, bundle, "onnxruntime", options)


def _tensorrt(run: Run, bundle: Path) -> None:
    _compile_and_run(run, bundle, "tensorrt")


def _tensorrt_rtx(run: Run, bundle: Path) -> None:
    """Runs where TensorRT-RTX has a target; elsewhere only asks whether it would."""
    gpu = GpuModel.current(run.device)
    if gpu.sm not in NO_RTX_TARGET:
        _compile_and_run(run, bundle, "tensorrt_rtx")
        return
    _revstep(run, "compile", str(bundle), "--target", "tensorrt_rtx", "--precision", "fp16",
             "--batch", "1", "--gpu", PROBED)  # fmt: skip
    entry = next(
        e for e in revstep.Bundle.open(bundle).compiled if e.target == "tensorrt_rtx" and e.file
    )
    validity = _validity((bundle / str(entry.file)).read_bytes())
    run.skip("TensorRT-RTX", f"it has no target for {gpu}; a plan built for {PROBED}: {validity}")


def _validity(plan: bytes) -> str:
    """The runtime's verdict on a plan on this GPU: get_engine_validity, then loading it."""
    from revstep.engine.backends.trt.library import trt_library
    from revstep.engine.backends.trt.plan import TrtPlan

    try:
        TrtPlan(plan, trt_library("tensorrt_rtx"), label="it", command="(only probed)")
    except BackendError as error:
        return str(error)
    return "it is valid"


def _compile_and_run(run: Run, bundle: Path, target: str) -> None:
    batches = ",".join(map(str, BATCHES))
    _revstep(run, "compile", str(bundle), "--target", target, "--precision", "fp16",
             "--batch", batches)  # fmt: skip
    _against_torch(run, bundle, target, {"device": "cuda", "unroll": (steps_of(run),)})


def _against_torch(run: Run, bundle: Path, backend: str, options: dict[str, Any]) -> None:
    """The same runs on the backend and on the torch backend, which is the second row."""
    precision = run.pick("fp16", "fp32")
    steps, network = steps_of(run), make_network(run, "policy")
    engine = revstep.load(bundle, backend=backend, precision=precision, **options)
    for batch in run.pick(BATCHES, (1,)):
        ours = our_run(engine, batch, steps)
        torch_side = torch_engine(run, network, precision, buckets=(batch,), unroll=(steps,))
        beside = our_run(torch_side, batch, steps)
        described = engine.describe()
        version = described["version"]
        check_same_samples(run, network, batch, f"{precision}, {backend}", ours, beside,
                           peer=TORCH)  # fmt: skip
        report(run, _named(network, backend, version), batch, [
            Contender(f"revstep on {backend} {version}", precision, ours,
                      graphs=described.get("graphs")),
            Contender("revstep on torch", precision, beside, TORCH,
                      graphs=graphs_of(torch_side)),
        ])  # fmt: skip


def _named(network: Network, backend: str, version: str) -> Network:
    return dataclasses.replace(network, what=f"{network.what}; exported, {backend} {version}")
