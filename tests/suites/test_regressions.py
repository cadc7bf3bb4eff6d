"""A figure that has grown fails the check, which names it; what can't be compared says why."""

import dataclasses
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("packaging")

import revstep
from suites.regressions import __main__ as command
from suites.regressions import (
    callgrind,
    committed,
    dependencies,
    install_size,
    loop_calls,
    loop_tensors,
    modules,
    native_step,
    process,
    sample_call,
    wheel,
)
from suites.regressions.check import Verdict, compare
from suites.regressions.committed import FILE, Record
from suites.regressions.figure import CannotMeasure, Figure, Found, Group, Place
from suites.regressions.registry import GROUPS
from suites.regressions.report import PAGE, failure, lines_of

ROOT = Path(__file__).resolve().parents[2]
TREE = Path(revstep.__file__).resolve().parents[1]
HERE = Place(ROOT, TREE)
FIGURES = [(group, figure) for group in GROUPS.values() for figure in group.figures]
NOW = {"python": "3"}


def _grown(group, before, after):
    """The figures that fail by a growth from one measurement to another."""
    told = compare(group, after, NOW, Record(NOW, before))
    return {t.figure.name: t for t in told if t.verdict is Verdict.GROWN}


def _one(name="calls", value=100.0, *, share=0.02, names=None):
    found = Found({name: value}, {} if names is None else {name: names})
    return Group("loop", "a loop", (Figure(name, "calls", share),), lambda p: NOW, lambda p: found)


@pytest.mark.parametrize(
    ("group", "figure"), FIGURES, ids=[f"{g.name}-{f.name}" for g, f in FIGURES]
)
def test_every_figure_fails_when_it_grows_beyond_what_is_allowed(group, figure):
    (record,) = (r for r in committed.records_of(group, ROOT)[-1:])
    before = record.found
    most = figure.limit(before.values[figure.name])
    at_most = Found({**before.values, figure.name: most}, before.names)
    assert _grown(group, before, at_most) == {}
    beyond = Found({**before.values, figure.name: most + max(1e-3, 1e-6 * most)}, before.names)
    (told,) = _grown(group, before, beyond).values()
    text = failure(told)
    assert text.startswith(f"{group.name}: {figure.name} has grown: committed ")
    assert f"{figure.unit}; allowed growth {figure.allowed}" in text
    assert group.command in text


def test_a_failure_names_values_limit_names_and_the_command():
    group = _one(share=0.0)
    before, after = (Found({"calls": len(n)}, {"calls": n}) for n in (("a", "b"), ("a", "b", "c")))
    text = failure(_grown(group, before, after)["calls"])
    assert text == (
        "loop: calls has grown: committed 2, found 3 calls; allowed growth 0, so at most 2.\n"
        "  new: c\n"
        "  On purpose? Record it: python -m suites.regressions --record --only loop"
    )


def test_other_versions_are_named_and_do_not_fail():
    group, was = _one(), Record({"python": "2", "numpy": "1"}, Found({"calls": 1.0}))
    told = compare(group, Found({"calls": 9.0}), NOW, was)
    assert [(t.verdict, t.verdict.fails) for t in told] == [(Verdict.OTHER, False)]
    lines = "\n".join(lines_of(told, was, NOW))
    assert "9 (committed 1)  other versions" in lines
    assert "recorded with numpy 1, here none; python 2, here 3: not compared" in lines
    assert group.command in lines


def test_a_gain_is_told_and_what_was_never_recorded_or_is_gone_fails():
    group = _one()
    (smaller,) = compare(group, Found({"calls": 90.0}), NOW, Record(NOW, Found({"calls": 100.0})))
    assert smaller.verdict is Verdict.SMALLER
    assert not smaller.verdict.fails
    (new,) = compare(group, Found({"calls": 90.0}), NOW, None)
    assert new.verdict is Verdict.NEW
    assert "Record it: python -m suites.regressions" in failure(new)
    both = Record(NOW, Found({"calls": 90.0, "old": 1.0}))
    _, gone = compare(group, Found({"calls": 90.0}), NOW, both)
    assert gone.verdict is Verdict.GONE
    assert "old is committed (1), and no longer measured" in failure(gone)
    assert new.verdict.fails
    assert gone.verdict.fails


