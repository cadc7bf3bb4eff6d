"""The grid of what is measured."""

import pytest

from revstep.bench.measure.cell import Cell, check_total, grid
from revstep.errors import ArgumentError


def test_a_grid_has_every_combination_and_keeps_an_engine_s_cells_together():
    cells = grid(Cell(guidance=2.0), backend=["a", "b"], batch=[1, 8, 1], steps=[5])
    assert [(c.backend, c.batch, c.steps, c.guidance) for c in cells] == [
        ("a", 1, 5, 2.0), ("a", 8, 5, 2.0), ("b", 1, 5, 2.0), ("b", 8, 5, 2.0),
    ]  # fmt: skip
    opened = [c.opened for c in cells]
    assert opened == sorted(opened)


def test_an_axis_without_values_leaves_the_base():
    assert grid(Cell(sampler="ddpm"), sampler=(), batch=[2]) == [Cell(sampler="ddpm", batch=2)]


def test_an_unknown_axis_is_refused():
    with pytest.raises(TypeError, match="axes"):
        grid(Cell(), colour=["red"])


def test_a_grid_that_takes_too_long_says_how_long_and_what_would_fit():
    cells = grid(Cell(), batch=list(range(1, 13)))
    check_total(cells, 10.0, 135.0, 15.0)
    check_total(cells, 10.0, None, 15.0)
    with pytest.raises(ArgumentError, match=r"12 cells .* up to 135 s, more than --total 75: .*"
                       r"--seconds 5, or --total 135"):  # fmt: skip
        check_total(cells, 10.0, 75.0, 15.0)


def test_a_cell_goes_through_json_and_is_named_shortly():
    import json

    cell = Cell(backend="openvino", sampler="ddim", options={"eta": 0.5}, steps=4, batch=2)
    assert Cell(**json.loads(json.dumps(cell.to_dict()))) == cell
    assert str(cell) == "openvino ddim 4 steps batch 2"
