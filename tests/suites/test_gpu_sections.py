"""The GPU suite's parts: rows, tables, links, clocks, sections."""

import math
import types
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from revstep.bench import clock  # noqa: E402
from suites.gpu import memory  # noqa: E402
from suites.gpu.context import Run  # noqa: E402
from suites.gpu.gpu_tests import measure_tests  # noqa: E402
from suites.gpu.native import add_native  # noqa: E402
from suites.gpu.sections import run_section  # noqa: E402
from suites.gpu.table import markdown_table, text_table  # noqa: E402
from suites.gpu_suite import make_links  # noqa: E402
from suites.step import buffers  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def test_a_dry_run_keeps_facts_and_no_times(make_run, rows_of):
    run = make_run(dry=True)
    run.measured("time", 3.0, "ms", at_most=1.0, figures={"p50": 3.0})
    run.differing("bits", 0, "differing values")
    time, bits = rows_of(run)
    assert (time["value"], time["met"], time["figures"]) == (None, None, {"p50": None})
    assert (bits["value"], bits["met"], bits["status"]) == (0, True, "ran")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_refused_even_in_a_dry_run(make_run, value):
    for dry in (True, False):
        with pytest.raises(ValueError, match="must be finite"):
            make_run(dry=dry).measured("x", value, "ms")


def test_differing_bits_are_a_failure_with_their_count(make_run, rows_of):
    run = make_run()
    run.differing("bits", 2, "differing values")
    (row,) = rows_of(run)
    assert (row["status"], row["value"], row["met"]) == ("failed", 2, False)
    assert row["reason"] == "2 differing values"
    assert run.failures == 1


def test_a_failing_section_leaves_the_others_rows_and_is_counted(make_run, rows_of):
    def good(run):
        run.measured("one", 1.0, "ms")

    def bad(run):
        run.attempt("case that breaks", 1, lambda run: 1 / 0)
        run.attempt("case after it", 1, good)
        raise RuntimeError("the GPU is gone\nand more")

    sections = {
        name: types.SimpleNamespace(measure=measure)
        for name, measure in (("kernel", bad), ("loop", good))
    }
    run = make_run()
    assert run_section("kernel", run, sections) == 2
    run.failures = 0
    assert run_section("loop", run, sections) == 0
    found = [(row["status"], row["reason"]) for row in rows_of(run)]
    assert found == [
        ("failed", "ZeroDivisionError: division by zero"),
        ("measured", None),
        ("failed", "RuntimeError: the GPU is gone"),
        ("measured", None),
    ]


def test_a_case_without_time_left_is_skipped(make_run, rows_of):
    run = make_run(seconds=2.0)
    ran = []
    run.attempt("long", 30, ran.append)
    run.attempt("short", 1, ran.append)
    assert ran == [run]
    (row,) = rows_of(run)
    assert row["name"] == "long"
    assert row["reason"].startswith("time: it needs about 30 s, ")


def test_tables_show_what_was_measured(make_run, rows_of):
    run = make_run()
    run.measured("old", 1.0, "ms", at_most=2.0)
    run.measured("old", 3.0, "ms", at_most=2.0, peer="a | b")
    run.skip("gone", "no such thing")
    rows = rows_of(run)
    (line,) = [x for x in markdown_table(rows).splitlines() if "old" in x]
    assert line == "| kernel | old | 3 ms | ≤ 2 | **no** | a \\| b |"
    assert "gone" not in markdown_table(rows)
    assert "skipped: no such thing" in text_table(rows)
    assert "NOT met" in text_table(rows)


def test_a_table_takes_no_dry_rows(make_run, rows_of):
    run = make_run(dry=True)
    run.measured("x", 1.0, "ms")
    with pytest.raises(ValueError, match="no row holds a figure"):
        markdown_table(rows_of(run))


def test_links_make_the_checkout_one_package(tmp_path):
    make_links(ROOT, tmp_path)
    package = tmp_path / "revstep"
    assert (package / "__init__.py").samefile(ROOT / "src" / "revstep" / "__init__.py")
    for name in ("engine", "export", "bench"):
        assert (package / name).samefile(ROOT / name)
    assert (package / "kernels" / "reference.py").samefile(ROOT / "kernels" / "reference.py")
    assert not (package / "kernels").is_symlink()  # a built module goes beside the links


