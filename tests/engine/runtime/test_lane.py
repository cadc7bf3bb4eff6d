"""Lanes: samples come and go between steps, and each gets the bits that it gets alone."""

import dataclasses

import numpy as np
import pytest
from eager_loop import eager_loop
from networks import NumpyDenoiser

from revstep import Condition, DenoiserSpec, NetworkBuffers, SecondTime, build_program
from revstep.engine.devices.host import HostDevice
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.lane import Lane
from revstep.engine.runtime.loop import run_batch
from revstep.engine.runtime.runtime import host_lane
from revstep.errors import CapacityError, ProgramError
from revstep.samplers import SAMPLERS
from revstep.schedules import FlowSchedule, VESchedule, VPSchedule

SPEC = DenoiserSpec(
    shape=(2, 3),
    schedule=VPSchedule(),
    prediction="epsilon",
    conditions=(Condition(name="shift", null=0.25),),
    batch=(1, 16),
)
SPECS = (
    SPEC,
    dataclasses.replace(SPEC, schedule=FlowSchedule(), prediction="flow"),
    dataclasses.replace(SPEC, schedule=VESchedule(), prediction="epsilon"),
    dataclasses.replace(
        SPEC, schedule=FlowSchedule(), prediction="jump", second_time=SecondTime(name="r")
    ),
)


def network(x, t, conditions):
    """Element by element, so that a row's bits don't depend on its batch."""
    shape = (-1, 1, 1)
    shift = 0.01 * t.reshape(shape) + conditions["shift"].reshape(shape)
    if "r" in conditions:
        shift = shift - 0.02 * conditions["r"].reshape(shape)
    return 0.9 * x + 0.02 * shift


def host(spec=SPEC, rows=16, function=network, **options):
    denoiser = NumpyDenoiser(spec, function)
    buffers = NetworkBuffers.allocate(spec, rows)
    buckets = options.pop("buckets", (rows,))
    return Lane(denoiser, buckets, HostDevice(), buffers, **options), denoiser


def torch_host(spec=SPEC, rows=16, function=network, **options):
    torch = pytest.importorskip("torch")
    from suites.torch_host import CallLists, TorchHost

    device = TorchHost()
    denoiser = NumpyDenoiser(spec, function)
    dtype = getattr(torch, options.pop("dtype", "float32"))
    buffers = NetworkBuffers.allocate(spec, rows, dtype, torch.device("cpu"))
    options = {"buckets": (2, 4, 8, 16), "graphs": CallLists(), **options}
    return Lane(denoiser, options.pop("buckets"), device, buffers, **options), denoiser


def on_host(array):
    return array.copy() if isinstance(array, np.ndarray) else array.numpy().copy()


def batch_of(seed, n, guidance=1.0, *, inpaint=False, start=False):
    rng = np.random.default_rng(seed)

    def states():
        return rng.standard_normal((n, *SPEC.shape)).astype(np.float32)

    return Batch(
        seeds=rng.integers(1 << 63, size=n, dtype=np.uint64),
        guidance=np.broadcast_to(np.float32(guidance), (n,)).copy(),
        conditions={"shift": rng.random(n, dtype=np.float32)},
        null_conditions={"shift": rng.random(n, dtype=np.float32)},
        start=states() if start else None,
        noise=states() if seed % 3 == 0 else None,
        mask=(states() > 0).astype(np.float32) if inpaint else None,
        known=states() if inpaint else None,
    )


def program_for(sampler, steps, **options):
    return build_program(SPEC, sampler, steps, **options)


def assert_same(got, want):
    got = on_host(got).reshape(want.shape)
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.fixture(params=[host, torch_host], ids=["numpy", "torch"])
def make(request):
    return request.param


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_gives_the_eager_loops_bits(make, sampler):
    ran = 0
    for spec in SPECS:
        try:
            program = build_program(spec, sampler, 7)
        except ProgramError:
            continue
        lane, denoiser = make(spec)
        batch = batch_of(1, 3, [1.0, 2.0, 1.5])
        assert_same(run_batch(lane, program, batch), eager_loop(denoiser, program, batch))
        ran += 1
    assert ran


@dataclasses.dataclass(eq=False)
class Visit:
    """A batch that arrives at a step, and leaves when it is done, or after ``stay`` steps."""

    program: object
    batch: Batch
    arrives: int
    x0: bool = False
    stay: int | None = None
    admitted: object = None
    steps: int = 0


