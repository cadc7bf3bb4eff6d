"""Several networks as one: which of them gets how many rows."""

import numpy as np
import pytest
from networks import NumpyDenoiser
from specs import spec_of

from revstep import Engine, NetworkBuffers
from revstep.engine.backends.chosen import Chosen, ChosenDenoiser


class Described(NumpyDenoiser):
    def __init__(self, spec, function, backend, threads):
        super().__init__(spec, function)
        self.described = {"backend": backend, "version": "1", "device": "cpu", "threads": threads}

    def describe(self):
        return self.described


@pytest.fixture
def three():
    spec = spec_of(shape=(2,), batch=(1, 32))

    def network(value):
        return lambda x, t, conditions: np.full_like(x, value)

    return {
        rows: Chosen(
            Described(spec, network(rows), backend, threads), {"precision": "fp32", "rewrites": []}
        )
        for rows, backend, threads in ((16, "b", 4), (1, "a", 1), (4, "a", 2))
    }


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, 1), (2, 4), (4, 4), (5, 16), (16, 16), (17, 16), (32, 16)]
)
def test_rows_go_to_the_smallest_number_that_holds_them_or_to_the_largest(three, rows, expected):
    chosen = ChosenDenoiser(three)
    buffers = NetworkBuffers.allocate(chosen.spec, rows)
    chosen.bind(buffers)()
    assert buffers.out[0, 0] == expected
    assert three[expected].denoiser.rows == [rows]  # nothing is padded


def test_describe_says_what_runs_how_many_rows(three):
    described = Engine(ChosenDenoiser(three)).describe()
    assert (described["backend"], described["threads"]) == ("a, b", 4)
    assert described["precision"] == "fp32"
    assert [(c["rows"], c["backend"], c["threads"]) for c in described["chosen"]] == [
        (1, "a", 1), (4, "a", 2), (16, "b", 4),
    ]  # fmt: skip


def test_one_choice_is_for_all_rows(three):
    one = ChosenDenoiser({4: three[4]})
    assert one.rows == (4,)
    for rows in (1, 9):
        buffers = NetworkBuffers.allocate(one.spec, rows)
        one.bind(buffers)()
        assert buffers.out[0, 0] == 4
