"""A GPU's lane on a CPU, bit for bit against the host's lanes.

The kernels are the native ones and a graph is a list of calls; buckets, slots, counters, arena,
previews and cancellation are the code that runs on a GPU.
"""

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from revstep import Condition, DenoiserSpec, Engine, Timing  # noqa: E402
from revstep.engine.backends.module.denoiser import TorchModuleDenoiser  # noqa: E402
from revstep.engine.devices.protocol import CaptureRefused  # noqa: E402
from revstep.errors import BackendError, Cancelled, NonFiniteError  # noqa: E402
from revstep.samplers import DDIM  # noqa: E402
from revstep.schedules import VESchedule, VPSchedule  # noqa: E402
from suites.torch_host import CallLists, torch_host_runtime  # noqa: E402

SAMPLERS = ["ddim", "ddpm", "dpmpp_2m", DDIM(eta=0.6)]


class RowNet(nn.Module):
    """Element by element, so that a row's bits don't depend on its batch."""

    def __init__(self, outputs=1):
        super().__init__()
        self.outputs = outputs
        self.scale = nn.Parameter(torch.tensor(0.9))

    def forward(self, x, t, shift):
        shape = (-1,) + (1,) * (x.ndim - 1)
        noise = 0.02 * (t.to(x.dtype) * 0.01 + shift).reshape(shape)
        out = x * self.scale + noise
        return torch.cat([out, 0.5 * x], dim=1) if self.outputs == 2 else out


def make_spec(shape=(1, 4, 5), **fields):
    return DenoiserSpec(
        **{
            "shape": shape,
            "schedule": VPSchedule(),
            "prediction": "epsilon",
            "conditions": (Condition(name="shift", null=0.0),),
            "batch": (1, 8),
            **fields,
        }
    )


def pair(spec=None, module=None, dtype=torch.float32, **options):
    """(engine on the host, engine on a GPU's lane) over the same module."""
    spec = spec or make_spec()
    module = module or RowNet(2 if spec.learned_variance else 1).eval()
    denoiser = TorchModuleDenoiser(module.to(dtype), spec, dtype=dtype)
    return Engine(denoiser), Engine(torch_host_runtime(denoiser, **options))


def assert_same(a, b, n, **options):
    want = a.sample(n, **options)
    got = b.sample(n, **options)
    np.testing.assert_array_equal(got.x.view(np.uint32), want.x.view(np.uint32))
    np.testing.assert_array_equal(got.seeds, want.seeds)


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("n", [1, 3, 8, 11])
def test_runs_give_the_eager_loops_bits(graphs, sampler, n):
    a, b = pair(graphs=graphs)
    shift = np.linspace(-1, 1, n, dtype=np.float32)
    assert_same(a, b, n, sampler=sampler, steps=7, seed=5, conditions={"shift": shift})


def test_one_graph_serves_any_program_guidance_and_size():
    recorder = CountingGraphs()
    a, b = pair(graphs=recorder, buckets=(2, 8))
    assert recorder.captured == 2
    rng = np.random.default_rng(1)
    for k in range(25):
        n = int(rng.integers(1, 6))
        guidance = rng.choice([1.0, 1.5, 3.0], n).astype(np.float32)
        assert_same(
            a,
            b,
            n,
            sampler=SAMPLERS[k % 4],
            steps=int(rng.integers(1, 9)),
            seed=int(rng.integers(1 << 40)),
            guidance=guidance,
            conditions={"shift": rng.random(n).astype(np.float32)},
            null_conditions={"shift": np.float32(0.25 * (k % 3))},
        )
    assert recorder.captured == 2


@pytest.mark.parametrize("options", [{"graphs": False}, {}, {"unroll": [5]}], ids=repr)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_prepared_runs_give_the_eager_loops_bits(options, sampler):
    a, b = pair(**options)
    asked = {"sampler": sampler, "steps": 5, "guidance": 2.0, "conditions": {"shift": 0.5}}
    run = b.prepare(3, **asked)
    for seed in (1, 2):
        for shift in (0.5, np.float32([0.1, 0.2, 0.3])):
            want = a.sample(3, **{**asked, "seed": seed, "conditions": {"shift": shift}})
            got = run(seed=seed, conditions={"shift": shift})
            np.testing.assert_array_equal(got.x.view(np.uint32), want.x.view(np.uint32))
        assert_same(a, b, 2, steps=3, seed=seed)  # another form on the same lane


