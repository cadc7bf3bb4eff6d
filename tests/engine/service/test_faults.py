"""Faults: every request gets an answer or a clean refusal, no slot is lost, no bits change."""

import asyncio
import re
import shutil
import threading
from concurrent.futures import Future

import numpy as np
import pytest
from serving import (
    LIMIT_S,
    assert_same_bits,
    close_beside,
    device_engine_of,
    engine_of,
    outcome,
    service_of,
    settle,
)
from stepwise import SPEC, Stepwise, elementwise, until

import revstep
from revstep import Engine, Job, Service
from revstep.engine.backends.ov import library
from revstep.errors import BackendError, NonFiniteError, QueueFullError, ServiceClosedError


@pytest.fixture(scope="module")
def alone():
    """What a request gets that has an engine for itself."""
    engine = engine_of()
    return lambda *args, **kwargs: engine.sample(*args, **kwargs).x


@pytest.fixture(params=["host", "device"])
def serve(request):
    """Makes a service of a network function, on the host or on what stands for a GPU."""
    make = {"host": engine_of, "device": device_engine_of}[request.param]
    return lambda function=elementwise, **options: Service(make(function), **options)


def held():
    """A network whose calls wait until they are released."""
    network = Stepwise()
    network.hold()
    return network


def request(k):
    """The ``k``-th of many different requests."""
    return {
        "n": 1 + k % 3,
        "sampler": ("ddim", "ddpm", "dpmpp_2m", "heun", "unipc")[k % 5],
        "steps": 2 + k % 7,
        "seed": 100 * k,
        "guidance": (1.0, 2.5)[k % 2],
        "conditions": {"shift": 0.1 * (k % 9)},
    }


def check_rest(jobs, alone):
    """All jobs that were completed have the bits that they have alone; gives all outcomes."""
    found = [outcome(job) for job in jobs]
    for k, x in enumerate(found):
        if not isinstance(x, str):
            assert_same_bits(x, alone(**request(k)))
    return [x if isinstance(x, str) else "completed" for x in found]


# The network.


@pytest.mark.parametrize("seed", range(5))
def test_a_network_that_raises_fails_who_was_in_the_call_and_the_service_goes_on(
    seed, serve, alone
):
    rng = np.random.default_rng(seed)
    calls, bad = 0, set()

    def raising(x, t, conditions):
        nonlocal calls
        calls += 1
        if calls in bad:
            raise RuntimeError(f"call {calls} fails")
        return elementwise(x, t, conditions)

    with serve(raising, warm_up=False) as service:
        bad.update((calls + rng.choice(60, 4, replace=False)).tolist())
        jobs = [service.submit(**request(k)) for k in range(40)]
        ends = check_rest(jobs, alone)
        assert "completed" in ends
        # while a step is prepared for one who comes, only that one is in the call
        assert set(ends) <= {"completed", "BackendError", "RuntimeError"}
        stats = settle(service, 40)
        assert stats.outcomes["failed"] == 40 - ends.count("completed") > 0
        errors = [job.exception() for job in jobs if job.exception()]
        assert all("fails" in str(error) for error in errors)
        causes = [error.__cause__ for error in errors if isinstance(error, BackendError)]
        assert all(isinstance(cause, RuntimeError) for cause in causes)


def test_rows_that_turn_nan_fail_their_own_request_alone(serve, alone):
    def spoiling(x, t, conditions):
        out = elementwise(x, t, conditions)
        out[(conditions["shift"] == 7.0) & (t < 500)] = np.nan
        return out

    with serve(spoiling) as service:
        jobs = []
        for k in range(30):
            jobs.append(service.submit(**request(k)))
            if k % 4 == 0:
                bad = request(k) | {"n": 3, "conditions": {"shift": [0.0, 7.0, 1.0]}, "steps": 8}
                jobs.append(service.submit(**bad))
        bad = [job for job in jobs if job.n == 3 and isinstance(job.exception(LIMIT_S), Exception)]
        good = [job for job in jobs if job not in bad]
        assert len(bad) == 8
        for job in bad:
            with pytest.raises(NonFiniteError, match=r"of \d+, for sample 1: "):
                job.result()
        assert set(check_rest(good, alone)) == {"completed"}
        settle(service, 38)