def test_a_value_that_is_no_number_fails():
    assert _grown(_one(), Found({"calls": 1.0}), Found({"calls": float("nan")}))


@pytest.fixture
def checkout(tmp_path):
    """A checkout without values, and with the page."""
    (tmp_path / "docs").mkdir()
    begin, end = (f"<!-- regressions figures: {word} -->\n" for word in ("begin", "end"))
    (tmp_path / PAGE).write_text(f"# Page\n\n{begin}{end}")
    return Place(tmp_path, TREE)


def test_what_is_recorded_then_holds_until_it_grows(checkout, capsys, monkeypatch):
    group = _one(names=("a", "b"))
    monkeypatch.setattr("suites.regressions.report.GROUPS", {"loop": group})
    assert command.check([group], checkout) == 1
    assert command.record([group], checkout) == 0
    assert "| loop | calls | 100 | calls | 2 % |" in (checkout.checkout / PAGE).read_text()
    assert command.check([group], checkout) == 0
    grown = dataclasses.replace(group, measure=lambda p: Found({"calls": 103.0}))
    assert command.check([grown], checkout) == 1
    assert "committed 100, found 103 calls" in capsys.readouterr().out


def test_records_of_several_versions_lie_beside_each_other(checkout):
    group, at = _one(), checkout.checkout
    for versions, value in ((NOW, 1.0), ({"python": "4"}, 2.0), (NOW, 3.0)):
        committed.write(group, at, versions, Found({"calls": value}))
    records = committed.records_of(group, at)
    assert len(records) == 2
    values = [
        committed.nearest(records, v).found.values["calls"] for v in (NOW, {"python": "4"}, {})
    ]
    assert values == [3.0, 2.0, 3.0]
    assert [p.name for p in (at / FILE).parent.iterdir()] == [FILE.name]


@pytest.mark.parametrize("text", ["{", "[]", '{"loop": [{"values": {}}]}', '{"loop": [1]}'])
def test_a_damaged_file_is_named_and_the_other_groups_are_checked(text, checkout, capsys):
    path = checkout.checkout / FILE
    path.parent.mkdir(parents=True)
    path.write_text(text)
    group = _one()
    assert command.check([group, group], checkout) == 1
    out = capsys.readouterr().out
    assert out.count(str(path)) == 2
    assert "git" in out


def test_a_damaged_file_is_refused_before_anything_is_measured(checkout):
    path = checkout.checkout / FILE
    path.parent.mkdir(parents=True)
    path.write_text("<<<<<<< HEAD\n{")
    measured = []
    group = dataclasses.replace(_one(), measure=measured.append)
    assert command.check([group], checkout) == 1
    assert measured == []


def test_a_damaged_record_is_replaced_by_a_new_one(checkout):
    path = checkout.checkout / FILE
    path.parent.mkdir(parents=True)
    path.write_text('{"loop": [1, {"values": {}}]}')
    assert command.record([_one()], checkout) == 0
    assert command.check([_one()], checkout) == 0


def test_an_interrupted_recording_keeps_what_was_recorded(checkout, monkeypatch):
    def interrupt(place):
        raise KeyboardInterrupt

    first, second = _one(), dataclasses.replace(_one(), name="other", measure=interrupt)
    monkeypatch.setattr("suites.regressions.report.GROUPS", {"loop": first, "other": second})
    with pytest.raises(KeyboardInterrupt):
        command.record([first, second], checkout)
    assert "| loop | calls | 100 | calls | 2 % |" in (checkout.checkout / PAGE).read_text()


def test_a_worker_that_hangs_is_ended(monkeypatch, tmp_path):
    (tmp_path / "wait.py").write_text("import time; time.sleep(60)\n")
    monkeypatch.setattr(process, "SECONDS", 0.2)
    with pytest.raises(RuntimeError, match=r"wait\.py did not end within 0\.2 s"):
        process.run(HERE, str(tmp_path / "wait.py"))


def test_what_can_not_be_measured_is_skipped_with_its_reason(checkout, capsys):
    def measure(place):
        raise CannotMeasure("no such tool; install it")

    group = dataclasses.replace(_one(), measure=measure)
    assert command.check([group], checkout) == 0
    assert command.record([group], checkout) == 1
    out = capsys.readouterr().out
    assert "skipped: no such tool; install it" in out
    assert "loop: not recorded: no such tool" in out


