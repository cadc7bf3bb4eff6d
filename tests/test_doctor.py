import json
import subprocess
import sys

import pytest

from revstep import doctor
from revstep.engine import machine


def _pretend(monkeypatch, versions, gpus=()):
    monkeypatch.setattr(doctor, "package_version", versions.get)
    monkeypatch.setattr(doctor, "nvidia_gpus", lambda: tuple(gpus))


def _check(name):
    return next(c for c in doctor.examine().checks if c.name == name)


H200 = machine.Gpu("NVIDIA H200", "580.1", "9.0", 143771)


@pytest.mark.parametrize(
    ("gpus", "devices", "extra"),
    [((), ("auto", "cpu", "cuda"), "cpu"), ((H200,), ("auto", "cpu"), "cpu"),
     ((H200,), ("auto", "cpu", "cuda"), "cuda")],
)  # fmt: skip
def test_both_onnxruntimes_are_a_conflict_with_this_machines_cure(
    monkeypatch, gpus, devices, extra
):
    _pretend(monkeypatch, {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}, gpus)
    monkeypatch.setattr(doctor, "DEVICES", devices)
    report = doctor.examine()
    assert not report.healthy
    check = _check("onnxruntime, CPU")
    assert check.status == "conflict"
    assert check.cure == (
        f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'revstep[{extra}]'"
    )


def test_a_conflict_gives_exit_code_1(monkeypatch):
    from typer.testing import CliRunner

    from revstep.cli import app

    _pretend(monkeypatch, {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"})
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "conflict" in result.stdout
    cure = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'revstep[cpu]'"
    assert result.stdout.splitlines().count(cure) == 1  # on a line of its own, to be copied


def test_a_missing_runtime_names_its_extra(monkeypatch):
    _pretend(monkeypatch, {})
    assert _check("onnxruntime, CPU").status == "missing"
    assert _check("onnxruntime, CPU").cure == "pip install 'revstep[cpu]'"
    assert _check("export").cure == "pip install 'revstep[export]'"
    assert _check("images").cure == "pip install 'revstep[images]'"


def test_extras_that_were_not_asked_for_are_no_illness(monkeypatch):
    pytest.importorskip("onnxruntime")
    _pretend(monkeypatch, {"onnxruntime": "1.32.0"})
    report = doctor.examine()
    assert _check("export").status == "missing"
    assert report.can_sample
    assert report.healthy


def test_a_machine_that_cannot_sample_is_not_healthy(monkeypatch):
    from typer.testing import CliRunner

    from revstep.cli import app

    _pretend(monkeypatch, {"triton": "3.0"}, [H200])
    report = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert (report["can_sample"], report["healthy"]) == (False, False)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "Nothing can be sampled here yet." in result.stdout
    assert "pip install 'revstep[cpu]'" in result.stdout.splitlines()


def test_a_runtime_that_does_not_import_is_unusable(monkeypatch):
    _pretend(monkeypatch, {"onnxruntime": "1.0.0"})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    check = _check("onnxruntime, CPU")
    assert check.status == "unusable"
    assert "pip install --force-reinstall onnxruntime" in check.cure


def test_what_this_version_cannot_run_is_never_ok(monkeypatch):
    from revstep.engine.loading import BACKENDS

    gpu = machine.Gpu("NVIDIA H200", "580.1", "9.0", 143771)
    _pretend(monkeypatch, {"tensorrt": "11.4"}, [gpu])
    assert (_check("tensorrt").status == "ok") == ("tensorrt" in BACKENDS)


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

    monkeypatch.setattr(machine.subprocess, "run", fail)
    assert machine.nvidia_gpus() == ()


def test_json_describes_this_machine():
    from typer.testing import CliRunner

    from revstep import kernels
    from revstep.cli import app

    report = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert report["python"].endswith(".".join(map(str, sys.version_info[:3])))
    assert report["cpu"]["usable_cores"] >= 1
    assert (report["kernels"]["status"] == "ok") == (kernels.backend() == "native")
    assert all(check["status"] for check in report["backends"] + report["tools"])


def test_doctor_imports_no_torch():
    code = (
        "import sys; from revstep.doctor import examine; examine(); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"
