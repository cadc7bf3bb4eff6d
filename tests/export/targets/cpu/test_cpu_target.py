"""The target ``cpu`` with real processes: winners in the manifest, and candidates that go wrong."""

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_runtime
import onnxruntime as ort
import pytest
from damage import change_weight, disk_full, edit_manifest, flip, scale_one, snapshot
from fake_runtime import BROKEN, put_fake
from winners import put_winner

import revstep
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BackendError, BundleError, Cancelled, CompileError, ParityError
from revstep.engine.system.machine import processor
from revstep.export import compile_bundle
from revstep.export.rewrite import apply
from revstep.export.targets.cpu import graphs, plan, process, track
from revstep.export.targets.cpu.candidate import Candidate
from revstep.export.targets.cpu.track import ProcessTrack

SLOW_AS_EXPORTED = """
import time
from revstep.engine.backends import registry
from revstep.engine.backends.onnx_cpu import OrtDenoiser

class Slow(OrtDenoiser):
    def bind(self, buffers):
        run = super().bind(buffers)
        def call():
            run()
            time.sleep(0.05)
        return call

def opened(wanted):
    kind = Slow if wanted.graph is None else OrtDenoiser
    return kind(wanted.graph or wanted.bundle.graph("fp32"), wanted.bundle.spec, threads=1)

registry.BACKENDS["onnxruntime"] = registry.Backend("ONNX Runtime", on_cpu=opened)
"""


@pytest.fixture
def fake(monkeypatch):
    return functools.partial(put_fake, monkeypatch)


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(plan, "installed", lambda: ["onnxruntime"])


def chosen(path, **options):
    return compile_bundle(path, target="cpu", **{"seconds": 0.3, "threads": 1} | options)


def of(entry, runtime):
    return [c for c in entry.choice.candidates if c["runtime"] == runtime]


@pytest.mark.parametrize("kind", ["image", "policy", "tabular"])
def test_the_winners_are_in_the_manifest_with_all_figures(kind, request, copy_of, alone):
    path = copy_of(request.getfixturevalue(f"{kind}_bundle"))
    others = {k: v for k, v in snapshot(path).items() if not k.startswith(("manifest", "engines"))}
    entries = chosen(path, batch=(1, 4))
    bundle = Bundle.open(path)
    beside = ["decoder"] if kind == "image" else []
    assert [e.part for e in entries] == [None, None, *beside]
    listed = (*bundle.compiled, *bundle.compiled_parts)
    assert [e for e in listed if e.target == "cpu"] == list(entries)
    assert [e.batch for e in entries] == [(1, 1), (4, 4), *((1, 8) for _ in beside)]
    for entry in entries:
        assert (entry.runtime, entry.version) == ("onnxruntime", ort.__version__)
        assert entry.choice.processor == processor()
        whole = entry.parity["forward" if entry.part else "ddim20"]
        assert whole["error"] < whole["bound"]
        (winner,) = [c for c in entry.choice.candidates if c["status"] == "chosen"]
        assert winner["ms"] == pytest.approx(entry.choice.seconds * 1e3)
        assert 0 < winner["low_ms"] <= winner["ms"] <= winner["high_ms"]
        assert winner["rounds"] >= 3
        assert winner["parity"] == entry.parity
        (missing,) = of(entry, "openvino")
        assert missing["status"] == "missing"
        assert missing["reason"] == "not installed: pip install 'revstep[openvino]'"
    assert {k: v for k, v in snapshot(path).items() if k in others} == others


def test_the_default_is_checked_on_the_way(image_bundle, copy_of, alone):
    path, plain = copy_of(image_bundle), copy_of(image_bundle, "plain.revstep")
    compile_bundle(plain, threads=1)
    chosen(path)
    (entry,) = [e for e in Bundle.open(path).compiled if e.target == "onnxruntime"]
    assert entry == Bundle.open(plain).compiled[0]  # its decoder's figure too


def test_rows_are_by_default_1_and_16_within_the_specs(tabular_bundle, copy_of, alone):
    path = copy_of(tabular_bundle)
    edit_manifest(path, lambda m: m["spec"].update(batch=[2, 8]))
    assert [e.batch for e in chosen(path)] == [(2, 2), (8, 8)]
    edit_manifest(path, lambda m: m["spec"].update(batch=[3, 3]))
    assert [e.batch for e in chosen(path)] == [(3, 3)]