def test_threads_take_turns_at_a_prepared_run_and_its_own_callback_is_refused():
    a, b = pair()
    run = b.prepare(2, sampler="ddpm", steps=6)
    want = {seed: a.sample(2, sampler="ddpm", steps=6, seed=seed).x for seed in range(8)}
    got = {}

    def work(first):
        for seed in range(first, 8, 2):
            got[seed] = run(seed=seed).x

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, x in want.items():
        np.testing.assert_array_equal(got[seed], x)
    with pytest.raises(BackendError, match="its own callback asks for another"):
        b.sample(1, steps=2, on_step=lambda _: run(seed=0))
    np.testing.assert_array_equal(run(seed=3).x, want[3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 3), (7,)])
def test_half_precision_networks_give_the_eager_loops_bits(dtype, shape):
    a, b = pair(make_spec(shape), dtype=dtype)
    options = {"steps": 6, "seed": 3, "guidance": 2.0, "conditions": {"shift": 0.5}}
    for sampler in SAMPLERS:
        assert_same(a, b, 3, sampler=sampler, **options)


def test_learned_variance_gives_the_eager_loops_bits():
    from revstep.samplers import DDPM

    a, b = pair(make_spec((2, 3, 3), learned_variance=True))
    assert_same(a, b, 3, sampler=DDPM("learned"), steps=6, seed=2)


def test_scaled_network_inputs_give_the_eager_loops_bits():
    from revstep import TimeInput

    spec = make_spec(
        schedule=VESchedule(), prediction="edm", time=TimeInput(kind="log_sigma", fractions=True)
    )
    a, b = pair(spec)
    assert_same(a, b, 3, steps=6, seed=2, guidance=1.5, conditions={"shift": 0.5})


def test_start_and_noise_give_the_eager_loops_bits():
    a, b = pair()
    rng = np.random.default_rng(0)
    y = rng.random((3, 1, 4, 5), dtype=np.float32)
    noise = rng.standard_normal((3, 1, 4, 5)).astype(np.float32)
    assert_same(a, b, 3, start=y, strength=0.6, steps=9, seed=4)
    assert_same(a, b, 3, start=y, strength=1.0, steps=9, noise=noise, seed=4)
    assert_same(a, b, 3, noise=noise, steps=3, seed=4)


class CountingGraphs(CallLists):
    def __init__(self):
        self.captured = 0
        self.sizes = []
        self.replayed = []

    def capture(self, calls):
        self.captured += 1
        self.sizes.append(len(calls))
        graph = super().capture(calls)
        counts = self.replayed

        class Counted:
            def replay(self):
                counts.append(len(calls))
                graph.replay()

        return Counted()


def test_unrolled_runs_give_the_eager_loops_bits_in_one_replay():
    recorder = CountingGraphs()
    a, b = pair(graphs=recorder, unroll=(6,), buckets=(4,))
    for sampler in SAMPLERS:
        recorder.replayed.clear()
        assert_same(a, b, 2, sampler=sampler, steps=6, seed=9)
        # DPM-Solver++ and the others make the same number of network calls
        assert recorder.replayed == [18]
    recorder.replayed.clear()
    assert_same(a, b, 2, steps=5, seed=9)
    assert recorder.replayed == [3] * 5
    assert recorder.captured == 2  # the step, and the run of 6
    done = []
    b.sample(2, steps=6, seed=9, progress=lambda k, n: done.append(k))
    assert done == [1, 2, 3, 4, 5, 6]  # a watched run goes step by step


def test_a_network_that_cannot_be_captured_runs_eagerly_and_says_so(caplog):
    class Syncing(RowNet):
        def forward(self, x, t, shift):
            return super().forward(x, t, shift) * (1.0 if float(t.sum()) >= 0 else 2.0)

    recorder = CountingGraphs()
    a, b = pair(module=Syncing().eval(), graphs=recorder)
    assert recorder.captured == 0
    assert "_local_scalar_dense" in caplog.text
    assert caplog.text.count("no CUDA graph") == 1
    assert "eager loop" in caplog.text
    assert b.describe()["graphs"].startswith("refused: the module's operator")
    assert_same(a, b, 3, steps=4, seed=1)


