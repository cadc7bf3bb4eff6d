"""The GPU suite's command, on a CPU: dry run, options, failures, Ctrl-C, the clock, the table."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from suites.gpu import suite
from suites.gpu.rows import FIELDS, STATUSES, Suite
from suites.gpu.sections import SECTIONS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "suites" / "gpu_suite.py"
NO_EXPORT = [name for name in SECTIONS if name != "backends"]
# What a dry run may report: counts and differences of samples, no times, sizes or ratios of them.
FACTS = {"differing values", "tests collected", "relative RMS"}


def run_script(*arguments, cwd=None):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=300
    )


def rows_in(folder):
    return [json.loads(line) for line in (folder / suite.FILE).read_text().splitlines()]


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    done = run_script(
        "--out", "made", "--dry-run", "--no-build", "--only", ",".join(NO_EXPORT), cwd=folder
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done, rows_in(folder / "made")


def assert_dry(rows):
    for row in rows:
        assert tuple(row) == FIELDS
        assert row["dry_run"] is True
        assert row["status"] in STATUSES
        assert row["status"] not in ("measured", "failed")
        assert (row["status"] == "skipped") == (row["reason"] is not None)
        assert row["value"] is None or row["unit"] in FACTS
        assert set(row["figures"].values()) <= {None}


def test_a_dry_run_from_elsewhere_goes_through_every_section(dry_run):
    _, rows = dry_run
    assert list(dict.fromkeys(row["section"] for row in rows)) == NO_EXPORT
    assert_dry(rows)
    ran = {row["section"] for row in rows if row["status"] == "ran"}
    assert ran == set(NO_EXPORT)
    assert len({row["run"] for row in rows}) == 1


def test_a_dry_run_finds_no_differing_bits(dry_run):
    _, rows = dry_run
    facts = [row for row in rows if row["unit"] == "differing values"]
    assert len(facts) == 7
    assert all(row["value"] == 0 and row["met"] is True for row in facts)
    assert all(row["parameters"].get("values_tried", 1) > 0 for row in facts)


def test_rows_carry_the_issues_targets(dry_run):
    _, rows = dry_run
    targets = {(r["section"], r["name"]): (r["target"], r["goal"]) for r in rows if r["target"]}
    against = "policy, batch 1, {}: revstep, unrolled graph, against peer"
    for precision in ("fp32", "fp16"):
        assert targets["e2e", against.format(precision)] == (3.0, "at least")
    unrolled = [v for (s, name), v in targets.items() if s == "loop" and "unrolled" in name]
    assert unrolled == [(5.0, "at most")] * 2
    assert not any("step graph" in name for s, name in targets if s == "loop")


def test_a_dry_run_ends_with_a_table_of_its_rows(dry_run):
    done, rows = dry_run
    assert f"{len(rows)} rows" in done.stdout
    assert "native kernels:" in done.stdout
    for row in rows:
        assert row["name"] in done.stdout


@pytest.mark.slow
def test_the_dry_run_of_the_backends_exports_and_runs_one(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    done = run_script("--out", tmp_path, "--dry-run", "--no-build", "--only", "backends")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_in(tmp_path)
    assert_dry(rows)
    assert any(r["status"] == "ran" and "onnxruntime" in r["name"] for r in rows)
    assert {r["name"] for r in rows if r["status"] == "skipped"} == {"TensorRT", "TensorRT-RTX"}


def test_an_unknown_section_is_refused_with_the_known_ones(tmp_path):
    done = run_script("--out", tmp_path / "no", "--only", "kernel,lop")
    assert done.returncode == suite.WRONG_USE
    assert "unknown section lop" in done.stderr
    assert all(name in done.stderr for name in SECTIONS)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--out DIR is needed"),
        (["--out", "x", "--only", ","], "no section is named"),
        (["--out", "x", "--seconds", "0"], "must be above 0"),
        (["--out", f"{__file__}/x", "--dry-run"], "can't be made"),
        (["--table", "absent.jsonl"], "absent.jsonl"),
    ],
)
def test_wrong_use_names_what_is_wrong(options, message, capsys, checkout):
    with pytest.raises(SystemExit) as ended:
        suite.main(options, *checkout)
    assert ended.value.code == suite.WRONG_USE
    assert message in capsys.readouterr().err


def test_help_names_sections_and_exit_codes(capsys, checkout):
    with pytest.raises(SystemExit):
        suite.main(["--help"], *checkout)
    text = capsys.readouterr().out
    assert all(f"  {name} " in text and section.what in text for name, section in SECTIONS.items())
    assert "3 no GPU" in text


def test_without_a_gpu_it_reports_that_and_leaves_a_row(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = run_script("--out", tmp_path, "--no-build")
    assert done.returncode == suite.NO_GPU
    assert "--dry-run" in done.stderr
    (row,) = rows_in(tmp_path)
    assert row["status"] == "skipped"
    assert row["reason"].splitlines()[0] in done.stderr
    assert row["gpu"] is None


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(
        suite, "add_native", lambda *arguments, **options: "native kernels: as they are"
    )
    return ROOT, tmp_path


@pytest.fixture
def children(monkeypatch):
    """Sections that run nothing: what each one's process would do is set here, by its name."""
    doing = {}

    def run_process(command, links, limit):
        *_, shared, _, name = command
        Suite.from_json(shared).add(
            name, f"figure of {name}", "measured", value=2.0, unit="s", at_most=1.0
        )
        return doing[name]() if name in doing else None

    monkeypatch.setattr(suite, "run_process", run_process)
    monkeypatch.setattr(suite, "no_gpu", lambda: None)
    return doing


