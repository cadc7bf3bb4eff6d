"""The suite that tries the benchmark's verdicts: its sides, and its rows."""

import itertools
import json

from revstep.bench.rows import read_rows
from suites.verdicts import measure
from suites.verdicts.sides import Slowed

ROWS = measure.ROOT / "bench" / "results" / "verdicts.jsonl"


class Ticking:
    """A clock that goes on by one at every look."""

    def __init__(self):
        self.looks = itertools.count()

    def __call__(self):
        return float(next(self.looks))


class Nothing:
    spec = "the engine's own"

    def __init__(self, clock):
        self.clock = clock

    def sample(self, batch, *, seed):
        for _ in range(19):
            self.clock()
        return batch, seed


def test_a_slowed_engine_spins_for_a_share_of_its_run():
    clock = Ticking()
    slowed = Slowed(Nothing(clock), 0.5, clock)
    assert slowed.sample(3, seed=7) == (3, 7)
    assert slowed.spec == "the engine's own"
    assert next(clock.looks) == 1 + 19 + 1 + 10  # a run of 20 looks, then half as many


def test_two_rows_of_a_trial_count_what_was_right(tmp_path, capsys):
    path = tmp_path / "verdicts.jsonl"
    words = ["--tries", "1", "--openings", "2", "--seconds", "0.01", "--steps", "1"]
    measure.main([*words, "--output", str(path)])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["planted"] for row in rows] == [0.0, 0.05]
    for row in rows:
        (one,) = row["each"]
        assert len(one["openings"]) == 2
        assert row["verdicts"][one["verdict"]] == 1
        assert row["right"] == (one["verdict"] in measure.RIGHT[row["planted"]])
    assert "5% slower: " in capsys.readouterr().out


def test_the_committed_tries_were_right_as_often_as_they_must():
    equal, slower = read_rows(ROWS)[-2:]
    assert (equal["planted"], equal["tries"]) == (0.0, 20)
    assert (slower["planted"], slower["tries"]) == (0.05, 20)
    for row in (equal, slower):
        found = [one["verdict"] in measure.RIGHT[row["planted"]] for one in row["each"]]
        assert row["right"] == sum(found)
        assert row["right"] >= {0.0: 19, 0.05: 18}[row["planted"]]