def test_a_worker_that_fails_fails_the_check(checkout, capsys):
    def measure(place):
        process.run(place, "suites.regressions.no_such_worker")

    assert command.check([dataclasses.replace(_one(), measure=measure)], checkout) == 1
    assert "no_such_worker" in capsys.readouterr().out


def test_an_interrupt_keeps_what_was_printed(monkeypatch, capsys):
    def measure(place):
        raise KeyboardInterrupt

    groups = {"dependencies": _one(), "modules": dataclasses.replace(_one(), measure=measure)}
    monkeypatch.setattr(command, "GROUPS", groups)
    assert command.main([]) == 130
    found = capsys.readouterr()
    assert "100 (committed none)" in found.out
    assert "interrupted" in found.err


def test_the_command_refuses_what_is_no_wheel_or_no_group(tmp_path, capsys):
    for arguments in (["--wheel", str(tmp_path / "none.whl")], ["--only", "speed"]):
        with pytest.raises(SystemExit, match="2"):
            command.main(arguments)
    err = capsys.readouterr().err
    assert "is no wheel; `make wheel` builds one" in err
    assert "invalid choice: 'speed'" in err


def test_the_gpu_kernels_are_recorded_by_their_own_command(checkout, capsys):
    group = dataclasses.replace(
        GROUPS["gpu_kernels"], measure=lambda p: Found({}), versions=lambda p: {}
    )
    assert command.record([group], checkout) == 1
    assert "recorded by: python -m suites.step.kernel_table" in capsys.readouterr().out


def test_the_committed_values_are_of_these_figures_and_the_page_shows_them():
    for group in GROUPS.values():
        for record in committed.records_of(group, ROOT):
            assert set(record.found.values) == {f.name for f in group.figures}, group.command
            for name, names in record.found.names.items():
                assert len(names) == record.found.values[name]
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    told = set(re.findall(r"^### `(\w+)`", page, re.MULTILINE))
    assert told == set(GROUPS)


# What each group measures, with a growth planted in the real thing.


@pytest.fixture
def planted(tmp_path):
    """Copies the package, with lines added to one of its files; gives the copy as a place."""

    def plant(file, lines):
        tree = tmp_path / "planted"
        shutil.copytree(TREE / "revstep", tree / "revstep", ignore=shutil.ignore_patterns("*.pyc"))
        with (tree / "revstep" / file).open("a") as source:
            source.write(f"\n\n{lines}\n")
        return Place(ROOT, tree)

    return plant


SLOWER_SAMPLE = """
_sample = Engine.sample


def _slower(self, *arguments, **options):
    for number in range(100):
        chr(number + 1000)
    return _sample(self, *arguments, **options)


Engine.sample = _slower
"""
STEPS_IN_PYTHON = """
_prepared = StepKernel.__init__


def _slower(self, *arguments, **options):
    _prepared(self, *arguments, **options)
    self.steps = partial(_steps, self.begin, lambda: self.step())


StepKernel.__init__ = _slower
"""
UNCHOSEN = """
_prepared = StepKernel.__init__


def _slower(self, buffers, *, backend=None, isa=None):
    _prepared(self, buffers, backend=backend, isa=isa or "scalar")


StepKernel.__init__ = _slower
"""


def test_a_module_imported_more_is_named(planted):
    place = planted("__init__.py", "import wave")
    grown = _grown(modules.GROUP, modules.measure(HERE), modules.measure(place))
    assert set(grown) == {"import revstep", "revstep.load", "first sample"}
    assert "wave" in grown["import revstep"].added


def test_the_check_fails_by_a_module_imported_more(planted, checkout, capsys):
    at = checkout.checkout
    assert command.record([modules.GROUP], checkout) == 0
    place = planted("__init__.py", "import wave")
    assert command.check([modules.GROUP], dataclasses.replace(place, checkout=at)) == 1
    out = capsys.readouterr().out
    assert "modules: import revstep has grown: committed " in out
    assert re.search(r"new: .*\bwave\b", out)


