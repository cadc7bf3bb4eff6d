"""The service: requests come and go between steps, and each gets what it gets alone."""

import asyncio
import copy
import dataclasses
import gc
import pickle
import threading
import time
from concurrent.futures import CancelledError, wait

import numpy as np
import pytest
from serving import close_beside
from stepwise import SECONDS, Stepwise, until

from revstep import Engine, Request, Service
from revstep.engine.service import worker as worker_module
from revstep.errors import (
    ArgumentError,
    ArgumentTypeError,
    BackendError,
    DeadlineError,
    NonFiniteError,
    ProgramError,
    QueueFullError,
    ServiceClosedError,
)


@pytest.fixture
def network():
    return Stepwise()


@pytest.fixture
def engine(network):
    return Engine(network)


@pytest.fixture
def service(engine, network):
    with Service(engine, slots=4) as made:
        yield made
        network.release()


def device_service(network, **options):
    pytest.importorskip("torch")
    import torch

    from revstep.engine.runtime.runtime import device_runtime
    from suites.torch_host import CallLists, TorchHost

    network.dtype, network.device = torch.float32, torch.device("cpu")
    network.stream = network.capturable = None
    bind = network.bind

    def bind_tensors(buffers):
        views = dataclasses.replace(
            buffers,
            x=buffers.x.numpy(),
            t=buffers.t.numpy(),
            out=buffers.out.numpy(),
            conditions={k: v.numpy() for k, v in buffers.conditions.items()},
        )
        return bind(views)

    network.bind = bind_tensors
    runtime = device_runtime(network, TorchHost(), graphs=CallLists(), buckets=(1, 2, 4, 8, 16))
    return Service(Engine(runtime), **options)


MIX = [
    {"n": 1, "sampler": "ddim", "steps": 7, "seed": 1},
    {"n": 3, "sampler": "dpmpp_2m", "steps": 12, "seed": 5, "conditions": {"shift": 0.7}},
    {"n": 2, "sampler": "ddpm", "steps": 9, "seed": 9, "guidance": 2.0,
     "conditions": {"shift": [0.1, 0.4]}},
    {"n": 1, "sampler": "heun", "steps": 6, "seed": 3, "grid": "karras"},
    {"n": 2, "sampler": "unipc", "steps": 5, "seed": 2, "guidance": [1.0, 3.0],
     "conditions": {"shift": 0.2}, "null_conditions": {"shift": 0.9}},
    {"n": 2, "sampler": "euler", "steps": 10, "seed": 4, "strength": 0.5,
     "start": np.full((2, 3), 0.25, np.float32)},
    {"n": 1, "sampler": "ddim", "steps": 8, "seed": 6, "known": np.zeros((2, 3), np.float32),
     "mask": np.eye(2, 3, dtype=np.float32)},
    {"n": 25, "sampler": "ddim", "steps": 4, "seed": 8},
]  # fmt: skip


@pytest.mark.parametrize("where", ["host", "device"])
@pytest.mark.parametrize("slots", [2, 5, 16])
def test_mixed_requests_get_the_bits_that_they_get_alone(where, slots, network):
    alone = Engine(Stepwise())
    made = (
        Service(Engine(network), slots=slots)
        if where == "host"
        else device_service(network, slots=slots)
    )
    with made as service:
        jobs = [service.submit(**request, previews=k % 3) for k, request in enumerate(MIX * 2)]
        for job, request in zip(jobs, MIX * 2, strict=True):
            got, want = job.result(SECONDS), alone.sample(**request)
            np.testing.assert_array_equal(got.x.view(np.uint32), want.x.view(np.uint32))
            np.testing.assert_array_equal(got.seeds, want.seeds)
            assert (got.sampler, got.steps, got.calls) == (want.sampler, want.steps, want.calls)
        stats = service.stats()
        assert stats.outcomes["completed"] == len(jobs)
        assert (stats.queued, stats.running, stats.slots_in_use, stats.rows_in_use) == (0, 0, 0, 0)


