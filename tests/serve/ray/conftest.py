"""A real Ray cluster on this machine, one for all tests of this folder."""

import os

import pytest


@pytest.fixture(scope="session")
def cluster():
    """The cluster; its tests are slow."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=256 << 20,
    )
    yield ray
    ray.shutdown()