def test_the_command_runs_in_a_checkout_and_skips_what_it_was_not_given():
    done = subprocess.run(
        [sys.executable, "-m", "suites.regressions", "--only", "wheel"], text=True,
        env={"PYTHONPATH": f"{TREE}:{ROOT}"}, capture_output=True, check=True,
    )  # fmt: skip
    assert "skipped: no wheel was named" in done.stdout


def test_calls_added_to_a_sample_are_counted(planted):
    before = loop_calls.measure(HERE)
    grown = _grown(
        loop_calls.GROUP, before, loop_calls.measure(planted("engine/engine.py", SLOWER_SAMPLE))
    )
    sample = grown["sample, 20 steps: calls"]
    assert sample.found == sample.committed + 101  # chr, a hundred times, in one function


def test_steps_that_enter_python_are_counted(planted):
    before = loop_calls.measure(HERE)
    after = loop_calls.measure(planted("kernels/dispatch.py", STEPS_IN_PYTHON))
    assert "a further step: calls" in _grown(loop_calls.GROUP, before, after)


def test_bytes_kept_by_each_step_are_counted():
    from suites.regressions.counting import peak_bytes

    few, many = (peak_bytes(lambda n=n: [bytes(1000) for _ in range(n)]) for n in (10, 20))
    assert 10_000 <= many - few <= 11_000


def test_a_tensor_made_in_each_step_is_counted():
    torch = pytest.importorskip("torch")
    from suites.regressions import tensors_work

    class Wasteful(tensors_work.Nothing):
        def bind(self, buffers):
            return lambda: torch.zeros(1)

    for way, options in tensors_work.WAYS.items():
        counted = (tensors_work.count(tensors_work.engine_of(n, **options))
                   for n in (tensors_work.Nothing, Wasteful))  # fmt: skip
        before, after = (
            Found({f"{way}, {f.name}": c[key] for f, key in loop_tensors.KEYS.items()})
            for c in counted
        )
        group = dataclasses.replace(
            loop_tensors.GROUP,
            figures=tuple(f for f in loop_tensors.GROUP.figures if f.name.startswith(way)),
        )
        name = f"{way}, a further step: operations of torch"
        assert before.values[name] == 0
        assert name in _grown(group, before, after)


def _wheel(folder, *, needs=(), padding=0):
    path = folder / f"revstep-{len(list(folder.iterdir()))}-py3-none-any.whl"
    lines = ["Metadata-Version: 2.4", "Name: revstep", *(f"Requires-Dist: {n}" for n in needs)]
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("revstep/a.py", b"x" * 10_000)
        made.writestr("revstep/kernels/_native.so", b"GCC: (Planted) 1.2.3" + b"y" * padding)
        made.writestr("revstep-1.dist-info/METADATA", "\n".join(lines))
    return Place(ROOT, TREE, path)


def test_bytes_added_to_the_wheel_and_its_library_are_counted(tmp_path):
    small, large = _wheel(tmp_path), _wheel(tmp_path, padding=500)
    grown = _grown(wheel.GROUP, wheel.measure(small), wheel.measure(large))
    assert set(grown) == {"wheel", "native kernels"}
    assert wheel.versions(small) == {"tag": "py3-none-any", "compiler": "GCC: (Planted) 1.2.3"}


def test_a_requirement_added_to_the_cpu_service_is_named_and_its_size_counted(tmp_path):
    pytest.importorskip("scipy")
    before = _wheel(tmp_path, needs=["numpy>=1", "scipy; extra == 'bench'"])
    after = _wheel(tmp_path, needs=["numpy>=1", "scipy; extra == 'cpu'"])
    name = "revstep[cpu]"
    grown = _grown(dependencies.GROUP, dependencies.measure(before), dependencies.measure(after))
    assert grown[name].added == ("scipy",)
    sizes = [install_size.measure(place) for place in (before, after)]
    assert _grown(install_size.GROUP, *sizes)[name].found > 30
    assert set(install_size.versions(after)) == {"numpy", "scipy"}


def test_the_size_of_a_wheel_needs_one_and_the_service_what_it_requires(tmp_path):
    with pytest.raises(CannotMeasure, match="no wheel was named: `make bench-check` builds one"):
        wheel.measure(HERE)
    with pytest.raises(CannotMeasure, match=r"no-such-library is not installed \(pip install"):
        dependencies.measure(_wheel(tmp_path, needs=["no-such-library; extra == 'cpu'"]))