def test_the_network_that_gives_nan_spoils_nobody_who_takes_those_slots_later(serve, alone):
    spoilt = True

    def spoiling(x, t, conditions):
        out = elementwise(x, t, conditions)
        return np.full_like(out, np.inf) if spoilt else out

    with serve(spoiling) as service:
        bad = [service.submit(n=4, sampler="dpmpp_3m", steps=5) for _ in range(4)]
        assert {outcome(job) for job in bad} == {"NonFiniteError"}
        settle(service)
        spoilt = False
        assert set(check_rest([service.submit(**request(k)) for k in range(12)], alone)) == {
            "completed"
        }


def test_a_request_that_finds_no_memory_fails_alone(monkeypatch, alone):
    with service_of() as service:
        with service._hold() as lane:
            admit = lane.admit

            def short(program, batch, **options):
                if program.length == 11:
                    raise MemoryError("none left")
                return admit(program, batch, **options)

            monkeypatch.setattr(lane, "admit", short)
        jobs = [service.submit(**request(k)) for k in range(6)]
        bad = service.submit(steps=11)
        jobs += [service.submit(**request(k)) for k in range(6, 12)]
        assert outcome(bad) == "MemoryError"
        assert set(check_rest(jobs, alone)) == {"completed"}
        settle(service, 13)


# Cancels.


def test_cancel_storms_leave_no_slot_taken_and_no_bits_changed(serve, alone):
    count, rng = 300, np.random.default_rng(0)
    marked = set(rng.choice(count, 150, replace=False).tolist())
    with serve(max_queue=count) as service:
        jobs = [service.submit(**request(k)) for k in range(count)]
        order = rng.permutation(sorted(marked)).tolist()

        def storm(part):
            for k in part:
                jobs[k].cancel()

        threads = [threading.Thread(target=storm, args=(order[i::4],)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ends = check_rest(jobs, alone)
        stats = settle(service, count)
        assert stats.outcomes["cancelled"] == ends.count("CancelledError")
        assert {ends[k] for k in range(count) if k not in marked} == {"completed"}


@pytest.mark.parametrize("queued", [True, False])
def test_a_cancel_that_is_slow_to_be_seen_loses_no_slot(monkeypatch, alone, queued):
    """The thread that cancels may wait for its turn between the decision and its being seen."""
    network = held()
    with Service(Engine(network), slots=4, warm_up=False) as service:
        full = service.submit(n=4, steps=3, seed=1)
        network.wait_for_call()
        job = service.submit(n=2, sampler="heun", steps=999) if queued else full
        seen, go = threading.Event(), threading.Event()
        cancel = Future.cancel

        def slow(future):
            seen.set()
            assert go.wait(LIMIT_S)
            return cancel(future)

        monkeypatch.setattr(Future, "cancel", slow)
        thread = threading.Thread(target=job.cancel)
        thread.start()
        assert seen.wait(LIMIT_S)
        network.release()
        others = [service.submit(**request(k)) for k in range(6)]
        for other in others:
            outcome(other)
        network.hold()
        go.set()
        thread.join()
        network.release()
        assert set(check_rest(others, alone)) == {"completed"}
        if queued:
            assert outcome(full).shape == (4, *SPEC.shape)
        assert job.cancelled()
        settle(service, 8 if queued else 7)


# The queue.


def test_a_full_queue_refuses_at_once_and_takes_again(alone):
    network = held()
    with Service(Engine(network), slots=2, max_queue=3, warm_up=False) as service:
        runs = service.submit(n=2, steps=2)
        network.wait_for_call()
        waiting = [service.submit(**request(k)) for k in range(3)]
        for _ in range(5):
            with pytest.raises(QueueFullError) as refusal:
                service.submit(steps=2)
            assert refusal.value.retry_after_s > 0
        assert waiting[1].cancel()
        waiting[1] = service.submit(**request(1))  # into its place
        network.release()
        assert set(check_rest(waiting, alone)) == {"completed"}
        assert outcome(runs).shape[0] == 2
        stats = settle(service, 10)
        assert stats.outcomes["refused"] == 5
        assert stats.outcomes["cancelled"] == 1


def test_a_decoder_that_is_slower_than_the_steps_fills_the_queue(alone):
    go, decoded = threading.Event(), []

    def decode(x):
        assert go.wait(LIMIT_S)
        decoded.append(len(x))
        return x

    with Service(engine_of(decoder=decode), max_queue=4) as service:
        jobs = []

        def fill():
            for k in range(1000):
                jobs.append(service.submit(**request(k)))
                until(lambda: not service.stats().running and not service.stats().queued)

        with pytest.raises(QueueFullError):
            fill()
        assert 4 <= len(jobs) <= 6  # one is in the decoder
        assert jobs[-1].cancel()
        go.set()
        assert check_rest(jobs, alone) == ["completed"] * (len(jobs) - 1) + ["CancelledError"]
        assert len(decoded) == len(jobs) - 1  # nobody waits for the last
        assert outcome(service.submit(**request(0))).shape[0] == 1
        settle(service)


# The end.


def test_a_drain_under_load_finishes_what_it_has_and_refuses_what_comes(alone):
    network = held()
    with Service(Engine(network), warm_up=False) as service:
        jobs = [service.submit(**request(k)) for k in range(30)]
        network.wait_for_call()
        assert not service.drain(timeout_s=0.01)
        with pytest.raises(ServiceClosedError):
            service.submit(steps=2)
        network.release()
        assert service.drain(LIMIT_S)
        assert all(job.done() for job in jobs)
        assert set(check_rest(jobs, alone)) == {"completed"}
        settle(service, 31)


def test_a_drain_is_over_when_all_results_can_be_read(monkeypatch):
    seen, go = threading.Event(), threading.Event()
    set_result = Future.set_result

    def slow(future, result):
        seen.set()
        assert go.wait(LIMIT_S)
        set_result(future, result)

    with service_of() as service:
        monkeypatch.setattr(Future, "set_result", slow)
        job = service.submit(steps=2)
        assert seen.wait(LIMIT_S)
        assert not service.drain(timeout_s=0.01)
        go.set()
        assert service.drain(LIMIT_S)
        assert job.done()


def test_a_close_under_load_answers_everybody(alone):
    network = held()
    service = Service(Engine(network), warm_up=False)
    jobs = [service.submit(**request(k)) for k in range(30)]
    network.wait_for_call()
    closing = close_beside(service)
    assert service.closed
    with pytest.raises(ServiceClosedError):
        service.submit(steps=2)
    network.release()
    closing.join(LIMIT_S)
    assert not closing.is_alive()
    ends = set(check_rest(jobs, alone))
    assert ends <= {"completed", "ServiceClosedError", "CancelledError"}
    assert ends != {"completed"}
    settle(service, 31)
    service.close()
    with pytest.raises(ServiceClosedError):
        service.submit(steps=2)


# What callers do.


def test_a_callback_that_exits_its_thread_ends_nobody_elses_request(alone):
    def leave(job):
        raise SystemExit(3)

    network = held()
    with Service(Engine(network), warm_up=False) as service:
        jobs = [service.submit(**request(k)) for k in range(20)]
        network.wait_for_call()
        for job in (jobs[0], jobs[4]):
            job.add_done_callback(leave)
        network.release()
        assert set(check_rest(jobs, alone)) == {"completed"}
        settle(service, 20)


def test_a_thread_that_cannot_be_started_leaves_no_place_taken(monkeypatch, alone):
    def fails(thread):
        raise RuntimeError("can't start new thread")

    with service_of(max_queue=2) as service:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fails)
            for _ in range(3):
                with pytest.raises(RuntimeError, match="can't start"):
                    service.submit(steps=2)
        assert service.stats().queued == 0
        assert_same_bits(outcome(service.submit(**request(4))), alone(**request(4)))
        settle(service)


def test_many_threads_submit_at_once_and_each_gets_its_own(serve, alone):
    ends = {}

    def client(number):
        for k in range(number, 160, 8):
            ends[k] = outcome(service.submit(**request(k)))

    with serve() as service:
        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ends) == 160
        for k, x in ends.items():
            assert_same_bits(x, alone(**request(k)))
        assert settle(service, 160).outcomes["completed"] == 160