def random_visits(rng, count):
    samplers = ["ddim", "ddpm", "dpmpp_2m", "dpmpp_3m", "heun", "unipc", "euler"]
    visits = []
    for k in range(count):
        inpaint, n = bool(rng.random() < 0.25), int(rng.integers(1, 5))
        guidance = rng.choice([1.0, 1.0, 1.5, 3.0], n)
        batch = batch_of(k, n, guidance, inpaint=inpaint, start=inpaint)
        steps = int(rng.integers(1, 12))
        program = program_for(str(rng.choice(samplers)), steps, inpaint=inpaint)
        leaves = int(rng.integers(1, 4)) if rng.random() < 0.2 else None
        visits.append(Visit(program, batch, int(rng.integers(0, 40)), rng.random() < 0.3, leaves))
    return sorted(visits, key=lambda visit: visit.arrives)


def serve(lane, visits, look):
    """Admits whom there is room for, steps, retires who is done; ``look`` sees every step."""
    waiting, here, refused, tick = list(visits), [], 0, 0
    while waiting or here:
        while waiting and waiting[0].arrives <= tick:
            try:
                waiting[0].admitted = lane.admit(
                    waiting[0].program, waiting[0].batch, x0=waiting[0].x0
                )
            except CapacityError:
                refused += 1
                break
            here.append(waiting.pop(0))
        if here:
            lane.step()
        for visit in list(here):
            visit.steps += 1
            look(visit)
            if lane.done(visit.admitted) or visit.steps == visit.stay:
                lane.retire(visit.admitted)
                here.remove(visit)
        tick += 1
    return refused


@pytest.mark.parametrize("seed", range(4))
def test_samples_that_come_and_go_get_the_bits_that_they_get_alone(make, seed):
    lane, _ = make(program_rows=64)
    visits = random_visits(np.random.default_rng(seed), 25)
    want = {}
    alone = NumpyDenoiser(SPEC, network)
    for visit in visits:
        seen = want[visit] = []
        eager_loop(
            alone,
            visit.program,
            visit.batch,
            x0=True,
            observe=lambda number, steps, seen=seen: seen.append((steps.x.copy(), steps.x0.copy())),
        )

    def look(visit):
        x, x0 = want[visit][visit.steps - 1]
        assert_same(lane.states(visit.admitted), x)
        if visit.x0:
            assert_same(lane.estimates(visit.admitted), x0)
        assert not on_host(lane.flags(visit.admitted)).any()

    refused = serve(lane, visits, look)
    assert refused > 0  # it was full at times
    assert sum(v.steps for v in visits) > lane.steps + 25  # calls were shared
    assert lane.arena.used == 0


def test_a_call_has_the_rows_of_the_bucket_that_holds_all_who_are_here():
    lane, denoiser = torch_host(graphs=None)
    first = lane.admit(program_for("ddim", 9), batch_of(1, 2))
    lane.step()
    second = lane.admit(program_for("ddim", 9), batch_of(2, 1, 2.0))
    lane.step()
    third = lane.admit(program_for("ddim", 9), batch_of(3, 3))
    denoiser.rows.clear()
    lane.step()
    lane.retire(third)
    lane.step()
    lane.retire(second)
    lane.step()
    assert denoiser.rows == [8, 4, 2]
    lane.retire(first)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gaps_are_filled_in_the_networks_own_dtype(dtype):
    lane, _ = torch_host(dtype=dtype)
    leaves = lane.admit(program_for("ddim", 9), batch_of(1, 1))
    stays = lane.admit(program_for("ddim", 9), batch_of(2, 1))
    lane.step()
    lane.retire(leaves)
    program, batch = program_for("dpmpp_2m", 5), batch_of(4, 2, [1.0, 2.0])
    came = lane.admit(program, batch)
    assert came.slots.tolist() == [0, 2]
    while not lane.done(came):
        lane.step()
    want = run_batch(torch_host(dtype=dtype)[0], program, batch)
    assert_same(lane.states(came), want)
    lane.retire(stays)


def test_rows_that_nobody_uses_hold_zeros_and_valid_values():
    seen = []

    def noting(x, t, conditions):
        seen.append((x.copy(), t.copy(), conditions["shift"].copy()))
        return network(x, t, conditions)

    lane, _ = host(rows=8, function=noting)
    one = lane.admit(program_for("ddim", 9), batch_of(1, 2, 2.0))
    two = lane.admit(program_for("ddpm", 9), batch_of(2, 2))
    lane.step()
    x, t, shift = seen[-1]
    assert (x[6:] == 0).all()
    assert ((t >= 0) & (t <= 999)).all()
    assert ((shift >= 0) & (shift <= 1)).all()
    lane.retire(one)
    lane.step()
    x, t, shift = seen[-1]
    assert (x[[0, 1, 2, 3, 6, 7]] == 0).all()
    assert (x[4:6] != 0).all()
    lane.retire(two)