def test_who_comes_steps_with_those_who_are_there(service, network):
    network.hold()
    first = service.submit(steps=6, seed=0, conditions={"shift": 0.1})
    network.wait_for_call()
    second = service.submit(steps=3, seed=1, conditions={"shift": 0.2})
    network.allow(2)
    assert service.stats().running == 2
    network.release()
    first.result(SECONDS), second.result(SECONDS)
    assert network.rows[-6:] == [1, 2, 2, 2, 1, 1]  # in the second step, and gone after its own
    np.testing.assert_array_equal(network.inputs[-5], np.float32([0.1, 0.2]))


def test_guided_and_unguided_samples_share_a_call_without_a_row_to_spare(service, network):
    network.hold()
    service.submit(steps=40)  # stands at the door while the others come
    network.wait_for_call()
    jobs = [
        service.submit(steps=5, guidance=2.0, conditions={"shift": 0.1}),
        service.submit(steps=5),
    ]
    before = service.stats()
    network.allow(4)
    assert set(network.rows[-3:]) == {4}  # 1 + 2 + 1
    network.release()
    wait(jobs, SECONDS)
    after = service.stats()
    assert after.rows_wasted == before.rows_wasted == 0


def test_a_step_never_has_more_rows_than_it_needs(service, network):
    """Who stays moves into a smaller bucket when others leave."""
    network.hold()
    short = [service.submit(steps=2, seed=k) for k in range(3)]
    network.wait_for_call()
    long = service.submit(8, steps=6, seed=9)
    network.release()
    long.result(SECONDS)
    assert service.stats().rows_wasted == 0
    assert all(job.done() for job in short)


def test_cancelling_frees_the_slots_at_the_next_step(service, network):
    network.hold()
    job = service.submit(4, steps=500)
    queued = service.submit(steps=3, seed=1)
    network.allow(2)
    assert job.running()
    assert not queued.running()
    assert job.cancel()
    assert job.cancelled()
    assert job.done()
    network.release()
    assert queued.result(SECONDS).calls == 3
    with pytest.raises(CancelledError):
        job.result()
    assert not wait([job], 1).not_done
    assert job.cancel()  # again: nothing more happens
    assert not queued.cancel()
    assert service.stats().outcomes["cancelled"] == 1


def test_a_queued_request_can_be_cancelled(service, network):
    network.hold()
    running = service.submit(4, steps=4)
    queued = [service.submit(seed=k) for k in range(5)]
    assert all(job.cancel() for job in queued)
    assert service.stats().queued in (0, 1)
    network.release()
    running.result(SECONDS)
    assert service.stats().outcomes["cancelled"] == 5


def test_a_deadline_ends_a_request_that_runs_and_one_that_waits(service, network, monkeypatch):
    network.hold()
    running = service.submit(4, steps=500, deadline_s=600.0)
    waiting = service.submit(steps=2, deadline_s=600.0)
    patient = service.submit(steps=2, deadline_s=1e6)
    network.wait_for_call()
    monkeypatch.setattr(worker_module, "monotonic", lambda: time.monotonic() + 601.0)
    network.release()
    assert patient.result(SECONDS).calls == 2
    with pytest.raises(DeadlineError, match=r" 600 s: it passed while it ran; give"):
        running.result(0)
    with pytest.raises(DeadlineError, match="in the queue"):
        waiting.result(0)
    assert service.stats().outcomes["expired"] == 2


def test_a_full_queue_refuses_and_says_when_to_come_back(engine, network):
    network.hold()
    with Service(engine, slots=2, max_queue=3, warm_up=False) as service:
        running = service.submit(2, steps=3)
        network.wait_for_call()
        queued = [service.submit(steps=3) for _ in range(3)]
        with pytest.raises(QueueFullError, match=r"3 requests wait .* max_queue") as refused:
            service.submit()
        assert 1.0 <= refused.value.retry_after_s <= 60.0
        queued[1].cancel()
        again = service.submit(steps=3)
        network.release()
        for job in (running, queued[0], queued[2], again):
            job.result(SECONDS)
        assert service.stats().outcomes == {
            "completed": 4, "failed": 0, "cancelled": 1, "expired": 0, "refused": 1,
        }  # fmt: skip


