"""What the questions share: one thread, the comparison, and bundles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from suites.questions.compare import Compare, processor_seconds


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has pytest-benchmark time the questions by processor time."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.benchmark(timer=processor_seconds))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """One torch thread, as everything here has."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def compare(benchmark: Any, pytestconfig: pytest.Config) -> Compare:
    """Times a task beside its baselines, for ``--benchmark-max-time`` seconds."""
    seconds = float(pytestconfig.getoption("benchmark_max_time"))
    return Compare(benchmark, seconds, int(pytestconfig.getoption("benchmark_min_rounds")))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Path]:
    """The bundle of a network of the CPU suite; the second argument asks for a tiny one."""
    folder = tmp_path_factory.mktemp("bundles")

    def exported(network: str, tiny: bool) -> Path:
        from revstep.export import export_module
        from suites.cpu.networks import make

        path = (
            folder / f"{network}{'-tiny' * (tiny and network != 'unet')}.revstep"
        )  # it is trained
        if not path.exists():
            module, spec = make(network, tiny=tiny)
            export_module(module, spec, path)
        return path

    return exported
