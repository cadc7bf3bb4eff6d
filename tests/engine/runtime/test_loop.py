"""What the loop reports, and when: only of steps that the device has done."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from revstep import DenoiserSpec, Engine  # noqa: E402
from revstep.engine.backends.module.denoiser import TorchModuleDenoiser  # noqa: E402
from revstep.engine.runtime.buckets import bucket_for, compiled_buckets, make_buckets  # noqa: E402
from revstep.engine.runtime.runtime import device_runtime  # noqa: E402
from revstep.schedules import VPSchedule  # noqa: E402
from suites.torch_host import TorchHost  # noqa: E402

SPEC = DenoiserSpec(
    shape=(3,), schedule=VPSchedule(), prediction="epsilon", value_range=(-1, 1), batch=(1, 4)
)


class LateDevice(TorchHost):
    """A device that works only while somebody waits, and then no further than it must."""

    def __init__(self):
        self.work, self.done, self.late = [], 0, False

    def enqueue(self, call):
        self.work.append(call)
        if not self.late:
            self.run(len(self.work))

    def run(self, until):
        while self.done < until:
            self.done += 1
            self.work[self.done - 1]()

    def download(self, tensor):
        host = torch.zeros_like(tensor)
        self.enqueue(lambda: host.copy_(tensor))
        return host.numpy()

    def mark(self):
        device, place = self, len(self.work)

        class Mark:
            def wait(self):
                device.run(place)

        return Mark()


class LateGraphs:
    def __init__(self, device, log):
        self.device, self.log = device, log

    def capture(self, calls):
        device, log = self.device, self.log

        class Graph:
            def replay(self):
                log.append("enqueued")
                device.enqueue(lambda: [log.append("done"), *(call() for call in calls)])

        return Graph()


class Net(torch.nn.Module):
    def forward(self, x, t):
        return 0.5 * x + 0.001 * t[:, None]


@pytest.fixture
def late():
    log = []
    device = LateDevice()
    denoiser = TorchModuleDenoiser(Net(), SPEC)
    runtime = device_runtime(denoiser, device, graphs=LateGraphs(device, log))
    lane = runtime._lanes.lane
    admit = lane.admit

    def admit_then_lag(*arguments, **options):
        device.run(len(device.work))  # a device would write after what the last run has left
        device.late = False
        admitted = admit(*arguments, **options)
        device.late = True
        return admitted

    lane.admit = admit_then_lag
    return Engine(denoiser), Engine(runtime), log


def test_progress_counts_steps_that_are_done_not_enqueued(late):
    eager, engine, log = late
    log.clear()
    got = engine.sample(3, steps=8, seed=1, progress=lambda k, n: log.append(k))
    for k in range(1, 9):
        before = log[: log.index(k)]
        assert before.count("done") >= k
        assert k == 8 or before.count("enqueued") >= min(
            8, k + TorchHost.ahead
        )  # the device has work
    np.testing.assert_array_equal(got.x, eager.sample(3, steps=8, seed=1).x)


def test_previews_are_those_of_their_own_step(late):
    eager, engine, _ = late
    seen = {"eager": [], "late": []}
    for name, e in (("eager", eager), ("late", engine)):
        e.sample(2, steps=6, seed=4, sampler="ddpm", on_step=lambda p, n=name: seen[n].append(p.x0))
    np.testing.assert_array_equal(np.stack(seen["late"]), np.stack(seen["eager"]))


def test_a_failing_callback_leaves_idle_slots(late):
    eager, engine, _ = late

    def fail(k, total):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        engine.sample(3, steps=8, seed=1, progress=fail)
    np.testing.assert_array_equal(
        engine.sample(2, steps=3, seed=1).x, eager.sample(2, steps=3, seed=1).x
    )


@pytest.mark.parametrize(
    ("batch", "want"),
    [((1, 1), (1,)), ((1, 64), (1, 2, 4, 8, 16, 32, 64)), ((3, 20), (3, 4, 8, 16, 20))],
)
def test_default_buckets_are_powers_of_two_and_the_ends(batch, want):
    assert make_buckets(batch) == want


@pytest.mark.parametrize(
    ("batch", "want"),
    [((1, 1), (1,)), ((1, 12), (1, 2, 4, 8, 12)), ((1, 32), (1, 2, 4, 8, 12, 16, 24, 32)),
     ((10, 20), (10, 12, 16, 20))],
)  # fmt: skip
def test_compiled_buckets_beyond_8_pad_a_call_by_a_third_at_most(batch, want):
    assert compiled_buckets(batch) == want
    assert all(bucket_for(want, rows) * 2 <= 3 * rows for rows in range(max(8, batch[0]), want[-1]))


def test_the_smallest_bucket_that_holds_the_rows_is_taken():
    assert [bucket_for((1, 4, 6), rows) for rows in (1, 2, 4, 5, 6)] == [1, 4, 4, 6, 6]
    with pytest.raises(ValueError, match="7 network rows are more than the largest bucket, 6"):
        bucket_for((1, 4, 6), 7)