def test_the_higher_priority_goes_first(engine, network):
    network.hold()
    order = []
    with Service(engine, slots=1, warm_up=False, ageing_s=1000.0) as service:
        running = service.submit(steps=2)
        network.wait_for_call()
        for priority in (0, -5, 7, 0, 3):
            job = service.submit(steps=2, priority=priority)
            job.add_done_callback(lambda _, p=priority: order.append(p))
        network.release()
        running.result(SECONDS)
        until(lambda: len(order) == 5)
    assert order == [7, 3, 0, 0, -5]


def test_waiting_counts_as_priority(engine, network):
    network.hold()
    order = []
    with Service(engine, slots=1, warm_up=False, ageing_s=0.001) as service:
        service.submit(steps=2)
        network.wait_for_call()
        service.submit(steps=2).add_done_callback(lambda _: order.append("old"))
        threading.Event().wait(0.05)  # 50 levels
        service.submit(steps=2, priority=5).add_done_callback(lambda _: order.append("new"))
        network.release()
        until(lambda: len(order) == 2)
    assert order == ["old", "new"]


def test_a_large_request_lets_others_in_after_each_lot(service, network):
    network.hold()
    large = service.submit(40, steps=2)
    network.wait_for_call()
    small = service.submit(steps=2)
    network.release()
    small.result(SECONDS)
    assert not large.done() or large.timing.run_s > small.timing.run_s
    assert large.result(SECONDS).x.shape == (40, 2, 3)
    assert small.timing.queued_s < large.timing.run_s


def test_a_request_whose_rows_turn_nan_fails_alone(service, network):
    network.hold()
    good = [service.submit(steps=9, seed=k) for k in range(2)]
    network.wait_for_call()
    bad = service.submit(steps=9, conditions={"shift": 13.0})
    network.release()
    with pytest.raises(NonFiniteError, match=r"by step \d of 9, for sample 0: "):
        bad.result(SECONDS)
    alone = Engine(Stepwise())
    for k, job in enumerate(good):
        want = alone.sample(steps=9, seed=k).x
        np.testing.assert_array_equal(job.result(SECONDS).x.view(np.uint32), want.view(np.uint32))
    after = service.submit(4, steps=5, seed=3).result(SECONDS)  # its slot holds no NaN
    np.testing.assert_array_equal(after.x, alone.sample(4, steps=5, seed=3).x)


def test_an_exception_in_the_network_fails_those_in_the_call_and_no_others(service, network):
    network.hold()
    inside = [service.submit(2, steps=9, seed=k) for k in range(2)]
    network.wait_for_call()
    network.allow()
    outside = service.submit(steps=4, seed=7)
    network.fail = RuntimeError("the network broke")
    network.release()
    for job in inside:
        with pytest.raises(BackendError, match="the network broke"):
            job.result(SECONDS)
    want = Engine(Stepwise()).sample(steps=4, seed=7).x
    np.testing.assert_array_equal(outside.result(SECONDS).x, want)
    assert service.stats().outcomes["failed"] == 2


def test_draining_finishes_what_is_there_and_takes_no_more(service, network):
    network.hold()
    jobs = [service.submit(3, steps=4) for _ in range(3)]
    assert not service.drain(0.01)
    assert service.draining
    assert not service.closed
    with pytest.raises(ServiceClosedError, match="takes no more requests"):
        service.submit()
    network.release()
    assert service.drain(SECONDS)
    assert all(job.done() and not job.cancelled() for job in jobs)


def test_closing_answers_everybody(engine, network):
    network.hold()
    service = Service(engine, slots=2, warm_up=False)
    jobs = [service.submit(2, steps=400) for _ in range(4)]
    network.wait_for_call()
    closer = close_beside(service)
    network.release()
    closer.join(SECONDS)
    assert not closer.is_alive()
    for job in jobs:
        with pytest.raises(ServiceClosedError, match="closed before this was done"):
            job.result(SECONDS)
    with pytest.raises(ServiceClosedError, match="closed: make another"):
        service.submit()
    service.close()


