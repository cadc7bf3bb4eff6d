"""A live module belongs to its owner, who trains it, moves it, replaces its weights, forks."""

import threading
import types

import numpy as np
import pytest
from specs import spec_of

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import revstep  # noqa: E402
from revstep.engine.backends.module.eval_form import EvalForm  # noqa: E402
from revstep.engine.backends.module.weights_place import WeightsPlace  # noqa: E402
from revstep.errors import BackendError  # noqa: E402

SPEC = spec_of(shape=(1, 4, 4))
RUN = {"steps": 3, "seed": 0}


class Net(nn.Module):
    """Everything that knows a mode: batch norm, dropout, spectral norm, and a flag of its own."""

    def __init__(self):
        super().__init__()
        self.f, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.g = nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 1, 3, padding=1))
        self.table, self.cache, self.scale = None, {}, 1.0

    def forward(self, x, t):
        if self.table is None:
            self.table = torch.linspace(0.5, 1.5, x.shape[-1])
        half = self.cache.setdefault("half", torch.full((1,), 0.5))
        noise = torch.rand_like(x) if self.training else 0
        x = self.g(self.drop(self.norm(self.f(x)))) * self.table * half * self.scale + noise
        return x + 1e-3 * t[:, None, None, None]


def _net(seed=0):
    torch.manual_seed(seed)
    net = Net()
    for _ in range(3):
        net(torch.randn(4, 1, 4, 4), torch.zeros(4))  # running statistics that aren't 0 and 1
    net.table, net.cache = None, {}
    return net.eval()


def _engine(net, **options):
    return revstep.from_module(net, SPEC, device="cpu", **options)


def _buffers(net):
    return {name: value.clone() for name, value in net.named_buffers()}


@pytest.mark.parametrize("part", ["", "drop", "norm"])
def test_a_module_set_to_train_mode_samples_as_in_eval_mode_and_stays_as_it_is(part):
    net = _net()
    engine = _engine(net)
    want = engine.sample(2, **RUN).x
    net.get_submodule(part).train()
    modes, before = [m.training for m in net.modules()], _buffers(net)
    np.testing.assert_array_equal(engine.sample(2, **RUN).x, want)
    np.testing.assert_array_equal(_engine(net).sample(2, **RUN).x, want)  # made in that mode too
    assert [m.training for m in net.modules()] == modes
    for name, value in net.named_buffers():
        assert torch.equal(value, before[name]), name


def test_train_mode_in_the_middle_of_a_run_changes_nothing():
    net = _net()
    engine = _engine(net)
    want = engine.sample(2, **RUN).x
    got = engine.sample(2, **RUN, progress=lambda k, n: net.train() if k == 1 else None).x
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("training", [False, True])
def test_what_is_written_into_the_weights_is_followed(training):
    net = _net()
    net.train(training)
    engine = _engine(net)
    engine.sample(2, **RUN)

    def check():
        same = _net()
        same.load_state_dict(net.state_dict())
        same.scale = net.scale
        np.testing.assert_array_equal(
            engine.sample(2, **RUN).x, _engine(same.eval()).sample(2, **RUN).x
        )

    before = engine.sample(2, **RUN).x
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.train()
    net(torch.randn(4, 1, 4, 4), torch.zeros(4)).square().mean().backward()
    optimizer.step()
    net.train(training)
    check()
    assert np.abs(engine.sample(2, **RUN).x - before).max() > 0
    net.load_state_dict(_net(seed=1).state_dict())
    check()
    net.load_state_dict(_net(seed=2).state_dict(), assign=True)
    check()
    net.scale = 2.0  # an attribute
    check()


@pytest.mark.parametrize("training", [False, True])
def test_hooks_that_come_later_run(training):
    net = _net()
    net.train(training)
    engine = _engine(net)
    engine.sample(1, steps=1)
    seen = []
    handle = net.f.register_forward_hook(lambda *_: seen.append(1))
    engine.sample(1, steps=2)
    assert len(seen) >= 2
    handle.remove()
    seen.clear()
    engine.sample(1, steps=2)
    assert not seen


def test_training_goes_on_after_sampling_with_what_the_module_kept():
    net = _net()
    _engine(net).sample(1, **RUN)
    assert net.table is not None
    assert not net.table.is_inference()
    net.train()
    net(torch.randn(2, 1, 4, 4), torch.zeros(2)).square().mean().backward()


def test_no_gradient_is_recorded_and_the_callers_mode_is_as_before():
    net, seen = _net(), []
    net.f.register_forward_hook(lambda m, i, o: seen.append((o.requires_grad, o.is_inference())))
    _engine(net).sample(1, steps=1)
    assert seen == [(False, False)]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("training", [False, True])
