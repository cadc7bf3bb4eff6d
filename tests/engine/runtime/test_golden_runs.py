"""Runs give the bytes of the recorded commits, on the CPU and through the GPU's path.

``tests/support/golden_runs.py`` says what runs, and writes the file of hashes.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from golden_runs import (
    all_cases,
    differences,
    engines,
    host_engine,
    network,
    outcome,
    places_of,
    recorded,
)

import revstep

GROUPS = recorded()


def device_engine(spec, **options):
    """The same network on the GPU's runtime, with torch on the CPU."""
    torch = pytest.importorskip("torch")
    from revstep.engine.backends.module.denoiser import TorchModuleDenoiser
    from suites.torch_host import torch_host_runtime

    class Rows(torch.nn.Module):
        def forward(self, x, t, *conditions):
            held = [c.to(torch.float32) for c in conditions]
            mean, variance = network(x, t, held, torch.from_numpy(places_of(spec.shape)))
            return torch.cat([mean, variance], dim=1) if spec.learned_variance else mean

    denoiser = TorchModuleDenoiser(Rows().eval(), spec)
    return revstep.Engine(torch_host_runtime(denoiser, warm_up=False), **options)


def test_the_file_holds_every_case():
    assert {g: list(runs) for g, runs in GROUPS.items()} == {
        g: list(cases) for g, cases in all_cases().items()
    }


@pytest.mark.parametrize("group", GROUPS)
def test_runs_give_the_recorded_bytes(group):
    found = differences(group, GROUPS[group])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("group", GROUPS)
def test_the_gpus_path_gives_the_recorded_bytes(group):
    found = differences(group, GROUPS[group], device_engine)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("make", [host_engine, device_engine])
def test_runs_in_threads_give_the_recorded_bytes(make):
    cases, engine = list(all_cases()["one engine"].values()), engines(make)
    engine(cases[0].setup())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: outcome(case, engine), cases[::-1]))
    assert {c.name: o for c, o in zip(cases[::-1], found, strict=True)} == GROUPS["one engine"]


def test_the_networks_row_has_the_same_bits_in_any_batch():
    spec = all_cases()["one engine"]["ddim, 0"].setup().spec
    shape = (5, *spec.shape)
    x = np.linspace(-3.0, 3.0, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    t = np.float32([999.0, 1.0, 0.0, 500.0, 12.25])
    shifts = [np.float32([[0.1, 0.7]] * 5), t]
    whole, _ = network(x, t, shifts, places_of(spec.shape))
    for row in range(5):
        cut = slice(row, row + 1)
        one, _ = network(x[cut], t[cut], [c[cut] for c in shifts], places_of(spec.shape))
        np.testing.assert_array_equal(one, whole[cut])