def test_a_service_that_nobody_has_ends_its_thread(engine):
    service = Service(engine)
    service.submit(steps=2).result(SECONDS)
    thread = service._worker.thread
    del service
    gc.collect()
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_progress_comes_step_by_step_and_ends_with_the_samples(service):
    seen = list(service.submit(2, steps=6, seed=1, previews=2).progress())
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == seen[-1].total == 12
    np.testing.assert_array_equal(
        seen[-1].samples.x, Engine(Stepwise()).sample(2, steps=6, seed=1).x
    )


def test_previews_are_the_estimates_of_their_steps(service, network):
    want = Engine(Stepwise()).sample(2, steps=6, seed=1, trace_x0=(2, 4, 6)).x0_trace
    network.hold()
    job = service.submit(2, steps=6, seed=1, previews=2)
    network.wait_for_call()
    found = {}
    for calls in (1, 1, 1, 1, 1):
        network.allow(calls)
        if job.latest is not None and job.latest.x0 is not None:
            found[job.latest.step] = job.latest.x0
    network.release()
    job.result(SECONDS)
    assert sorted(found) == [2, 4]
    np.testing.assert_array_equal(found[2], want[0])
    np.testing.assert_array_equal(found[4], want[1])


def test_progress_raises_what_the_request_raises(service):
    with pytest.raises(NonFiniteError):
        list(service.submit(steps=5, conditions={"shift": 13.0}).progress())


def test_an_event_loop_samples_and_streams(service):
    async def both():
        first, second = await asyncio.gather(
            service.sample(2, steps=4, seed=1), service.sample(steps=8, seed=2)
        )
        seen = [p async for p in service.stream(steps=5, seed=3, previews=1)]
        return first, second, seen

    first, second, seen = asyncio.run(both())
    alone = Engine(Stepwise())
    np.testing.assert_array_equal(first.x, alone.sample(2, steps=4, seed=1).x)
    np.testing.assert_array_equal(second.x, alone.sample(steps=8, seed=2).x)
    np.testing.assert_array_equal(seen[-1].samples.x, alone.sample(steps=5, seed=3).x)


def test_a_cancelled_task_and_a_left_loop_free_their_slots(service, network):
    async def leave():
        network.hold()
        task = asyncio.ensure_future(service.sample(2, steps=500))
        await asyncio.to_thread(network.wait_for_call)
        await asyncio.to_thread(network.allow)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        network.slow_s = 0.01  # seconds in which the loop may be late
        network.release()
        async for progress in service.stream(steps=900):
            if progress.done >= 2:
                break
        async with service.stream(steps=900) as stream:
            await anext(stream)
        await asyncio.to_thread(service.drain, SECONDS)

    asyncio.run(leave())
    assert service.stats().outcomes["cancelled"] == 3
    until(lambda: not service.stats().slots_in_use)


def test_bad_arguments_are_refused_at_once_and_nothing_runs(service, network):
    calls = len(network.rows)
    for arguments, error, match in (
        ({"n": 0}, ArgumentError, "n=0"),
        ({"steps": 0}, ArgumentError, "steps"),
        ({"sampler": "dimm"}, ArgumentError, "ddim"),
        ({"step": 5}, ArgumentTypeError, r"submit has no argument.*step"),
        ({"thresholding": True}, ProgramError, "thresholding"),
        ({"conditions": {"shft": 1.0}}, ArgumentError, "shift"),
        ({"priority": 1001}, ArgumentError, "priority"),
        ({"priority": 0.5}, ArgumentTypeError, "priority"),
        ({"deadline_s": 0}, ArgumentError, "deadline_s"),
        ({"deadline_s": float("nan")}, ArgumentError, "deadline_s"),
        ({"previews": -1}, ArgumentError, "previews"),
        ({"n": Request(trace_x0=True)}, ArgumentError, "trace_x0"),
    ):
        with pytest.raises(error, match=match):
            service.submit(**arguments)
    assert len(network.rows) == calls
    assert service.stats().outcomes["refused"] == 0