def test_a_second_compile_replaces_the_winners_of_the_same_rows(tabular_bundle, copy_of, alone):
    path = copy_of(tabular_bundle)
    first = chosen(path, batch=(1, 4))
    again = chosen(path, batch=4)
    bundle = Bundle.open(path)
    assert [e for e in bundle.compiled if e.target == "cpu"] == [first[0], *again]
    figures = bundle.manifest["parity"]["figures"]
    assert {k for k in figures if k.startswith("cpu.")} == {
        f"cpu.fp32.{e.key[:8]}" for e in (first[0], *again)
    }


def test_a_rewritten_graph_goes_with_the_last_choice_that_names_it(
    tabular_bundle, copy_of, alone, monkeypatch, tmp_path
):
    monkeypatch.setattr(graphs, "LARGEST", 0)  # nothing is rewritten
    path = copy_of(tabular_bundle)
    graph = Path(shutil.copy(path / "denoiser.fp32.onnx", tmp_path / "other.onnx"))
    shared = {put_winner(path, rows, graph=graph).file for rows in (1, 4)}
    assert len(shared) == 1
    chosen(path, batch=4)
    assert snapshot(path).keys() >= shared
    assert Bundle.open(path).manifest["files"].keys() >= shared
    (entry, _) = chosen(path, batch=(1, 4))
    assert not snapshot(path).keys() & shared
    (why,) = [c["reason"] for c in entry.choice.candidates if c["rewrites"]]
    assert why.startswith("graphs of more than 2 GB")


def test_a_rewritten_graph_that_wins_is_a_file_of_the_bundle(
    policy_bundle, copy_of, alone, monkeypatch
):
    pytest.importorskip("onnx")
    monkeypatch.setattr(apply, "applicable", lambda graph, runtime: ("conv_2d",))
    monkeypatch.setattr(process, "MAIN", SLOW_AS_EXPORTED + process.MAIN)
    path = copy_of(policy_bundle)
    one, four = chosen(path, batch=(1, 4))
    assert one.file == four.file
    assert one.choice.rewrites == ("conv_2d",)
    listed = Bundle.open(path).manifest["files"]
    assert listed[one.file]["bytes"] == (path / one.file).stat().st_size
    assert sorted(p.name for p in (path / "engines").iterdir()) == [one.file.split("/")[1]]
    described = revstep.load(path, device="cpu").describe()["chosen"]
    assert [c["rewrites"] for c in described] == [["conv_2d"]] * 2
    flip(path / one.file, 900)
    again = chosen(path, batch=(1, 4))  # makes it anew
    assert [e.file for e in again] == [one.file] * 2
    assert Bundle.open(path).compiled[-2:] == again


def test_fp32_replaces_every_winner_of_its_rows_and_bf16_its_own(tabular_bundle, copy_of, alone):
    path = copy_of(tabular_bundle)
    for rows in (1, 4):
        put_winner(path, rows)
        put_winner(path, rows, precision="bf16", runtime="openvino")
    chosen(path, batch=4)
    left = [(e.batch[1], e.precision) for e in Bundle.open(path).compiled if e.target == "cpu"]
    assert sorted(left) == [(1, "bf16"), (1, "fp32"), (4, "fp32")]


WRONG = {
    "raises": ("raise RuntimeError('no such kernel')", "pass", "failed", "no such kernel"),
    "wrong numbers": ("buffers.out[:] *= 1.1", "pass", "wrong", "one forward pass differs"),
    "NaN": ("buffers.out[:] = float('nan')", "pass", "wrong", "NaN or infinity"),
    "aborts": ("print('bad primitive', file=sys.stderr, flush=True); os.abort()", "pass",
               "crashed", r"\(SIGABRT\).*bad primitive"),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", "pass", "crashed", r"\(SIGKILL\)"),
    "exits": ("os._exit(7)", "pass", "crashed", "exit code 7"),
    "refuses": ("pass", "raise ImportError('libtbb.so.12')", "failed", "libtbb"),
    "dies while it opens": ("pass", "os.abort()", "crashed", "SIGABRT"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_candidate_that_goes_wrong_is_recorded_and_the_others_go_on(
    case, tabular_bundle, copy_of, fake
):
    call, opened, status, reason = WRONG[case]
    fake(call, opened)
    (entry,) = chosen(copy_of(tabular_bundle), batch=4)
    assert entry.runtime == "onnxruntime"
    first = of(entry, "openvino")[0]
    assert first["status"] == status
    assert re.search(reason, first["reason"])


def test_what_a_candidate_prints_is_no_answer(tabular_bundle, copy_of, fake):
    fake(call="os.write(1, b'{\"ok\": 1}\\n'); print('hello', flush=True)")
    (entry,) = chosen(copy_of(tabular_bundle), batch=4)
    assert of(entry, "openvino")[0]["status"] in ("chosen", "tied", "slower")


def test_what_is_printed_as_its_interpreter_starts_is_no_answer(
    tabular_bundle, copy_of, alone, monkeypatch
):
    monkeypatch.setattr(process, "MAIN", "print('welcome', flush=True)\n" + process.MAIN)
    (entry,) = chosen(copy_of(tabular_bundle), batch=4)
    assert entry.runtime == "onnxruntime"


def test_a_parents_path_of_any_kind_is_its_own(tabular_bundle, copy_of, alone, monkeypatch):
    path = copy_of(tabular_bundle)
    folder = path.parent / "shadow"
    folder.mkdir()
    (folder / "json.py").write_text("raise SystemExit('not mine')")
    monkeypatch.chdir(folder)  # what `python -c` would look into
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, folder / "a Path, which imports pass over"])
    (entry,) = chosen(path, batch=4)
    assert entry.runtime == "onnxruntime"


