"""The floors of the house are drawn from its imports, and a run's files are those it enters."""

import re
import sys
import types
from pathlib import Path

import pytest

pytest.importorskip("grimp", reason="grimp, of import-linter, is not installed")

from suites.house import floors
from suites.house.run_path import follow

ROOT = Path(__file__).parents[2]


def _rooms(**imports):
    return {room: frozenset(used.split()) for room, used in imports.items()}


def test_a_room_stands_one_floor_above_the_highest_that_it_imports():
    rooms = _rooms(top="low middle", middle="low", low="", beside="low")
    assert floors.floors_of(rooms) == [["low"], ["beside", "middle"], ["top"]]


def test_rooms_in_a_circle_are_named():
    with pytest.raises(ValueError, match="stand on each other: one, two"):
        floors.floors_of(_rooms(one="two", two="one", low=""))


def test_an_import_that_others_imply_is_not_drawn():
    drawn = floors.nearest_only(_rooms(top="low middle", middle="low", low=""))
    assert drawn == {"top": {"middle"}, "middle": {"low"}, "low": set()}


def test_every_arrow_points_down_and_the_picture_is_the_committed_one():
    house = floors.read_house()
    floor = {room: number for number, rooms in enumerate(house.floors) for room in rooms}
    assert all(floor[used] < floor[room] for room, below in house.imports.items() for used in below)
    committed = (ROOT / floors.PICTURE).read_text(encoding="utf-8")
    assert committed == floors.draw(house), "run: python -m suites.house.floors"


def test_a_followed_call_names_the_files_and_functions_that_it_enters(tmp_path):
    (tmp_path / "inner.py").write_text("def low():\n    return 1\n")
    (tmp_path / "idle.py").write_text("def idle():\n    return 2\n")
    (tmp_path / "outer.py").write_text("def high(low):\n    return low() + 1\n")
    modules = {}
    for name in ("inner", "idle", "outer"):
        modules[name] = types.ModuleType(name)
        source = tmp_path / f"{name}.py"
        exec(compile(source.read_text(), str(source), "exec"), vars(modules[name]))
    before = sys.getprofile()
    path = follow(lambda: modules["outer"].high(modules["inner"].low), tmp_path)
    assert path.functions == {Path("outer.py"): {"high"}, Path("inner.py"): {"low"}}
    assert list(path.functions) == [Path("outer.py"), Path("inner.py")]
    assert sys.getprofile() is before


def _reading_list():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## One CPU run, to read")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)


def test_the_newcomers_path_is_what_a_run_goes_through(policy_bundle):
    import revstep
    from revstep.engine.program.kept import KEPT

    def run():
        KEPT.clear()  # so that the program is traced
        revstep.load(policy_bundle, device="cpu").sample(2, sampler="ddim", steps=5)

    run()
    path = follow(run, Path(revstep.__file__).parent)
    listed = _reading_list()
    entered = {str(file): len(functions) for file, functions in path.functions.items()}
    assert 15 <= len(listed) <= 24
    assert len(listed) == len(set(listed))
    assert set(listed) <= set(entered) | {"kernels/reference.py"}
    read = sum(entered.get(name, 0) for name in listed)
    assert read >= 0.5 * sum(entered.values()), sorted(set(entered) - set(listed))