def test_a_whole_request_is_taken(service):
    request = Request(n=2, sampler="unipc", steps=4, seed=5)
    want = Engine(Stepwise()).sample(request).x
    np.testing.assert_array_equal(service.submit(request).result(SECONDS).x, want)


def test_options_that_cannot_be_are_refused(engine):
    for options, match in (
        ({"slots": 17}, "slots"),
        ({"slots": 0}, "slots"),
        ({"max_queue": 0}, "max_queue"),
        ({"ageing_s": 0}, "ageing_s"),
        ({"deterministic": 1}, "deterministic"),
    ):
        with pytest.raises(ArgumentError, match=match):
            Service(engine, **options)
    with pytest.raises(ArgumentTypeError, match="Engine"):
        Service("x.revstep")
    with pytest.raises(ArgumentError, match="reproducible"):
        Service(Engine(Stepwise(), reproducible=True), slots=4)


def test_one_slot_has_no_room_for_guidance(engine):
    with Service(engine, slots=1) as service, pytest.raises(ArgumentError, match="2 network rows"):
        service.submit(guidance=2.0, conditions={"shift": 1.0})


@pytest.mark.parametrize("where", ["host", "device"])
def test_a_deterministic_service_has_one_number_of_rows(where, network):
    made = (
        Service(Engine(network), deterministic=True, slots=8)
        if where == "host"
        else device_service(network, deterministic=True, slots=8)
    )
    with made as service:
        network.rows.clear()
        jobs = [service.submit(1 + k % 3, steps=3 + k, seed=k) for k in range(6)]
        wait(jobs, SECONDS)
        assert set(network.rows) == {8}


def test_a_reproducible_engines_service_is_deterministic_with_its_rows():
    engine = Engine(Stepwise(), reproducible=True)
    with Service(engine) as service:
        assert service.deterministic
        assert service.slots == 16


def test_a_service_belongs_to_its_process(service):
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="send its engine"):
            copied(service)
        with pytest.raises(TypeError, match=r"send its result\(\)"):
            copied(service.submit(1))


def test_its_look_tells_how_it_stands(service):
    assert repr(service) == "Service(4 slots, 0 running, 0 queued)"
    service.close()
    assert repr(service) == "Service(4 slots, closed)"


def test_stats_are_plain_values(service):
    import json

    service.submit(3, steps=5).result(SECONDS)
    found = json.loads(json.dumps(service.stats().to_dict()))
    assert found["steps"] == 5
    assert found["rows_run"] == 15
    assert found["run_s"]["count"] == found["queued_s"]["count"] == 1
    assert found["network_s"]["count"] >= 1
    assert found["step_s"]["count"] == 5


def test_whoever_looks_finds_a_request_queued_running_or_counted(service, network, monkeypatch):
    left, ended, leave = [], [], worker_module.Worker._leave_queue

    def leaving(worker, job):
        leave(worker, job)
        left.append(service.stats())

    monkeypatch.setattr(worker_module.Worker, "_leave_queue", leaving)
    network.hold()
    job = service.submit(steps=2)
    job.add_done_callback(lambda _: ended.append(service.stats()))
    network.release()
    job.result(SECONDS)
    until(lambda: ended)
    assert (left[0].queued, left[0].running) == (0, 1)
    assert (ended[0].outcomes["completed"], ended[0].run_s.count) == (1, 1)


def test_a_decoder_runs_beside_the_steps_of_others(network):
    started, finish = threading.Event(), threading.Event()

    def decode(x):
        started.set()
        assert finish.wait(SECONDS)
        return x * 2

    engine = Engine(network, decoder=decode)
    with Service(engine, slots=4) as service:
        slow = service.submit(steps=2, seed=1)
        assert started.wait(SECONDS)
        plain = service.submit(steps=4, seed=2, decode=False).result(SECONDS)
        assert plain.decoded is None
        assert not slow.done()
        finish.set()
        np.testing.assert_array_equal(slow.result(SECONDS).decoded, slow.result(SECONDS).x * 2)
