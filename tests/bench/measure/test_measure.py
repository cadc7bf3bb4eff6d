"""A cell measured: right first, then timed."""

import mmap
import shutil
import types

import pytest

import revstep
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.cold import PHASES, cold_starts
from revstep.bench.measure.correct import check_engine
from revstep.bench.measure.measure import OURS, Work, measure_cell
from revstep.bench.measure.memory import peaks, reset_peaks
from revstep.bench.measure.rounds import Budget, Task
from revstep.engine.bundle.reader import Bundle
from revstep.errors import ArgumentError, BackendError, ParityError

pytest.importorskip("onnxruntime")

SHORT = Budget(runs=8, noise=0.0, warm_up=0.0)


@pytest.fixture(scope="module")
def engine(policy_bundle):
    return revstep.load(policy_bundle, threads=1)


@pytest.fixture(scope="module")
def measured(policy_bundle, engine):
    cell = Cell(sampler="ddim", steps=3, batch=2, guidance=2.0)
    return measure_cell(Bundle.open(policy_bundle), cell, engine, SHORT, price=1.0)


def test_a_row_has_all_that_a_reader_must_know(measured):
    figures = measured.figures
    assert figures["cell"]["network_calls"] == 3
    assert figures["correct"]["error"] <= figures["correct"]["bound"]
    assert figures["stopped"] == "runs"
    assert len(figures["times_s"][OURS]) == figures["summary"]["runs"] == 8
    assert figures["memory"]["host_bytes"] > 1 << 20
    assert figures["memory"]["device_bytes"] is None
    assert figures["cost"]["per_thousand_samples"] > 0
    assert figures["split"]["network_s"] > 0
    assert 0 < figures["split"]["sampler_s"] < figures["summary"]["step_s"]
    assert figures["bundle"]["name"].endswith(".revstep")
    assert figures["disturbance"]["verdict"] in ("quiet", "noisy", "throttled")


def test_a_wrong_engine_is_not_timed(policy_bundle, engine, monkeypatch):
    bundle, right = Bundle.open(policy_bundle), engine.sample

    def wrong(*arguments, **options):
        samples = right(*arguments, **options)
        samples.x[0] += 0.01
        return samples

    monkeypatch.setattr(engine, "sample", wrong)
    begun = []
    with pytest.raises(ParityError, match=r"a whole run differs .* is not timed"):
        measure_cell(bundle, Cell(), engine, SHORT, others=begun.append)
    assert not begun


@pytest.mark.parametrize(
    "name", ["image_bundle", "tabular_bundle", "two_times_bundle", "observing_bundle"]
)
def test_every_kind_of_bundle_is_checked_as_it_runs(name, request):
    path = request.getfixturevalue(name)
    opened, bundle = revstep.load(path, threads=1), Bundle.open(path)
    for batch in (1, 5):
        found = check_engine(opened, bundle, Cell(batch=batch))
        assert 0 <= found["error"] <= found["bound"]


def test_the_check_runs_with_the_cell_s_rows(policy_bundle, engine, monkeypatch):
    seen, right = [], engine.sample

    def watched(n, **options):
        seen.append(n)
        return right(n, **options)

    monkeypatch.setattr(engine, "sample", watched)
    for cell in (Cell(batch=1), Cell(batch=3, guidance=2.0)):
        check_engine(engine, Bundle.open(policy_bundle), cell)
    assert seen == [1, 6]


def test_others_take_turns_with_the_same_work(policy_bundle, engine):
    seen = []

    def others(work):
        assert work.network_calls == 2
        return [Task("twin", lambda seed: seen.append(work.sample(seed)))]

    cell = Cell(steps=2, batch=3)
    found = measure_cell(Bundle.open(policy_bundle), cell, engine, SHORT, others=others)
    assert list(found.starts) == [OURS, "twin"]
    assert [len(start) for start in found.starts["twin"]] == [8]
    assert seen[0].shape == (3, 8, 2)


def test_a_wrong_cell_is_refused_before_it_is_timed(policy_bundle, engine):
    with pytest.raises(ArgumentError, match="sampler"):
        measure_cell(Bundle.open(policy_bundle), Cell(sampler="no"), engine, SHORT)


def test_a_peak_is_seen_and_a_new_one_begins():
    reset_peaks()
    before = peaks()["host_bytes"]
    with mmap.mmap(-1, 32 << 20) as fresh:  # not memory that an allocator still has
        fresh.write(b"1" * len(fresh))
        high = peaks()["host_bytes"]
    assert high >= before + (24 << 20)


@pytest.mark.parametrize(
    ("device", "gpu"), [("cpu", None), ("cuda:0", 0), ("cuda:3", 3), ("cuda", 0)]
)
def test_a_cell_knows_its_gpu_by_cuda_s_number(device, gpu):
    engine = types.SimpleNamespace(describe=lambda: {"device": device})
    work = Work(None, None, engine, {}, 1)
    assert work.gpu == gpu
    assert work.on_gpu == (gpu is not None)


def test_cold_starts_are_processes_of_their_own_with_a_hook_before_each(policy_bundle, tmp_path):
    hooked = tmp_path / "hooked"
    found = cold_starts(policy_bundle, Cell(steps=2), 2, f"echo x >> {hooked}")
    assert hooked.read_text() == "x\nx\n"
    assert len(found["starts"]) == 2
    for start in found["starts"]:
        assert all(start[phase] > 0 for phase in PHASES)
        parts = ("process_s", "import_s", "load_s", "first_s")
        assert start["total_s"] == pytest.approx(sum(start[p] for p in parts))


def test_a_hook_or_a_start_that_fails_says_why(policy_bundle, tmp_path):
    with pytest.raises(BackendError, match=r"hook 'echo no >&2; exit 3' ended with 3 .* no"):
        cold_starts(policy_bundle, Cell(), 1, "echo no >&2; exit 3")
    broken = tmp_path / "broken.revstep"
    shutil.copytree(policy_bundle, broken)
    (broken / "parity.npz").unlink()
    with pytest.raises(BackendError, match=r"a cold start of .* failed; it says: .*parity"):
        cold_starts(broken, Cell(), 1)
