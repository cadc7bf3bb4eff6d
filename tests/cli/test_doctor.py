import json
import subprocess
import sys
import types

import pytest

from revstep.commands.doctor import examine as doctor
from revstep.commands.doctor import gpu as gpu_checks
from revstep.engine.backends.ov.library import installed
from revstep.engine.system import machine

NEEDED = {"torch": "2.11.0", "triton": "3.6.0", "cuda-core": "1.2.2", "cuda-bindings": "13.0.3"}


def _pretend(monkeypatch, versions, gpus=(), cuda="13.0", compiler=True):
    """A machine with those packages and GPUs; torch built for that CUDA."""
    for module in (doctor, gpu_checks):
        monkeypatch.setattr(module, "package_version", versions.get)
    monkeypatch.setattr(doctor, "nvidia_gpus", lambda: tuple(gpus))
    monkeypatch.setattr(gpu_checks, "_torch_cuda", lambda: cuda)
    monkeypatch.setattr(gpu_checks.shutil, "which", lambda name: name if compiler else None)
    monkeypatch.delenv("CC", raising=False)


def _check(name):
    return next(c for c in doctor.examine().checks if c.name == name)


H200 = machine.Gpu("NVIDIA H200", "580.65.06", "9.0", 143771)
L4 = machine.Gpu("NVIDIA L4", "580.65.06", "8.9", 23034)
T4 = machine.Gpu("NVIDIA T4", "580.65.06", "7.5", 15360)


@pytest.mark.parametrize(("gpus", "extra"), [((), "cpu"), ((H200,), "cuda")])
def test_both_onnxruntimes_are_a_conflict_with_this_machines_fix(monkeypatch, gpus, extra):
    _pretend(monkeypatch, {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}, gpus)
    report = doctor.examine()
    assert not report.healthy
    check = _check("onnxruntime, CPU")
    assert check.status == "conflict"
    assert check.fix == (
        f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'revstep[{extra}]'"
    )


def test_a_machine_without_a_gpu_reports_that_and_what_it_can_build(monkeypatch):
    _pretend(monkeypatch, {**NEEDED, "tensorrt-rtx": "1.7.1"})
    for name in ("NVIDIA driver", "torch, CUDA", "cuda.core", "TensorRT", "onnxruntime, CUDA"):
        assert _check(name).status == "unusable"
        assert "no NVIDIA GPU or driver was found" in _check(name).detail
        assert _check(name).fix is None
    assert _check("Triton").status == "builds"
    assert "revstep compile --kernels" in _check("Triton").detail
    assert _check("TensorRT-RTX").status == "builds"
    assert "--target tensorrt_rtx" in _check("TensorRT-RTX").detail


