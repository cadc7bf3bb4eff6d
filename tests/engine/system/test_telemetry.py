"""Nothing that revstep runs on reports home, unless its user says so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from revstep.engine.backends.ov.library import installed

LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads Linux's /proc")
VARIABLES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED")

EXPORT = """
import revstep
from revstep.export import export_module
from toys import build

module, spec, _ = build("tabular")
export_module(module, spec, "toy.revstep")
revstep.from_module(module, spec, device="cpu").sample(2, steps=2, seed=0)
"""
USE = """
import sys
import revstep
from revstep.commands.doctor.examine import examine
from revstep.export import compile_bundle

compile_bundle("toy.revstep", threads=1)
revstep.load("toy.revstep", device="cpu", threads=1).sample(2, steps=2, seed=0)
examine()
sys.argv = "revstep bench toy.revstep --threads 1 --steps 2 --runs 8 --cold 0".split()
from revstep.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
assert "onnxruntime" in sys.modules
"""
THREADS = """
import os, threading
foreign = len(os.listdir("/proc/self/task")) - threading.active_count()  # tqdm starts a Python one
print("foreign threads:", foreign)
"""


def _run(code, home, **variables):
    """Runs a program as a new user's: an empty home folder, no variable that turns anything off.

    A CI's own variables would: ONNX Runtime reads them too.
    """
    kept = {k: os.environ[k] for k in ("PATH", "PYTHONPATH", "PYTHONSAFEPATH") if k in os.environ}
    single = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=home,
        env={**kept, **single, "HOME": str(home), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _check_quiet(tmp_path, flow, workers=0):
    """``workers``: threads that a library's thread pool may have."""
    home = tmp_path / "home"
    home.mkdir()
    support = Path(__file__).parents[2] / "support"
    where = f"import os, sys; os.chdir({str(tmp_path)!r}); sys.path.insert(0, {str(support)!r})\n"
    told = _run(where + flow + THREADS, home)
    assert int(told.splitlines()[-1].removeprefix("foreign threads: ")) <= workers
    assert [p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()] == []


@LINUX
def test_compile_load_sample_doctor_and_bench_leave_no_file_at_home_and_no_thread(
    tmp_path, tabular_bundle
):
    pytest.importorskip("onnxruntime")
    shutil.copytree(tabular_bundle, tmp_path / "toy.revstep")
    _check_quiet(tmp_path, USE)


OPENVINO = """
import sys
import revstep
from revstep.commands.doctor.examine import examine

engine = revstep.load("toy.revstep", device="cpu", backend="openvino", threads=1)
engine.sample(2, steps=2, seed=0)
examine()
assert "openvino" in sys.modules
assert "openvino_telemetry" not in sys.modules
"""


@LINUX
def test_openvino_leaves_no_file_at_home_and_its_models_in_the_cache(tmp_path, tabular_bundle):
    if not installed():
        pytest.skip("OpenVINO is not installed")
    shutil.copytree(tabular_bundle, tmp_path / "toy.revstep")
    models = f"import os; os.environ['XDG_CACHE_HOME'] = {str(tmp_path)!r}\n"
    _check_quiet(tmp_path, models + OPENVINO, workers=1)
    assert [p.name for p in (tmp_path / "revstep").iterdir()] == ["openvino"]


@LINUX
@pytest.mark.slow
def test_a_whole_way_from_the_module_leaves_no_file_at_home_and_no_thread(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    _check_quiet(tmp_path, EXPORT + USE)


SET = f"import os, revstep; print([os.environ.get(v) for v in {VARIABLES}])"


def test_import_revstep_sets_every_switch(tmp_path):
    assert _run(SET, tmp_path).strip() == "['1', '1', '0']"


@pytest.mark.parametrize("package", ["export", "cli", "kernels"])
def test_whatever_part_is_imported_first_the_switches_are_set(package, tmp_path):
    code = f"import revstep.{package}, os; print([os.environ.get(v) for v in {VARIABLES}])"
    assert _run(code, tmp_path).strip() == "['1', '1', '0']"


def test_a_variable_of_the_user_stays_and_an_opt_in_sets_none(tmp_path):
    given = {"ORT_DISABLE_TELEMETRY": "0", "RAY_USAGE_STATS_ENABLED": "1"}
    assert _run(SET, tmp_path, **given).strip() == "['0', '1', '1']"
    assert _run(SET, tmp_path, REVSTEP_TELEMETRY="1").strip() == "[None, None, None]"
    assert _run(SET, tmp_path, REVSTEP_TELEMETRY="0").strip() == "['1', '1', '0']"


TOLD = "import revstep; from revstep.engine.system.telemetry import telemetry; print(telemetry())"


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "'onnxruntime': 'off: ORT_DISABLE_TELEMETRY=1'"),
        ({"ORT_DISABLE_TELEMETRY": "0"}, "'onnxruntime': 'on: ORT_DISABLE_TELEMETRY=0'"),
        ({"ORT_DISABLE_TELEMETRY": "2"}, "'onnxruntime': 'on: ORT_DISABLE_TELEMETRY=2'"),
        ({"ORT_DISABLE_TELEMETRY": "TRUE"}, "'onnxruntime': 'off: ORT_DISABLE_TELEMETRY=TRUE'"),
        ({"REVSTEP_TELEMETRY": "1"}, "'onnxruntime': 'its default: REVSTEP_TELEMETRY=1'"),
        (
            {"REVSTEP_TELEMETRY": "1", "DO_NOT_TRACK": "1"},
            "'huggingface_hub': 'off: DO_NOT_TRACK=1'",
        ),
        ({}, "'ray': 'off: RAY_USAGE_STATS_ENABLED=0'"),
        ({"RAY_USAGE_STATS_ENABLED": "1"}, "'ray': 'on: RAY_USAGE_STATS_ENABLED=1'"),
    ],
)
def test_what_holds_is_told_with_its_reason(variables, told, tmp_path):
    assert told in _run(TOLD, tmp_path, **variables)


def test_a_library_that_came_first_is_told(tmp_path):
    first = "import sys, types; sys.modules.update(onnxruntime=types, ray=types)\n"
    told = _run(first + TOLD, tmp_path)
    assert "'onnxruntime': 'its default: it was imported before revstep" in told
    assert "'ray': 'off" in told  # Ray reads its variable when a cluster starts


def test_doctor_shows_it(tmp_path):
    code = "import sys; sys.argv = ['revstep', 'doctor']; from revstep.cli import main; main()"
    assert "onnxruntime: off: ORT_DISABLE_TELEMETRY=1" in _run(code, tmp_path)


@pytest.mark.parametrize(
    ("variables", "told"), [({}, "without"), ({"REVSTEP_TELEMETRY": "1"}, "with")]
)
def test_openvino_is_imported_without_what_reports_it(variables, told, tmp_path):
    """Packages that import each other as OpenVINO 2026.4 and openvino_telemetry 2025.2 do."""
    (tmp_path / "openvino_telemetry.py").write_text("")
    (tmp_path / "openvino.py").write_text(
        "try:\n    import openvino_telemetry\nexcept ImportError:\n    told = 'without'\n"
        "else:\n    told = 'with'\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from revstep.engine.system.telemetry import quiet_openvino\n"
        "with quiet_openvino():\n    import openvino\n"
        "import openvino_telemetry\n"  # it is hidden no longer
        "print(openvino.told)"
    )
    assert _run(code, tmp_path, **variables).strip() == told