def test_a_sample_that_is_not_finite_spoils_no_other(make):
    def bad(x, t, conditions):
        out = network(x, t, conditions)
        out[np.asarray(conditions["shift"]) > 2] = np.nan
        return out

    lane, _ = make(function=bad)
    good, spoilt = batch_of(1, 2), batch_of(2, 2)
    spoilt.conditions["shift"][1] = 3.0
    program = program_for("dpmpp_2m", 6)
    a, b = lane.admit(program, good), lane.admit(program, spoilt)
    for _ in range(6):
        lane.step()
    assert on_host(lane.flags(a)).tolist() == [0, 0]
    assert on_host(lane.flags(b)).tolist() == [0, 1]
    assert_same(lane.states(a), eager_loop(NumpyDenoiser(SPEC, network), program, good))


def test_further_steps_change_nobody_who_is_done(make):
    lane, denoiser = make()
    program, batch = program_for("ddpm", 3), batch_of(1, 2)
    short = lane.admit(program, batch)
    long = lane.admit(program_for("ddpm", 8), batch_of(2, 2))
    for _ in range(8):
        lane.step()
    assert lane.done(short)
    assert lane.done(long)
    assert_same(lane.states(short), eager_loop(denoiser, program, batch))


def test_who_finds_no_room_changes_nothing_for_who_is_here(make):
    lane, denoiser = make(program_rows=24)
    program, batch = program_for("dpmpp_2m", 8), batch_of(1, 5, 2.0)
    here = lane.admit(program, batch)
    lane.step()
    with pytest.raises(CapacityError, match="4 samples of 8 network rows find no room"):
        lane.admit(program_for("ddim", 3), batch_of(2, 4, 2.0))
    with pytest.raises(CapacityError, match="max_program_rows"):
        lane.admit(program_for("ddim", 20), batch_of(2, 1))
    with pytest.raises(ValueError, match="18 network rows are more than the largest bucket, 16"):
        lane.admit(program_for("ddim", 3), batch_of(2, 9, 2.0))
    while not lane.done(here):
        lane.step()
    assert_same(lane.states(here), eager_loop(denoiser, program, batch))


def test_a_lane_with_nobody_in_it_steps_nothing(make):
    lane, denoiser = make()
    program, batch = program_for("ddpm", 8), batch_of(1, 2)
    left = lane.admit(program, batch)
    lane.step()
    lane.retire(left)
    denoiser.rows.clear()
    lane.step()
    assert denoiser.rows == []
    assert_same(run_batch(lane, program, batch), eager_loop(denoiser, program, batch))


def test_a_run_gets_its_bits_beside_what_an_interrupt_left_in_its_lane(make):
    lane, denoiser = make()
    lane.admit(program_for("ddim", 9), batch_of(1, 12))
    lane.step()
    program, batch = program_for("ddpm", 8), batch_of(2, 3, 2.0)
    assert_same(run_batch(lane, program, batch), eager_loop(denoiser, program, batch))
    assert lane.arena.used == program.length + 1  # its own alone: it stays for a batch of its form


def no_memory(*_):
    raise MemoryError


def test_who_cannot_be_admitted_for_memory_leaves_the_others_their_bits(make, monkeypatch):
    lane, denoiser = make(program_rows=64)
    program, batch = program_for("dpmpp_2m", 8), batch_of(1, 2, 2.0)
    here = lane.admit(program, batch)
    lane.step()
    used = lane.arena.used
    other = program_for("ddim", 5, inpaint=True)
    for name in ("prepare", "fill_noise"):
        with monkeypatch.context() as patch:
            patch.setattr(lane.device, name, no_memory)
            with pytest.raises(MemoryError):
                lane.admit(other, batch_of(2, 3, inpaint=True))
        assert lane.arena.used == used
        lane.step()
    while not lane.done(here):
        lane.step()
    assert_same(lane.states(here), eager_loop(denoiser, program, batch))