def test_a_refused_capture_falls_back_aloud(caplog):
    class Refusing:
        def capture(self, calls):
            raise CaptureRefused("operation not permitted when stream is capturing")

    a, b = pair(graphs=Refusing())
    assert "not permitted when stream is capturing; the eager loop runs instead" in caplog.text
    assert_same(a, b, 3, steps=4, seed=1)


def test_a_capture_that_another_thread_broke_is_tried_again(caplog):
    class Broken(CountingGraphs):
        tried = 0

        def capture(self, calls):
            self.tried += 1
            if self.tried == 1:
                raise CaptureRefused("operation failed due to a previous error during capture")
            return super().capture(calls)

    recorder = Broken()
    _, b = pair(graphs=recorder, buckets=(2, 4))
    assert recorder.captured == 2
    assert b.describe()["graphs"] == "on"
    assert caplog.text == ""


def test_buckets_are_captured_largest_first_and_keep_their_addresses():
    rows, addresses = [], {}

    class Noting(TorchModuleDenoiser):
        def bind(self, buffers):
            rows.append(len(buffers.t))
            addresses[len(buffers.t)] = buffers.x.data_ptr(), buffers.out.data_ptr()
            return super().bind(buffers)

    spec = make_spec()
    runtime = torch_host_runtime(Noting(RowNet().eval(), spec))
    assert rows == [8, 4, 2, 1]
    assert len(set(addresses.values())) == 1  # one allocation, its first rows
    engine = Engine(runtime)
    for k in range(3):
        engine.sample(3 + k, sampler="dpmpp_2m", steps=3, seed=k, on_step=lambda p: None)
    assert rows == [8, 4, 2, 1]


@pytest.mark.parametrize("graphs", [True, False])
def test_warm_up_calls_the_network_of_every_bucket(graphs):
    seen = []

    class Noting(RowNet):
        def forward(self, x, t, shift):
            seen.append(len(x))
            return super().forward(x, t, shift)

    pair(module=Noting().eval(), graphs=graphs, buckets=(2, 5))
    assert seen[:4] == [5, 5, 5, 1] if graphs else [5, 5, 5, 2]  # 1: the look for waiting operators
    assert set(seen) >= {5, 2}
    seen.clear()
    _, b = pair(module=Noting().eval(), graphs=graphs, warm_up=False)
    assert seen == []
    b.sample(2, steps=3, seed=0)
    assert set(seen) <= {1, 2}


@pytest.mark.parametrize("graphs", [True, False])
def test_what_a_failed_run_leaves_does_not_step_beside_the_next(graphs):
    a, b = pair(graphs=graphs, buckets=(8,))
    options = {"steps": 9, "guidance": 2.0, "conditions": {"shift": 0.5}}

    def fail(k, total):
        raise KeyError("mine")

    for sampler in ("ddpm", "dpmpp_2m"):
        with pytest.raises(KeyError):
            b.sample(4, sampler=sampler, seed=1, progress=fail, **options)
        assert_same(a, b, 2, sampler="ddim", seed=2, **options)


def test_a_new_kind_of_step_never_runs_the_last_runs_programs():
    a, b = pair(buckets=(4,))
    options = {"steps": 6, "conditions": {"shift": 0.5}}

    def fail(k, total):
        raise KeyError("mine")

    with pytest.raises(KeyError):  # its slots stand at rows that read three arrays of history
        b.sample(2, sampler="dpmpp_3m", seed=1, progress=fail, **options)
    assert_same(a, b, 2, sampler="ddim", seed=2, on_step=lambda preview: None, **options)


def test_a_watched_run_is_few_steps_ahead_of_what_it_reports():
    recorder = CountingGraphs()
    _, b = pair(graphs=recorder, buckets=(4,))
    ahead = []
    b.sample(
        2, steps=30, seed=0, progress=lambda k, total: ahead.append(len(recorder.replayed) - k)
    )
    assert len(ahead) == 30
    assert max(ahead) == 2  # a cancelled run ends soon, and little memory waits


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_known_pixels_give_the_eager_loops_bits(sampler):
    a, b = pair(buckets=(8,))
    rng = np.random.default_rng(3)
    known = rng.random((3, 1, 4, 5), dtype=np.float32)
    mask = (rng.random((1, 4, 5)) < 0.5).astype(np.float32)
    options = {"steps": 6, "sampler": sampler, "seed": 2}
    assert_same(a, b, 3, mask=mask, known=known, **options)
    assert_same(a, b, 3, **options)  # the mask is not kept
    assert_same(a, b, 2, mask=1 - mask, known=known[:2], **options)