def test_progress_that_nobody_reads_holds_nobody_up(serve, alone):
    with serve() as service:
        jobs = [service.submit(**request(k), previews=1) for k in range(12)]
        unread = [job.progress() for job in jobs]
        begun = [job.progress() for job in jobs[:4]]
        for progress in begun:
            next(progress)
        assert set(check_rest(jobs, alone)) == {"completed"}
        settle(service, 12)
        last = [list(progress)[-1] for progress in unread]
        for job, progress in zip(jobs, last, strict=True):
            assert progress.done == progress.total
            assert_same_bits(progress.samples.x, job.result().x)


def test_progress_never_goes_back_whatever_is_told_late(serve, monkeypatch):
    """A device's steps are told when others have been enqueued, and samples have left by then."""
    told, tell = {}, Job.tell

    def telling(job, progress):
        told.setdefault(job.id, []).append(progress)
        tell(job, progress)

    monkeypatch.setattr(Job, "tell", telling)
    with serve(slots=8) as service:
        jobs = [service.submit(20, steps=6, seed=k, previews=2) for k in range(4)]
        for job in jobs:
            assert outcome(job).shape[0] == 20
            done = [progress.done for progress in told[job.id]]
            assert done == sorted(done)
            assert 0 < done[0] <= done[-1] == 120
            assert {progress.total for progress in told[job.id]} == {120}


