"""What can't run is refused by the spec alone."""

import pytest
import toys

from revstep.bench.measure.cell import Cell
from revstep.bench.measure.possible import check_cells
from revstep.errors import ArgumentError


def test_further_arguments_are_checked_too():
    check_cells(toys.TABULAR, [Cell(more={"final": "first", "compat": "diffusers"})])
    with pytest.raises(ArgumentError, match="final"):
        check_cells(toys.TABULAR, [Cell(more={"final": "nope"})])
    with pytest.raises(ValueError, match="kind of grid"):
        check_cells(toys.TABULAR, [Cell(more={"grid": {"kind": "nope"}})])