def test_without_a_compiler_the_reference_runs_and_is_named(tmp_path, monkeypatch):
    (tmp_path / "revstep" / "kernels").mkdir(parents=True)
    monkeypatch.setattr("shutil.which", lambda *arguments, **options: None)
    monkeypatch.delenv("CXX", raising=False)
    line = add_native(tmp_path, tmp_path)
    assert "CMake, a C++ compiler" in line
    assert "numpy reference" in line


def test_the_bytes_of_a_step_are_those_of_its_contract():
    # state read and written, m read, the next input written; one history read, another stored
    assert buffers.bytes_moved(10, torch.float16) == 10 * (4 + 4 + 2 + 2)
    assert buffers.bytes_moved(10, torch.float32) == 10 * (4 + 4 + 4 + 4)
    assert buffers.bytes_moved(10, torch.float16, history=True) == 10 * (12 + 4 + 4)


class FakeEvent:
    """Each record is a millisecond after the last."""

    now = 0.0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        FakeEvent.now += 1.0
        self.at = FakeEvent.now

    def elapsed_time(self, later):
        return later.at - self.at


@pytest.fixture
def gpu_run(make_run, monkeypatch):
    """A run that takes itself for one on a GPU: torch.cuda's part of it is made up."""

    class OnGpu(Run):
        on_gpu = True

    calls = []
    facts = {
        "Event": FakeEvent,
        "synchronize": lambda device=None: calls.append("synchronize"),
        "empty_cache": lambda: calls.append("empty_cache"),
        "get_device_properties": lambda device: types.SimpleNamespace(L2_cache_size=1 << 10),
        "reset_peak_memory_stats": lambda device: calls.append("reset"),
        "max_memory_allocated": lambda device: 3 << 20,
        "max_memory_reserved": lambda device: 5 << 20,
    }
    for name, value in facts.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(clock, "FLUSH_BYTES", 1 << 10)
    return make_run(kind=OnGpu), calls


def test_device_times_are_between_events_in_turns(gpu_run):
    run, calls = gpu_run
    order = []
    tasks = [lambda: order.append("a"), lambda: order.append("b")]
    times = run.call_times(tasks, 3, flush_l2=True)
    assert order == [*"aaaaabbbbb", *"ababab"]  # warmed up, then in turns
    assert times == [[pytest.approx(1e-3)] * 3] * 2
    assert calls == ["synchronize", "synchronize"]  # never between calls


def test_memory_is_the_peak_of_each_side_alone(gpu_run, monkeypatch, rows_of):
    run, calls = gpu_run
    monkeypatch.setattr(memory, "make_network", lambda run, name: types.SimpleNamespace(
        parameters={}, spec=None))  # fmt: skip
    for name in ("torch_engine", "our_run", "peer_run"):
        monkeypatch.setattr(memory, name, lambda *a, **k: lambda: calls.append("sampled"))
    run.section = "memory"
    memory._peaks(run, "policy")
    rows = rows_of(run)
    assert [row["value"] for row in rows] == [5.0, 5.0]
    assert [row["figures"]["allocated_MiB"] for row in rows] == [3.0, 3.0]
    assert [c for c in calls if c in ("reset", "sampled")] == ["reset", "sampled"] * 2


def test_the_tests_that_need_a_gpu_are_counted(make_run, tmp_path, rows_of):
    root = tmp_path / "checkout"
    (root / "tests").mkdir(parents=True)
    (root / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs a GPU\n")
    marked = f"import pytest\npytestmark = pytest.mark.{'gpu'}\n"
    (root / "tests" / "test_some.py").write_text(
        f"{marked}def test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pytest.skip('x')\n"
    )
    (root / "tests" / "test_other.py").write_text("import not_there\n")
    run = make_run(root=root)
    measure_tests(run)
    (row,) = rows_of(run)
    assert (row["value"], row["met"]) == (1, False)
    assert row["parameters"] == {
        "passed": 1, "failed": 1, "skipped": 1, "files": ["tests/test_some.py"],
    }  # fmt: skip
    assert "1 failed" in row["reason"]
    assert run.failures == 1


def test_random_rows_hold_every_kind_of_coefficient():
    rng = np.random.default_rng(0)
    rows = np.stack([buffers.random_row(rng, 3) for _ in range(50)])
    assert ((rows == 0).any(0) & (rows != 0).any(0)).sum() > 12
    assert np.isin([-1, 0, 1, 2], rows[:, 20]).all()