def test_a_run_inside_a_runs_callback_is_refused_and_does_not_hang():
    a, b = pair()
    with pytest.raises(BackendError, match="one batch at a time"):
        b.sample(2, steps=3, seed=0, progress=lambda k, n: b.sample(1, steps=1))
    assert_same(a, b, 2, steps=3, seed=0)


def test_an_unrolled_run_that_cannot_be_captured_goes_step_by_step(caplog):
    class StepsOnly(CountingGraphs):
        error = CaptureRefused("too many nodes")

        def capture(self, calls):
            if len(calls) > 3:
                raise self.error
            return super().capture(calls)

    recorder = StepsOnly()
    a, b = pair(graphs=recorder, unroll=(6,), buckets=(4,))
    for error in (recorder.error, torch.OutOfMemoryError("CUDA out of memory")):
        recorder.error = error
        assert_same(a, b, 2, steps=6, seed=1)
        assert recorder.replayed == [3] * 6
        recorder.replayed.clear()
    assert "unrolling 6 steps of 4 network rows failed: too many nodes" in caplog.text
    assert caplog.text.count("unrolling") == 1  # tried once
    assert b.describe()["graphs"] == "on"


def test_the_callers_torch_modes_change_nothing():
    module = nn.Sequential(nn.Flatten(), nn.Linear(20, 20), nn.Unflatten(1, (1, 4, 5))).eval()
    spec = make_spec(conditions=())

    class Net(nn.Module):
        def forward(self, x, t):
            return module(x)

    with torch.inference_mode():
        _, b = pair(spec, Net().eval(), graphs=False, buckets=(4,))
    options = {"steps": 4, "seed": 3, "sampler": "dpmpp_2m"}
    want = b.sample(4, **options).x  # outside: its buffers must be ordinary tensors
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(b.sample(4, **options).x, want)
    with torch.inference_mode():  # makes the preview's buffers
        b.sample(4, on_step=lambda p: None, **options)
    np.testing.assert_array_equal(b.sample(4, on_step=lambda p: None, **options).x, want)


def test_unused_network_rows_hold_zeros_null_conditions_and_a_valid_time():
    seen = []

    class Noting(RowNet):
        def forward(self, x, t, shift):
            seen.append((x.clone(), t.clone(), shift.clone()))
            return super().forward(x, t, shift)

    _, b = pair(module=Noting().eval(), buckets=(8,))
    b.sample(8, steps=3, seed=0, conditions={"shift": 2.0})
    seen.clear()
    nulls = np.array([0.25, 0.75], np.float32)
    options = {"conditions": {"shift": [1.0, 2.0]}, "null_conditions": {"shift": nulls}}
    b.sample(2, steps=3, seed=0, guidance=[2.0, 1.0], **options)
    for x, t, shift in seen:
        assert x[:3].abs().amin(dim=(1, 2, 3)).gt(0).all()
        assert x[3:].eq(0).all()
        assert shift.tolist() == [1.0, 2.0, *[0.25] * 6]  # the first null fills the rest
        assert t.ge(0).all()
        assert t.le(999).all()
    assert len(seen) == 3
    assert seen[0][1].eq(seen[0][1][0]).all()
    assert len({float(t[0]) for _, t, _ in seen}) == 3


def test_previews_and_progress_are_the_eager_loops():
    a, b = pair()
    seen = {}
    for name, engine in (("eager", a), ("device", b)):
        previews, done = [], []
        engine.sample(
            11,
            steps=5,
            seed=0,
            sampler="dpmpp_2m",
            on_step=previews.append,
            progress=lambda k, n, done=done: done.append((k, n)),
        )
        seen[name] = [(p.first, p.step, p.steps, p.x0.tobytes()) for p in previews], done
    assert seen["device"] == seen["eager"]


def test_timing_covers_every_step():
    _, b = pair()
    timing, done = Timing(), []
    b.sample(10, steps=4, timing=timing, progress=lambda k, n: done.append(k))
    assert len(timing.network_ns) == len(timing.outside_ns) == 8
    assert all(ns > 0 for ns in timing.network_ns)
    assert done == list(range(1, 9))