def test_a_machine_with_everything_is_ok(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    versions = {**NEEDED, "onnxruntime-gpu": "1.31.1", "tensorrt": "11.4", "tensorrt-rtx": "1.7"}
    _pretend(monkeypatch, versions, [L4])
    report = doctor.examine()
    assert {check.name: check.status for check in (*report.cuda, *report.backends)} == {
        "NVIDIA driver": "ok", "torch, CUDA": "ok", "Triton": "ok", "cuda.core": "ok",
        "onnxruntime, CPU": "ok", "onnxruntime, CUDA": "ok", "TensorRT": "ok",
        "TensorRT-RTX": "ok", "openvino, CPU": "missing",
    }  # fmt: skip
    assert "NVIDIA L4 (compute capability 8.9)" in _check("NVIDIA driver").detail
    assert "torch 2.11.0 for CUDA 13.0" in _check("torch, CUDA").detail


@pytest.mark.parametrize(("half", "told"), [(True, "fp32 and bf16"), (False, "has no bf16")])
def test_openvino_is_told_with_its_precisions(monkeypatch, half, told):
    if not installed():
        pytest.skip("OpenVINO is not installed")
    monkeypatch.setattr(doctor, "has_bf16", lambda: half)
    _pretend(monkeypatch, {"openvino": "2026.4.1"})
    check = _check("openvino, CPU")
    assert check.status == "ok"
    assert check.detail.startswith("openvino 2026.4.1: fp32")
    assert told in check.detail
    assert doctor.examine().can_sample


def test_openvino_missing_or_broken_is_told_with_its_fix(monkeypatch):
    _pretend(monkeypatch, {})
    check = _check("openvino, CPU")
    assert (check.status, check.fix) == ("missing", "pip install 'revstep[openvino]'")
    _pretend(monkeypatch, {"openvino": "2026.4.1"})
    monkeypatch.setitem(sys.modules, "openvino", None)
    check = _check("openvino, CPU")
    assert check.status == "unusable"
    assert "does not import" in check.detail


def test_a_bare_gpu_machine_gets_the_installs_it_needs(monkeypatch):
    _pretend(monkeypatch, {}, [H200], cuda=None)
    for name in ("torch, CUDA", "Triton", "cuda.core", "onnxruntime, CUDA"):
        assert (_check(name).status, _check(name).fix) == ("missing", "pip install 'revstep[cuda]'")
    assert _check("TensorRT").fix == "pip install 'revstep[tensorrt]'"


def test_a_cpu_build_of_torch_beside_a_gpu_is_replaced(monkeypatch):
    _pretend(monkeypatch, {**NEEDED, "tensorrt": "11.4"}, [H200], cuda=None)
    check = _check("torch, CUDA")
    assert check.status == "missing"
    assert "CPU build" in check.detail
    assert check.fix == "pip uninstall -y torch && pip install 'revstep[cuda]'"
    assert _check("TensorRT").status == "unusable"
    assert "needs torch with CUDA" in _check("TensorRT").detail


def test_an_old_driver_is_named_with_the_one_that_is_needed(monkeypatch):
    old = machine.Gpu("NVIDIA A100", "535.104.05", "8.0", 40960)
    _pretend(monkeypatch, NEEDED, [old])
    check = _check("torch, CUDA")
    assert check.status == "unusable"
    assert "needs driver 580 or newer; this one is 535.104.05" in check.detail
    _pretend(monkeypatch, NEEDED, [old], cuda="12.8")
    assert _check("torch, CUDA").status == "ok"


def test_an_old_gpu_is_named(monkeypatch):
    _pretend(monkeypatch, {**NEEDED, "tensorrt": "11.4"}, [T4])
    assert _check("NVIDIA driver").status == "unusable"
    assert "compute capability 7.5); the step's kernels need 8.0" in _check("NVIDIA driver").detail
    assert _check("TensorRT").status == "unusable"


def test_without_a_c_compiler_triton_is_not_usable(monkeypatch):
    _pretend(monkeypatch, {**NEEDED, "tensorrt": "11.4"}, [H200], compiler=False)
    assert (_check("Triton").status, _check("Triton").fix) == ("unusable", "install gcc")
    assert _check("TensorRT").status == "ok"  # cuda.core launches a bundle's kernels
    core = {name: version for name, version in NEEDED.items() if not name.startswith("cuda")}
    _pretend(monkeypatch, {**core, "tensorrt": "11.4"}, [H200], compiler=False)
    assert "the step needs Triton or cuda.core" in _check("TensorRT").detail


def test_tensorrt_rtx_has_no_target_for_data_centre_gpus(monkeypatch):
    _pretend(monkeypatch, {**NEEDED, "tensorrt-rtx": "1.7.1"}, [H200])
    assert _check("TensorRT-RTX").status == "builds"
    assert "no target for sm_90: use TensorRT" in _check("TensorRT-RTX").detail
    _pretend(monkeypatch, {**NEEDED, "tensorrt-rtx": "1.7.1"}, [L4])
    assert _check("TensorRT-RTX").status == "ok"


@pytest.mark.parametrize(
    ("line", "want"),
    [("cuda: Optional[str] = '13.0'", "13.0"), ("cuda: Optional[str] = None", None),
     ('cuda = "12.8"', "12.8")],
)  # fmt: skip
def test_torchs_cuda_is_read_without_importing_it(monkeypatch, tmp_path, line, want):
    (tmp_path / "version.py").write_text(f"__version__ = '2.11.0'\n{line}\nhip = None\n")
    spec = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(gpu_checks, "find_spec", lambda name: spec)
    assert gpu_checks._torch_cuda() == want


def test_a_conflict_gives_exit_code_1(cli, monkeypatch):
    _pretend(monkeypatch, {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"})
    result = cli("doctor")
    assert result.exit_code == 1
    assert "conflict" in result.stdout
    fix = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'revstep[cpu]'"
    assert result.stdout.splitlines().count(fix) == 1  # on a line of its own, to be copied


def test_a_missing_runtime_names_its_extra(monkeypatch):
    _pretend(monkeypatch, {})
    assert _check("onnxruntime, CPU").status == "missing"
    assert _check("onnxruntime, CPU").fix == "pip install 'revstep[cpu]'"
    assert _check("export").fix == "pip install 'revstep[export]'"
    assert _check("images").fix == "pip install 'revstep[images]'"


def test_extras_that_were_not_asked_for_are_no_illness(monkeypatch):
    pytest.importorskip("onnxruntime")
    _pretend(monkeypatch, {"onnxruntime": "1.32.0"})
    report = doctor.examine()
    assert _check("export").status == "missing"
    assert report.can_sample
    assert report.healthy


def test_a_machine_that_cannot_sample_is_not_healthy(cli, monkeypatch):
    _pretend(monkeypatch, {"triton": "3.0"}, [H200])
    report = json.loads(cli("doctor", "--json").stdout)
    assert (report["can_sample"], report["healthy"]) == (False, False)
    result = cli("doctor")
    assert result.exit_code == 1
    assert "Nothing can be sampled here yet." in result.stdout
    assert "pip install 'revstep[cpu]'" in result.stdout.splitlines()


def test_a_runtime_that_does_not_import_is_unusable(monkeypatch):
    _pretend(monkeypatch, {"onnxruntime": "1.0.0"})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    check = _check("onnxruntime, CPU")
    assert check.status == "unusable"
    assert "pip install --force-reinstall onnxruntime" in check.fix


def test_nvidia_smis_answer_is_read():
    text = "NVIDIA H200, 580.65.06, 9.0, 143771\nNVIDIA T4, 580.65.06, 7.5, [N/A]\n\n"
    assert machine._gpus_from_csv(text) == [
        machine.Gpu("NVIDIA H200", "580.65.06", "9.0", 143771),
        machine.Gpu("NVIDIA T4", "580.65.06", "7.5", 0),
    ]


@pytest.mark.parametrize("error", [FileNotFoundError(), subprocess.TimeoutExpired("nvidia-smi", 1)])
def test_no_driver_means_no_gpu(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert machine.nvidia_gpus() == ()


def test_json_describes_this_machine(cli):
    from revstep import kernels

    report = json.loads(cli("doctor", "--json").stdout)
    assert report["python"].endswith(".".join(map(str, sys.version_info[:3])))
    assert report["cpu"]["usable_cores"] >= 1
    assert (report["kernels"]["status"] == "ok") == (kernels.backend() == "native")
    parts = report["backends"] + report["cuda"] + report["tools"]
    assert {c["status"] for c in parts} <= {"ok", "builds", "missing", "unusable", "conflict"}
    assert "CPUs only" not in json.dumps(report)
    assert all(part["cure"] == part["fix"] for part in parts)  # the old name


def test_doctor_imports_no_torch():
    code = (
        "import sys; from revstep.commands.doctor.examine import examine; "
        "examine(); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"
