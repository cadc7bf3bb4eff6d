"""Cells of small bundles, and what a test's baselines are made of."""

import pytest

import revstep
from revstep.bench.baselines.protocol import Given
from revstep.bench.baselines.source import Source
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.measure import Work
from revstep.engine.bundle.reader import Bundle


@pytest.fixture(scope="session")
def engine_of():
    """A function: the engine of a bundle's path, opened once."""
    opened = {}

    def engine(path):
        if path not in opened:
            opened[path] = revstep.load(path, threads=1)
        return opened[path]

    return engine


@pytest.fixture
def given_of(engine_of):
    """A function: what a cell's baselines are made of; ``module`` is what the bundle was of."""

    def given(path, module=None, source=None, **fields):
        engine = engine_of(path)
        work = Work.of(Bundle.open(path), Cell(**{"batch": 2, "steps": 4, **fields}), engine)
        if module is not None:
            source = Source(engine.spec)
            vars(source)["module"] = module
        return Given.of(work, source)

    return given