SLOWER_BEGIN = ("    time = first(", "    row = row + (step * step + step) // 3\n    time = first(")


def test_instructions_added_to_a_gpu_kernel_are_counted(planted):
    pytest.importorskip("triton")
    from suites.regressions import gpu_kernels

    place = planted("kernels/gpu/step.py", "")
    source = place.tree / "revstep" / "kernels" / "gpu" / "step.py"
    text = source.read_text()
    assert SLOWER_BEGIN[0] in text
    source.write_text(text.replace(*SLOWER_BEGIN, 1))
    before, after = (
        Found(gpu_kernels.values_of(process.answer(p, gpu_kernels.WORKER, "begin_step")))
        for p in (HERE, place)
    )
    group = dataclasses.replace(
        gpu_kernels.GROUP,
        figures=tuple(f for f in gpu_kernels.GROUP.figures if f.name in before.values),
    )
    assert len(before.values) == 12
    grown = _grown(group, before, after)
    assert {f"begin_step, sm_{c}: instructions" for c in (80, 90, 100, 120)} <= set(grown)


@pytest.fixture
def counted():
    try:
        callgrind.check_machine()
    except CannotMeasure as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
@pytest.mark.usefixtures("counted")
def test_instructions_and_allocations_added_to_a_sample_are_counted(planted):
    places, every = (HERE, planted("engine/engine.py", SLOWER_SAMPLE)), {"PYTHONMALLOC": "malloc"}
    before, after = (
        callgrind.costs(place, sample_call.WORKER, {"sample": 20}, settings=every)["sample"]
        for place in places
    )
    assert sample_call.FIGURES[0].limit(before.instructions) < after.instructions
    assert before.allocations + 100 <= after.allocations <= before.allocations + 250  # 100 strings


@pytest.mark.slow
@pytest.mark.usefixtures("counted")
def test_instructions_of_kernels_without_vectors_are_counted(planted):
    counts = {"avx2, DDIM": 5}
    place = planted("kernels/dispatch.py", UNCHOSEN)
    before, after = (
        callgrind.costs(p, native_step.WORKER, counts)["avx2, DDIM"].instructions
        for p in (HERE, place)
    )
    assert native_step.FIGURES[0].limit(before) < after


@pytest.mark.slow
@pytest.mark.usefixtures("counted")
def test_instructions_are_those_of_the_calls_alone():
    few, many = (
        callgrind.costs(HERE, native_step.WORKER, {"avx2, DDPM": n})["avx2, DDPM"] for n in (5, 40)
    )
    assert few.instructions == pytest.approx(many.instructions, rel=0.02)


def test_allocations_are_read_from_every_caller():
    text = """\
fn=(1) work
16 400
cfn=(2) malloc
calls=3 10
16 90
cfn=(3) other
calls=50 11
* 9
fn=(3)
7 1
cfn=(2)
calls=4 10
* 12
cfn=(4) malloc'2
calls=2 10
* 12
cfn=(5) calloc
calls=1 10
* 12

totals: 5321
"""
    assert callgrind.read_counts(text) == (5321, 10)
    with pytest.raises(ValueError, match="no totals"):
        callgrind.read_counts("fn=(1) work\n")


def test_without_valgrind_the_counts_are_skipped_with_what_installs_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    for measure in (native_step.measure, sample_call.measure):
        with pytest.raises(CannotMeasure, match="apt-get install valgrind"):
            measure(HERE)


def test_a_worker_sees_the_same_environment_and_the_package_that_is_measured(monkeypatch, planted):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    place = planted("__init__.py", "")
    script = place.tree / "look.py"
    script.write_text(
        "import json, os, revstep\n"
        "names = ('OMP_NUM_THREADS', 'PYTHONOPTIMIZE', 'PYTHONHASHSEED')\n"
        "print('noise')\n"
        "print(json.dumps([revstep.__file__, *(os.environ.get(n) for n in names)]))\n"
    )
    file, *found = process.answer(place, str(script))
    assert Path(file).is_relative_to(place.tree)
    assert found == ["1", None, "0"]
