"""The search on a track whose times are made up: who is tried, who drops out, who wins."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revstep.export.targets.cpu.candidate import Candidate, Refused
from revstep.export.targets.cpu.choose import status_of
from revstep.export.targets.cpu.protocol import Plan
from revstep.export.targets.cpu.search import Search
from revstep.export.targets.cpu.timing import Block

ALL = ("conv", "mish", "norm")


class FakeTrack:
    """Calls take ``ms(candidate, rows)``, with noise, on a clock of its own.

    ``fails`` maps (method, candidate) to what it raises.
    """

    def __init__(self, ms, noise=0.0, fails=lambda method, candidate: None):
        self.ms = ms
        self.fails = fails
        self.effective = lambda rewrites: rewrites
        self.noise = noise
        self.rng = np.random.default_rng(0)
        self.opened = []
        self.alive = set()
        self.most = 0
        self.proven = []
        self.seconds = 0.0

    def _may_fail(self, method, candidate):
        if (refused := self.fails(method, candidate)) is not None:
            raise refused

    def form(self, rewrites):
        return self.effective(tuple(rewrites))

    def open(self, candidate):
        self.opened.append(candidate)
        self.alive.add(candidate)
        self.most = max(self.most, len(self.alive))
        self._may_fail("open", candidate)
        return "1.0", {"forward": {"error": 1e-7, "bound": 1e-4}}

    def prove(self, candidate):
        assert candidate in self.alive
        self._may_fail("prove", candidate)
        self.proven.append(candidate)
        return {"ddim20": {"error": 1e-7, "bound": 1e-3}}

    def time(self, candidate, rows, seconds):
        assert candidate in self.alive
        self._may_fail("time", candidate)
        one = self.ms(candidate, rows) * 1e-3 * np.exp(self.noise * self.rng.standard_normal())
        calls = max(1, int(seconds / one))
        self.seconds += calls * one
        return Block(one, one, one, calls, calls * one)

    def close(self, candidate):
        self.alive.discard(candidate)


def search(track, *, runtimes=("onnxruntime", "openvino"), precisions=("fp32",), rewrites=ALL,
           threads=(4, 2, 1), rows=(1, 16), seconds=10.0, alive=6):  # fmt: skip
    families = [(r, p, form) for p in precisions for form in ((), rewrites) for r in runtimes]
    plan = Plan(families=tuple(dict.fromkeys(families)), threads=threads, rows=rows,
                seconds=seconds, alive=alive)  # fmt: skip
    made = Search(plan, track)
    made.run()
    assert track.alive == set()
    assert track.most <= alive + 2
    return made


def by_threads(one):
    """Rows share the threads but for a fixed cost that grows with them."""
    return lambda c, rows: one(c, rows) * (rows / c.threads + 0.3 * c.threads)


def pays(**gains):
    """Each rewrite multiplies the time by its gain."""
    return by_threads(lambda c, rows: np.prod([gains[name] for name in c.rewrites]))


def test_the_fastest_wins_for_each_number_of_rows():
    ms = by_threads(lambda c, rows: 1.0 if c.runtime == "onnxruntime" else 3.0 / rows**0.5)
    made = search(FakeTrack(ms, noise=0.02), rewrites=())
    one, sixteen = (made.winner(rows, "fp32").candidate for rows in (1, 16))
    assert (one.runtime, one.threads) == ("onnxruntime", 2)
    assert (sixteen.runtime, sixteen.threads) == ("openvino", 4)


def test_of_equals_the_simplest_wins():
    made = search(FakeTrack(lambda c, rows: 1.0, noise=0.005))
    assert made.winner(1, "fp32").candidate == Candidate(threads=1)
    made = search(FakeTrack(lambda c, rows: 1.0, noise=0.005), precisions=("fp32", "bf16"))
    assert made.winner(1, "fp32", "bf16").candidate == Candidate(threads=1)


@pytest.mark.parametrize("seconds", [0.01, 0.5, 20.0])
@pytest.mark.parametrize("gain", [0.55, 1.8])
def test_the_winners_of_two_precisions_are_compared_in_rounds_of_their_own(gain, seconds):
    """However short the time: bf16's heats may end before fp32's winner has run much."""

    def one(candidate, rows):
        half = candidate.precision == "bf16"
        rewritten = 0.97 ** len(candidate.rewrites)
        return (gain if half else 1.0 + 0.3 * (candidate.runtime == "openvino")) * rewritten * rows

    made = search(
        FakeTrack(one, noise=0.02), precisions=("fp32", "bf16"), rows=(1, 16, 32), seconds=seconds
    )
    for rows in (1, 16, 32):
        fp32, bf16 = made.winner(rows, "fp32"), made.winner(rows, "bf16")
        assert made.winner(rows, "fp32", "bf16") is (bf16 if gain < 1.0 else fp32)


def test_a_rewrite_that_does_not_pay_is_left_out():
    made = search(FakeTrack(pays(conv=0.5, mish=1.0, norm=0.7), noise=0.01))
    for rows in (1, 16):
        assert made.winner(rows, "fp32").candidate.rewrites == ("conv", "norm")


def test_a_rewrite_that_costs_more_than_the_others_gain_is_left_out():
    made = search(FakeTrack(pays(conv=0.9, mish=1.2, norm=1.0), noise=0.003))
    assert made.winner(16, "fp32").candidate.rewrites == ("conv",)


def test_a_rewrite_that_needs_another_goes_with_it():
    track = FakeTrack(pays(conv=1.0, mish=0.9, norm=0.5), noise=0.003)
    track.effective = lambda names: names if "conv" in names else tuple(
        name for name in names if name != "mish"
    )  # fmt: skip
    made = search(track)
    assert made.winner(16, "fp32").candidate.rewrites == ALL
    assert ("mish", "norm") not in {c.rewrites for c in track.opened}
    assert ("norm",) in {c.rewrites for c in track.opened}


def test_where_no_rewrite_pays_the_graph_stays_as_it_is():
    made = search(FakeTrack(pays(conv=1.0, mish=1.01, norm=1.0), noise=0.01))
    assert made.winner(16, "fp32").candidate.rewrites == ()


def test_slow_candidates_drop_out_before_the_rounds():
    slow = by_threads(lambda c, rows: 10.0 if c.runtime == "openvino" else 1.0)
    track = FakeTrack(slow, noise=0.02)
    made = search(track)
    assert all(c.runtime == "onnxruntime" for c in track.proven)
    dropped = [t for t in made.trials.values() if t.candidate.runtime == "openvino"]
    assert all(t.status in ("slower", "not tried") and not t.proven for t in dropped)
    timed = [len(t.blocks[1]) for t in dropped if t.blocks]
    assert set(timed) == {2}  # once, and once more to be sure


def test_fewer_threads_are_not_tried_where_that_gets_worse():
    track = FakeTrack(lambda c, rows: 1.0 / c.threads)
    made = search(track, threads=(8, 4, 2, 1), rewrites=())
    assert {c.threads for c in track.opened} == {8, 4}
    assert made.trials[Candidate(threads=1)].reason == "slower with 4 threads than with more"


@pytest.mark.parametrize("method", ["open", "prove", "time"])
@pytest.mark.parametrize("status", ["wrong", "failed", "crashed", "hung"])
def test_a_candidate_that_fails_is_out_and_the_others_go_on(method, status):
    def fails(what, candidate):
        bad = candidate.runtime == "openvino" and what == method
        return Refused(status, "it did") if bad else None

    fast = by_threads(lambda c, rows: 0.1 if c.runtime == "openvino" else 1.0)
    made = search(FakeTrack(fast, fails=fails))
    winner = made.winner(1, "fp32")
    assert winner.candidate.runtime == "onnxruntime"
    bad = made.trials[Candidate(runtime="openvino", threads=4)]
    assert (bad.status, bad.reason, bad.proven) == (status, "it did", False)
    assert status_of(bad, winner, 1) == status
    after = made.trials[Candidate(runtime="openvino", threads=2)]
    assert (after.status, after.reason) == ("not tried", f"{status} with 4 threads")


def test_one_that_fails_in_the_rounds_does_not_win():
    count = itertools.count()

    def fails(what, candidate):
        late = candidate.runtime == "openvino" and what == "time" and next(count) > 4
        return Refused("crashed", "SIGKILL") if late else None

    fast = by_threads(lambda c, rows: 0.9 if c.runtime == "openvino" else 1.0)
    made = search(FakeTrack(fast, fails=fails), rewrites=(), threads=(1,))
    assert made.winner(16, "fp32").candidate.runtime == "onnxruntime"
    assert made.trials[Candidate(runtime="openvino", threads=1)].status == "crashed"


def test_where_everything_fails_nothing_wins():
    made = search(FakeTrack(lambda c, rows: 1.0, fails=lambda *_: Refused("wrong", "NaN")))
    assert made.winner(1, "fp32") is None


def test_precisions_are_heats_of_their_own_and_the_default_needs_no_bf16():
    ms = by_threads(lambda c, rows: 0.4 if c.precision == "bf16" else 1.0)
    made = search(FakeTrack(ms, noise=0.02), precisions=("fp32", "bf16"), rewrites=())
    assert made.winner(16, "fp32").candidate.precision == "fp32"
    assert made.winner(16, "fp32", "bf16").candidate.precision == "bf16"


def test_the_time_is_kept_to():
    for noise in (0.0, 0.1):
        track = FakeTrack(by_threads(lambda c, rows: 5.0), noise=noise)
        search(track, seconds=4.0)
        assert track.seconds < 2 * 4.0


def test_a_search_reports_its_way_to_the_end():
    shares = []
    plan = Plan(families=(("onnxruntime", "fp32", ()), ("openvino", "fp32", ALL)), threads=(2, 1),
                rows=(1,), seconds=2.0, alive=4)  # fmt: skip
    Search(plan, FakeTrack(pays(conv=0.7, mish=0.9, norm=1.0)), lambda _, s: shares.append(s)).run()
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.5 < shares[-1] <= 1


@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(st.floats(0.2, 5.0), min_size=12, max_size=12),
    seed=st.integers(0, 1000),
    noise=st.sampled_from([0.0, 0.01, 0.03]),
    alive=st.integers(2, 6),
)
def test_the_choice_is_within_five_percent_of_the_best(times, seed, noise, alive):
    forms = [(r, form, n) for r in ("onnxruntime", "openvino") for form in ((), ("conv",))
             for n in (4, 2, 1)]  # fmt: skip
    table = dict(zip(forms, times, strict=True))
    track = FakeTrack(lambda c, rows: table[c.runtime, c.rewrites, c.threads], noise=noise)
    track.rng = np.random.default_rng(seed)
    made = search(track, rewrites=("conv",), alive=alive)
    tried = {c: track.ms(c, 1) for c in track.opened}
    chosen = made.winner(1, "fp32").candidate
    assert tried[chosen] <= min(tried.values()) * (1.05 + 5 * noise)


def test_what_is_faster_in_a_precision_that_was_not_asked_for_is_called_that():
    ms = by_threads(lambda c, rows: 4.0 if c.precision == "bf16" else 1.0)
    made = search(FakeTrack(ms), precisions=("fp32", "bf16"), rewrites=())
    chosen, default = made.winner(1, "bf16"), made.winner(1, "fp32")
    assert status_of(default, chosen, 1) == "faster"
    assert status_of(chosen, default, 1) == "slower"
    assert status_of(default, default, 1) == "chosen"