def test_cancel_ends_the_run_and_the_next_one_is_right():
    a, b = pair()
    event, done = threading.Event(), []

    def progress(k, total):
        done.append(k)
        if k == 3:
            event.set()

    with pytest.raises(Cancelled, match="after 3 of 10 steps"):
        b.sample(2, steps=10, seed=0, progress=progress, cancel=event)
    assert done == [1, 2, 3]
    assert_same(a, b, 2, steps=10, seed=0)


@pytest.mark.parametrize("unroll", [(), (6,)])
def test_nan_names_its_samples_and_the_next_run_is_right(unroll):
    class Bad(RowNet):
        def forward(self, x, t, shift):
            out = super().forward(x, t, shift)
            return torch.where((shift > 1).reshape(-1, 1, 1, 1), torch.nan, out)

    a, b = pair(module=Bad().eval(), unroll=unroll)
    bad = {"conditions": {"shift": [0, 0, 2, 0]}, "seed": 0, "steps": 6}
    with pytest.raises(NonFiniteError, match=r"step 6 of 6, for sample 2\b"):
        b.sample(4, **bad)
    with pytest.raises(NonFiniteError, match=r"at step 1 of 6, for sample 2\b"):
        b.sample(4, progress=lambda k, n: None, **bad)
    assert_same(a, b, 4, steps=6, seed=0)


def test_nan_of_half_precision_says_which_precision_fixes_it():
    class Large(RowNet):
        def forward(self, x, t, shift):
            return super().forward(x, t, shift) * 60000.0

    _, b = pair(module=Large().eval(), dtype=torch.float16)
    with pytest.raises(NonFiniteError, match="precision='bf16' or 'fp32'"):
        b.sample(2, steps=5, seed=0)


def test_threads_share_one_engine():
    a, b = pair()
    jobs = [
        {"n": 1 + k % 5, "seed": k, "sampler": SAMPLERS[k % 4], "steps": 2 + k % 4}
        for k in range(12)
    ]
    want = [a.sample(**job).x for job in jobs]
    wrong = []

    def worker(number):
        order = np.random.default_rng(number).permutation(len(jobs))
        wrong.extend(int(j) for j in order if not np.array_equal(b.sample(**jobs[j]).x, want[j]))

    threads = [threading.Thread(target=worker, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_no_memory_is_named_with_its_fix_and_the_engine_goes_on():
    class Hungry(RowNet):
        limit = 8

        def forward(self, x, t, shift):
            if len(x) > self.limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(x, t, shift)

    from revstep.engine.errors import DeviceMemoryError

    module = Hungry().eval()
    module.limit = 4
    with pytest.raises(DeviceMemoryError, match=r"preparing 8 network rows.*buckets=\(1, 2, 4,\)"):
        pair(module=module)
    module.limit = 8
    a, b = pair(module=module, graphs=False)
    module.limit = 4
    with pytest.raises(DeviceMemoryError, match=r"run of 8 network rows.*smaller batch_size"):
        b.sample(7, steps=2, seed=0)
    assert_same(a, b, 4, steps=2, seed=0)


def test_a_batch_beyond_the_buckets_is_split_or_refused():
    a, b = pair(buckets=(1, 4))
    assert b.spec.batch == (1, 4)
    assert_same(a, b, 7, steps=3, seed=1)
    with pytest.raises(ValueError, match="1 to 4 with 1 network row"):
        b.sample(5, batch_size=5)


def test_describe_says_what_runs():
    _, b = pair(buckets=(2, 4), unroll=(20,))
    described = b.describe()
    assert described["buckets"] == [2, 4]
    assert described["graphs"] == "on"
    assert described["unrolled"] == [20]
    assert described["backend"] == "torch"
    assert described["precision"] == "fp32"
    _, c = pair(graphs=False)
    assert c.describe()["graphs"] == "off"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"buckets": ()}, ValueError, "one or more"),
        ({"buckets": (16,)}, ValueError, "batch range, 1 to 8"),
        ({"buckets": (2, 2)}, ValueError, "different"),
        ({"buckets": (2.0,)}, TypeError, "buckets must be a whole number"),
        ({"buckets": 8}, TypeError, r"as \(8,\); got int 8"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        pair(**options)