def test_the_callers_inference_mode_and_autocast_change_nothing_now_or_later(training):
    net = _net()
    net.train(training)
    want = _engine(net).sample(2, **RUN).x
    engine = _engine(net)
    with torch.inference_mode():
        np.testing.assert_array_equal(engine.sample(2, **RUN).x, want)
    np.testing.assert_array_equal(engine.sample(2, **RUN).x, want)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(engine.sample(2, **RUN).x, want)


def test_a_module_with_lazy_layers_may_be_given_before_its_first_call():
    torch.manual_seed(0)

    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.LazyConv2d(1, 3, padding=1)

        def forward(self, x, t):
            return self.f(x)

    net = Lazy().eval()
    place, engine = WeightsPlace(net, captured=True), _engine(net)
    np.testing.assert_array_equal(engine.sample(1, **RUN).x, engine.sample(1, **RUN).x)
    place.check()


def _through_a_closure(net):
    inner = net.f
    net.g.forward = lambda x: inner(x[:, :1])[:, :1]


def _with_a_lock(net):
    net.lock = threading.Lock()


@pytest.mark.parametrize(
    ("change", "message"),
    [(_through_a_closure, "the original's Conv2d, through a closure"), (_with_a_lock, "lock")],
)
def test_a_module_that_can_only_run_itself_must_be_in_eval_mode(change, message):
    net = _net()
    change(net)
    engine = _engine(net)
    want = engine.sample(1, **RUN).x
    net.train()
    with pytest.raises(BackendError, match=rf"in train mode.*{message}.*call module\.eval\(\)"):
        engine.sample(1, **RUN)
    net.eval()
    np.testing.assert_array_equal(engine.sample(1, **RUN).x, want)
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_a_patched_forward_is_taken_along():
    net = _net()

    def forward(self, x, t):
        return self.norm(self.f(x))[:, :1] * 0.5

    net.forward = types.MethodType(forward, net)
    engine = _engine(net)
    want = engine.sample(1, **RUN).x
    net.train()
    np.testing.assert_array_equal(engine.sample(1, **RUN).x, want)


def test_another_thread_that_trains_meanwhile_is_not_refused():
    net = _net()
    engine = _engine(net)
    want = engine.sample(1, **RUN).x
    net.train()
    stop, failures = threading.Event(), []

    def train():
        try:
            while not stop.is_set():
                net.f(torch.randn(2, 1, 4, 4))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    for _ in range(5):
        np.testing.assert_array_equal(engine.sample(1, **RUN).x, want)
        net.scale = float(net.scale)  # another object: another copy
    stop.set()
    thread.join()
    assert not failures


def test_the_copy_for_train_mode_shares_the_weights_and_is_kept():
    net = _net().train()
    form = EvalForm(net)
    inputs = torch.zeros(1, 1, 4, 4), torch.zeros(1)
    with torch.no_grad():
        form(*inputs)
        made = form._copy.module
        form.refresh()
        form(*inputs)
    assert form._copy.module is made
    for a, b in zip(net.state_dict().values(), made.state_dict().values(), strict=True):
        assert a.data_ptr() == b.data_ptr()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: net.half(), "'f.weight'.*torch.float16 now, and was torch.float32"),
        (lambda net: net.to("meta"), "'f.weight'.*meta now, and was cpu"),
        (lambda net: net.norm.double(), "'norm.weight'.*torch.float64 now"),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_a_module_that_was_moved_or_cast_is_named_with_the_fix(change, message, training):
    net = _net()
    engine = _engine(net)
    engine.sample(1, **RUN)
    net.train(training)
    change(net)
    with pytest.raises(BackendError, match=rf"{message}.*call from_module again"):
        engine.sample(1, **RUN)


def test_weights_of_captured_steps_must_stay_where_they_are():
    net = _net()
    place = WeightsPlace(net, captured=True)
    net.load_state_dict(_net(seed=1).state_dict())
    place.check()
    net.f.weight.data = net.f.weight.data.clone()
    with pytest.raises(BackendError, match=r"'f\.weight' of the live module lies elsewhere"):
        place.check()
    place = WeightsPlace(net, captured=True)
    net.f.register_buffer("more", torch.zeros(1))
    with pytest.raises(BackendError, match="other weights or buffers than when"):
        place.check()
    WeightsPlace(net).check()


def test_a_copy_is_independent_of_its_module_and_said_to_be_one():
    net = _net()
    engine = _engine(net, precision="bf16")
    want = engine.sample(1, **RUN).x
    assert engine.describe()["weights"] == "copied from the module"
    assert _engine(net).describe()["weights"] == "the module's own"
    net.train()
    net.half()
    np.testing.assert_array_equal(engine.sample(1, **RUN).x, want)


def test_torch_threads_beyond_the_usable_cores_are_reported(monkeypatch):
    from revstep.engine.backends.module import denoiser as torch_module

    engine = _engine(_net())
    monkeypatch.setattr(torch_module, "usable_cpus", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    described = engine.describe()
    assert (described["threads"], described["usable_cores"]) == (8, 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert "usable_cores" not in engine.describe()