@pytest.mark.parametrize("none", [None, ""])
def test_without_an_interpreter_it_says_so(none, tabular_bundle, copy_of, alone, monkeypatch):
    monkeypatch.setattr(sys, "executable", none)
    with pytest.raises(CompileError, match="can't be started: this is no Python interpreter"):
        chosen(copy_of(tabular_bundle))


def test_the_patience_for_many_rows_is_their_own():
    asked = []

    class Slow:
        def ask(self, limit, /, **request):
            asked.append(limit)

    one = ProcessTrack(Path(), None, None, lambda: False, Path())
    candidate = Candidate(threads=1)
    one._processes[candidate] = Slow()
    for rows in (1, 16, 1):
        one._ask(candidate, "time", rows=rows, seconds=1.0)
    assert asked == [track.FIRST, track.FIRST, track.LEAST]


def test_one_that_hangs_is_given_up(tabular_bundle, copy_of, fake, monkeypatch):
    monkeypatch.setattr(track, "LEAST", 2.0)
    monkeypatch.setattr(track, "PATIENCE", 1.0)
    fake(call="time.sleep(1000)")
    (entry,) = chosen(copy_of(tabular_bundle), batch=4)
    hung = of(entry, "openvino")[0]
    assert hung["status"] == "hung"
    assert re.match(r"gave no answer within [2-9] s", hung["reason"])  # by how fast the others are


def test_one_that_stops_in_the_middle_does_not_win(tabular_bundle, copy_of, fake):
    late = "Fake.calls = getattr(Fake, 'calls', 0) + 1; Fake.calls > 500 and os._exit(3)"
    fake(call=late)
    (entry,) = chosen(copy_of(tabular_bundle), batch=4)
    assert entry.runtime == "onnxruntime"
    assert of(entry, "openvino")[0]["status"] == "crashed"


def test_where_nothing_passes_the_bundle_stays(tabular_bundle, copy_of, monkeypatch, alone):
    monkeypatch.setattr(process, "MAIN", BROKEN + process.MAIN)
    path = copy_of(tabular_bundle)
    before = snapshot(path)
    with pytest.raises(CompileError, match=r"nothing runs .* the bundle is unchanged:\n  onnxr"):
        chosen(path)
    assert snapshot(path) == before


def test_a_wrong_decoder_fails_the_compile(image_bundle, copy_of, alone):
    path = copy_of(image_bundle)
    change_weight(path, scale_one, name="decoder.onnx")
    before = snapshot(path)
    with pytest.raises(ParityError, match="the decoder differs from the reference"):
        chosen(path)
    assert snapshot(path) == before


def test_bounds_decide(tabular_bundle, copy_of, alone):
    path = copy_of(tabular_bundle)
    with pytest.raises(CompileError, match="wrong: one forward pass differs"):
        chosen(path, bounds={"forward": 1e-12})
    with pytest.raises(CompileError, match="wrong: a DDIM-20 run differs"):
        chosen(path, bounds={"ddim20": 1e-12})


def test_without_any_runtime_the_extras_are_named(tabular_bundle, monkeypatch):
    monkeypatch.setattr(plan, "installed", list)
    with pytest.raises(BackendError, match=r"'revstep\[cpu\]' or 'revstep\[openvino\]'"):
        chosen(tabular_bundle)