def interrupt():
    raise KeyboardInterrupt


def test_missed_targets_are_results_not_failures(children, checkout, tmp_path, capsys):
    assert suite.main(["--out", str(tmp_path)], *checkout) == 0
    rows = rows_in(tmp_path)
    assert [row["section"] for row in rows] == list(SECTIONS)
    assert {row["met"] for row in rows} == {False}
    assert capsys.readouterr().out.count("NOT met") == len(SECTIONS)


@pytest.mark.parametrize("what", [lambda: "its process ended with signal 11", interrupt])
def test_a_section_that_ends_badly_leaves_the_others(what, children, checkout, tmp_path):
    children["kernel"] = what
    assert suite.main(["--out", str(tmp_path)], *checkout) == suite.FAILED
    rows = rows_in(tmp_path)
    assert [row["section"] for row in rows if row["status"] == "measured"] == list(SECTIONS)
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert failed["section"] == "kernel"
    assert failed["reason"]


def test_a_failed_row_fails_the_suite(children, checkout, tmp_path):
    def failing():
        rows = Suite(tmp_path / suite.FILE, "now", *checkout)
        rows.add("loop", "bits", "failed", reason="2")

    children["loop"] = failing
    assert suite.main(["--out", str(tmp_path)], *checkout) == suite.FAILED


def test_a_second_interrupt_ends_the_suite(children, checkout, tmp_path, monkeypatch):
    children["kernel"] = interrupt
    monkeypatch.setattr(suite, "sleep", lambda seconds: interrupt())
    assert suite.main(["--out", str(tmp_path)], *checkout) == suite.INTERRUPTED
    assert [row["section"] for row in rows_in(tmp_path)][-1] == "kernel"


def test_sections_without_time_left_are_skipped_for_it(children, checkout, tmp_path):
    assert suite.main(["--out", str(tmp_path), "--seconds", "1"], *checkout) == 0
    rows = rows_in(tmp_path)
    assert [row["section"] for row in rows] == list(SECTIONS)
    assert all(row["status"] == "skipped" and row["reason"].startswith("time") for row in rows)


def test_the_time_of_all_sections_is_within_eight_minutes():
    assert suite.TOTAL_SECONDS + suite.GRACE < 8 * 60


def test_rows_of_earlier_runs_stay_and_are_not_printed_again(children, checkout, tmp_path, capsys):
    for name in ("kernel", "loop"):
        assert suite.main(["--out", str(tmp_path), "--only", name], *checkout) == 0
    assert [row["section"] for row in rows_in(tmp_path)] == ["kernel", "loop"]
    assert "figure of kernel" not in capsys.readouterr().out.partition("figure of loop")[2]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit(0)", None),
        ("import sys; sys.exit(1)", None),
        ("import sys; sys.exit(7)", "code 7"),
        ("import os; os.abort()", "signal 6"),
    ],
)
def test_how_a_process_ended_is_reported(code, message, tmp_path):
    why = suite.run_process([sys.executable, "-c", code], tmp_path, 30)
    assert why is None if message is None else message in why


def test_a_process_finds_packages_in_the_folders_of_pythonpath(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "carried.py").write_text("")
    (tmp_path / "links").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "site")
    assert (
        suite.run_process([sys.executable, "-c", "import carried"], tmp_path / "links", 30) is None
    )


def test_a_process_that_hangs_is_stopped_with_all_it_started(tmp_path):
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('child', 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    begun = time.monotonic()
    why = suite.run_process([sys.executable, "-c", code], tmp_path, 3.0)
    assert time.monotonic() - begun < 20
    assert "3 s" in why
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