def test_no_step_is_made_for_those_who_stay(make, monkeypatch):
    """They would wait for it: the larger one goes on."""
    lane, denoiser = make()
    program, batch = program_for("heun", 6), batch_of(1, 2)
    leaves = lane.admit(program_for("dpmpp_3m", 9), batch_of(2, 4), x0=True)
    stays = lane.admit(program, batch)
    lane.step()
    made = []
    monkeypatch.setattr(lane.device, "prepare", made.append)
    lane.retire(leaves)
    while not lane.done(stays):
        lane.step()
    assert not made
    assert_same(lane.states(stays), eager_loop(denoiser, program, batch))


def test_who_could_not_be_cleared_is_here_still(make, monkeypatch):
    lane, denoiser = make()
    program, batch = program_for("dpmpp_2m", 9), batch_of(1, 2)
    leaves = lane.admit(program_for("ddim", 9), batch_of(2, 3))
    stays = lane.admit(program, batch)
    lane.step()
    used = lane.arena.used
    with monkeypatch.context() as patch:
        patch.setattr(lane.slots, "clear", no_memory)
        with pytest.raises(MemoryError):
            lane.retire(leaves)
    assert lane.arena.used == used
    came = lane.admit(program_for("ddim", 4), batch_of(3, 2))
    assert came.slots.tolist() == [5, 6]  # not among those that step on
    lane.retire(leaves)
    with pytest.raises(ValueError, match="retired before"):
        lane.retire(leaves)
    while not lane.done(stays):
        lane.step()
    assert_same(lane.states(stays), eager_loop(denoiser, program, batch))


def test_a_hosts_arena_grows_while_samples_run():
    denoiser = NumpyDenoiser(SPEC, network)
    lane = host_lane(denoiser, (8,))
    programs = [program_for("ddim", steps) for steps in (200, 300, 999)]
    batches = [batch_of(k, 2) for k in range(3)]
    here = []
    for program, batch in zip(programs, batches, strict=True):
        here.append(lane.admit(program, batch))
        lane.step()
    assert lane.arena.capacity > 200 + 300 + 999
    for number, visit in enumerate(here):
        while not lane.done(visit):
            lane.step()
        want = eager_loop(denoiser, programs[number], batches[number])
        assert_same(lane.states(visit), want)


def test_large_states_are_let_go_of_between_runs():
    lane, denoiser = host()
    program, batch = program_for("dpmpp_2m", 4), batch_of(1, 2)
    want = eager_loop(denoiser, program, batch)
    for limit in (1 << 20, 0, 0):
        assert_same(run_batch(lane, program, batch), want)
        states = lane.slots.x
        lane.trim(limit)
        assert (lane.slots.x is states) == bool(limit)


def fine(make):
    return make(buckets=(1, 2, 3, 4, 6, 8, 12, 16))


@pytest.mark.parametrize("make", [host, torch_host], ids=["numpy", "torch"])
def test_who_stays_moves_into_fewer_rows_and_keeps_its_bits(make):
    lane, denoiser = fine(make)
    programs = [program_for(name, 12) for name in ("ddim", "dpmpp_3m", "ddpm")]
    batches = [
        batch_of(1, 4),
        batch_of(2, 3, np.float32([1.0, 3.0, 1.0]), inpaint=True),
        batch_of(3, 2, 2.0, start=True),
    ]
    first, *stay = [lane.admit(p, b) for p, b in zip(programs, batches, strict=True)]
    assert lane.taken == (9, 12)
    assert lane.rows == 12
    for _ in range(3):
        lane.step()
    lane.retire(first)
    assert lane.rows == 12  # until somebody asks
    assert lane.compact()
    assert lane.rows == 8
    assert not lane.compact()
    assert {int(r) for a in stay for r in a.rows} == set(range(8))
    late = lane.admit(programs[0], batches[0])
    assert lane.rows == 12
    for _ in range(4):
        lane.step()
    lane.retire(late)
    lane.compact()
    while not lane.done(stay[0]):
        lane.step()
    for here, program, batch in zip(stay, programs[1:], batches[1:], strict=True):
        assert_same(lane.states(here), eager_loop(denoiser, program, batch))
        lane.retire(here)
    assert lane.rows == 0
    assert not lane.compact()


def test_the_lowest_rows_of_a_run_are_kept_when_it_moves():
    lane, _ = fine(host)
    gone = lane.admit(program_for("ddim", 5), batch_of(1, 6))
    lane.admit(program_for("ddim", 5), batch_of(2, 1), lowest_rows=4)
    lane.retire(gone)
    assert lane.compact()
    assert lane.rows == 4