def test_bf16_is_refused_where_nothing_has_it(tabular_bundle, monkeypatch, alone):
    monkeypatch.setattr(plan, "has_bf16", lambda: True)
    with pytest.raises(BackendError, match=r"needs OpenVINO.*pip install 'revstep\[openvino\]'"):
        chosen(tabular_bundle, precision="bf16")
    monkeypatch.setattr(plan, "has_bf16", lambda: False)
    with pytest.raises(CompileError, match="multiplies no bf16"):
        chosen(tabular_bundle, precision="bf16")


def test_auto_says_that_there_is_no_bf16(tabular_bundle, copy_of, monkeypatch, alone):
    monkeypatch.setattr(plan, "has_bf16", lambda: False)
    (entry,) = chosen(copy_of(tabular_bundle), precision="auto", batch=4)
    assert entry.precision == "fp32"
    reasons = {c["precision"]: c.get("reason") for c in of(entry, "openvino")}
    assert reasons["bf16"] == "this processor multiplies no bf16"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threads": 0}, ValueError, "threads=0 is out of range"),
        ({"threads": 4096}, ValueError, "1 to [0-9]+, what this process may use"),
        ({"seconds": 0.0}, ValueError, "seconds=0.0 is out of range"),
        ({"batch": 4000}, ValueError, "batch 4000 is outside"),
        ({"batch": (1, 0)}, ValueError, "batch profile|1 <= min"),
        ({"precision": "int8"}, ValueError, "precision='int8': int8 is not offered.*64.9"),
        ({"precision": "fp16"}, ValueError, "unknown precision 'fp16'; .*allowed: fp32, bf16, au"),
        ({"bounds": {"forwards": 1.0}}, ValueError, "did you mean 'forward'"),
    ],
)
def test_a_wrong_argument_names_what_is_allowed(tabular_bundle, options, error, message):
    before = snapshot(tabular_bundle)
    with pytest.raises(error, match=message):
        chosen(tabular_bundle, **options)
    assert snapshot(tabular_bundle) == before


def test_a_damaged_bundle_is_not_compiled(tabular_bundle, copy_of):
    path = copy_of(tabular_bundle)
    flip(path / "denoiser.fp32.onnx", 2000)
    with pytest.raises(BundleError, match="sha256"):
        chosen(path)


def test_a_full_disk_leaves_the_bundle(tabular_bundle, copy_of, monkeypatch, alone):
    path = copy_of(tabular_bundle)
    before = snapshot(path)
    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(CompileError, match=r"No space left.*unchanged"):
        chosen(path)
    assert snapshot(path) == before


def test_progress_counts_to_the_end(tabular_bundle, copy_of, alone):
    calls = []
    chosen(copy_of(tabular_bundle), progress=lambda *args: calls.append(args))
    done = [d for _, d, _ in calls]
    assert done == sorted(done)
    assert (done[0], calls[-1][1]) == (0, calls[-1][2])


def test_it_can_be_cancelled(tabular_bundle, copy_of, fake):
    fake(call="time.sleep(1000)")
    path = copy_of(tabular_bundle)
    before, begun = snapshot(path), time.monotonic()
    with pytest.raises(Cancelled, match="unchanged"):
        chosen(path, cancelled=lambda: time.monotonic() - begun > 2.0)
    assert time.monotonic() - begun < 30
    assert snapshot(path) == before


HANGING = """
import sys
sys.path.insert(0, sys.argv[2])
from fake_runtime import FAKE
from revstep.export.targets.cpu import plan, process
plan.installed = lambda: ["onnxruntime", "openvino"]
pid = "open(sys.path[-1] + '/pid', 'w').write(str(os.getpid())) and time.sleep(1000)"
process.MAIN = FAKE.format(call=pid, opened="pass") + process.MAIN
sys.path.append(sys.argv[3])
sys.argv = ["revstep", "compile", sys.argv[1], "--target", "cpu", "--threads", "1"]
from revstep.cli import main
main()
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks processes up in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_its_processes_end_with_it(tabular_bundle, copy_of, tmp_path, how):
    path = copy_of(tabular_bundle)
    before = snapshot(path)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    support = os.path.dirname(fake_runtime.__file__)
    parent = subprocess.Popen(
        [sys.executable, "-c", HANGING, path, support, str(tmp_path)],
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.DEVNULL,
    )
    pid = tmp_path / "pid"
    pid.touch()
    end = time.monotonic() + 60
    while not pid.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    child = int(pid.read_text())
    assert alive(child)
    parent.send_signal(how)
    code = parent.wait(timeout=30)
    end = time.monotonic() + 30
    while alive(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(child)
    assert snapshot(path) == before
    if how == signal.SIGINT:
        assert code == 130
        assert list(temporary.iterdir()) == []
