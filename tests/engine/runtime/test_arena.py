"""The program arena: cached, counted, never written where somebody reads."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from revstep import DenoiserSpec, build_program  # noqa: E402
from revstep.engine.runtime.arena import ProgramArena  # noqa: E402
from revstep.errors import CapacityError  # noqa: E402
from revstep.kernels import columns as col  # noqa: E402
from revstep.schedules import VPSchedule  # noqa: E402
from suites.torch_host import TorchHost, torch_host_runtime  # noqa: E402

SPEC = DenoiserSpec(shape=(2,), schedule=VPSchedule(), prediction="epsilon")


def program(steps):
    return build_program(SPEC, "ddim", steps)


def arena(rows=64):
    return ProgramArena(TorchHost(), rows)


def use(arena, program):
    arena.acquire(program)
    arena.release(program)


def rows_of(arena, base, program):
    return arena.table[base : base + len(program.table)].numpy()


def test_row_0_is_the_idle_slots_identity():
    row = arena().table[0].numpy()
    assert row[col.ACTIVE] == 0
    assert row[col.C_X] == row[col.C_IN] == 1


def test_the_same_content_is_held_once():
    a = arena()
    first, again = a.acquire(program(5)), a.acquire(program(5))
    assert first == again
    assert a.programs == 1
    assert a.used == 6  # 5 steps and the identity row
    np.testing.assert_array_equal(rows_of(a, first, program(5)), program(5).table)


def test_programs_in_use_never_overlap_or_change():
    rng = np.random.default_rng(0)
    a = arena(100)
    running = []
    refused = 0
    for _ in range(400):
        if running and rng.random() < 0.5:
            p, base = running.pop(int(rng.integers(len(running))))
            np.testing.assert_array_equal(rows_of(a, base, p), p.table)
            a.release(p)
        else:
            p = program(int(rng.integers(1, 30)))
            try:
                running.append((p, a.acquire(p)))
            except CapacityError:
                refused += 1
        spans = sorted({(base, base + len(p.table)) for p, base in running})
        assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(spans))
        assert not spans or (spans[0][0] >= 1 and spans[-1][1] <= 100)
        for p, base in running:
            np.testing.assert_array_equal(rows_of(a, base, p), p.table)
    assert refused > 0


def test_unused_programs_stay_until_their_rows_are_needed_oldest_first():
    a = arena(1 + 6 + 7 + 8)
    for steps in (5, 6, 7):
        use(a, program(steps))
    assert a.programs == 3
    use(a, program(5))  # now 6 is the oldest
    kept = a.acquire(program(5))
    a.release(program(5))
    a.acquire(program(4))
    assert a.acquire(program(5)) == kept


def test_a_full_arena_refuses_and_says_how_to_go_on():
    a = arena(12)
    a.acquire(program(7))
    with pytest.raises(CapacityError, match="max_program_rows"):
        a.acquire(program(5))
    with pytest.raises(CapacityError, match=r"21 rows finds no room among 12 rows, 8 of them"):
        a.acquire(program(20))
    a.release(program(7))
    assert a.acquire(program(5)) == 1


def test_a_refused_run_leaves_the_engine_usable():
    from revstep import Engine
    from revstep.engine.backends.module.denoiser import TorchModuleDenoiser

    class Net(torch.nn.Module):
        def forward(self, x, t):
            return 0.5 * x

    engine = Engine(torch_host_runtime(TorchModuleDenoiser(Net(), SPEC), max_program_rows=16))
    with pytest.raises(CapacityError):
        engine.sample(2, steps=20, seed=0)
    for steps in range(1, 15):
        assert engine.sample(2, steps=steps, seed=0).x.shape == (2, 2)


def test_an_arena_with_room_in_reserve_takes_many_programs_without_growing():
    found = arena(16)
    found.reserve(256)
    table = found.table
    many = [program(steps) for steps in range(2, 12)]
    bases = [found.acquire(p) for p in many]
    assert found.table is table
    for base, p in zip(bases, many, strict=True):
        assert (rows_of(found, base, p) == p.table).all()
    found.reserve(64)
    assert found.table is table