def test_who_samples_on_the_same_engine_beside_the_service_gets_the_same_bits(alone):
    engine = engine_of()
    with Service(engine) as service:
        jobs = []
        for k in range(40):
            jobs.append(service.submit(**request(k)))
            assert_same_bits(engine.sample(**request(k)).x, alone(**request(k)))
        assert set(check_rest(jobs, alone)) == {"completed"}
        settle(service, 40)


# Event loops.


def test_tasks_that_are_cancelled_cancel_their_requests(alone):
    network = held()

    async def main(service):
        kept = [asyncio.create_task(service.sample(**request(k))) for k in range(5)]
        gone = [asyncio.create_task(service.sample(n=2, steps=900)) for _ in range(10)]
        await asyncio.to_thread(network.wait_for_call)
        for task in gone:
            task.cancel()
        found = await asyncio.gather(*gone, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in found)
        network.release()
        for k, samples in enumerate(await asyncio.gather(*kept)):
            assert_same_bits(samples.x, alone(**request(k)))

    with Service(Engine(network), warm_up=False) as service:
        asyncio.run(asyncio.wait_for(main(service), LIMIT_S))
        assert settle(service, 15).outcomes["cancelled"] == 10


def test_a_slow_reader_of_a_stream_gets_the_newest(alone):
    async def main(service):
        stream = service.stream(**request(4), previews=1)
        await asyncio.to_thread(stream.job.result, LIMIT_S)
        found = [progress async for progress in stream]
        assert [progress.samples is not None for progress in found] == [True]
        assert_same_bits(found[0].samples.x, alone(**request(4)))

    with service_of() as service:
        asyncio.run(asyncio.wait_for(main(service), LIMIT_S))
        settle(service, 1)


def test_an_event_loop_that_ends_first_leaves_the_service_working(alone):
    network = held()

    async def leave(service):
        asyncio.ensure_future(service.sample(n=2, steps=30))  # noqa: RUF006  left on purpose
        service.stream(n=2, steps=30).job.add_done_callback(lambda job: None)
        await asyncio.to_thread(network.wait_for_call)

    with Service(Engine(network), warm_up=False) as service:
        asyncio.run(leave(service))
        network.release()
        assert_same_bits(outcome(service.submit(**request(2))), alone(**request(2)))
        settle(service, 3)


# The bundle.


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("gone", [False, True], ids=["replaced", "removed"])
def test_a_bundle_that_is_replaced_changes_nothing_for_a_running_service(
    backend, gone, tabular_bundle, copy_of
):
    """Buckets that nobody has asked for yet have the same weights as those that run."""
    pytest.importorskip("onnxruntime")
    if backend == "openvino" and not library.installed():
        pytest.skip("OpenVINO is not installed")
    alone = revstep.load(tabular_bundle, backend=backend, device="cpu", threads=1)
    other = copy_of(tabular_bundle, "other.revstep")
    for graph in other.glob("*.onnx"):
        graph.write_bytes(b"another one")
    path = copy_of(tabular_bundle)
    engine = revstep.load(path, backend=backend, device="cpu", threads=1)
    with Service(engine, slots=8, warm_up=False) as service:
        jobs = [service.submit(1, steps=900, seed=7)]
        path.rename(path.with_name("old.revstep"))
        if gone:
            shutil.rmtree(path.with_name("old.revstep"))
        else:
            other.rename(path)
        jobs += [service.submit(n, steps=9, seed=n) for n in (1, 3, 6, 12)]
        assert all(not isinstance(outcome(job), str) for job in jobs)
        for job in jobs:
            want = alone.sample(job.n, steps=job.calls, seed=int(job.seeds[0])).x
            assert np.abs(job.result().x - want).max() < 1e-4
        settle(service, 5)


# What came before.


@pytest.mark.parametrize("name", ["guidance"])
def test_none_is_refused_by_a_service_whatever_came_before(name, alone):
    with service_of() as service:
        with pytest.raises((TypeError, ValueError)) as refused:
            alone(2, steps=3, **{name: None})
        for _ in range(2):
            with pytest.raises(refused.type, match=re.escape(str(refused.value))):
                service.submit(2, steps=3, **{name: None})
            assert len(outcome(service.submit(2, steps=3))) == 2
