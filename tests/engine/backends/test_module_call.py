"""The forms in which modules take their inputs and give their output."""

import collections
import dataclasses
import logging
import types
from typing import Any

import numpy as np
import pytest
from specs import spec_of

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import revstep  # noqa: E402
from revstep import Condition  # noqa: E402
from revstep.engine.backends.module.call import CallError, ModuleCall, called  # noqa: E402
from revstep.engine.backends.module.output import OutputError, picked  # noqa: E402
from revstep.errors import BackendError  # noqa: E402

Pair = collections.namedtuple("Pair", "mean logvar")


@dataclasses.dataclass
class Output:
    sample: Any
    extra: Any = None


class Plain:
    def __init__(self, **values):
        vars(self).update(values)


def spec(*conditions, **fields):
    return spec_of(**{"shape": (3,), "name": "x"} | fields, conditions=conditions)


def module_of(forward):
    """A module with that ``forward``."""
    return type("Own", (nn.Module,), {"forward": forward})().eval()


A, B = torch.zeros(2, 3), torch.ones(2, 3)


@pytest.mark.parametrize(
    ("result", "output", "want"),
    [
        (A, None, A),
        ((A,), None, A),
        ([A], None, A),
        ((A, None), None, A),
        ((None, {"more": [A]}), None, A),
        ({"sample": A}, None, A),
        (Output(A), None, A),
        (Plain(sample=A, name="x"), None, A),
        ((A, B), 0, A),
        ((A, B), 1, B),
        ((A, B), -1, B),
        ({"out": A, "aux": B}, "aux", B),
        ({"out": A, "aux": B}, 1, B),
        (Output(A, B), "extra", B),
        (Output((A,), B), "sample", A),
        (Output(A, B), 0, A),
        (Pair(A, B), "logvar", B),
        (Pair(A, B), 0, A),
        (types.SimpleNamespace(a=A, b=B), "b", B),
        (Plain(a=A, b=B), "a", A),
    ],
)
def test_the_one_or_the_named_tensor_is_taken(result, output, want):
    assert picked(result, output) is want


def test_a_property_can_be_named():
    class Both:
        @property
        def sample(self):
            return A

    assert picked(Both(), "sample") is A


@pytest.mark.parametrize(
    ("result", "output", "message"),
    [
        ((A, B), None, r"tuple with 0 \(float32 \(2, 3\)\), 1 .*output=0"),
        ({"out": A, "aux": B}, None, "dict with 'out' .* 'aux' .*output='out'"),
        (Output(A, B), None, "Output with 'sample' .* 'extra' .*output='sample'"),
        ((A, B), "sample", "there is no output 'sample'"),
        ((A, B), 2, "there is no output 2"),
        ({"out": A}, "sample", "with 'out' .*no output 'sample'"),
        (((A, B), B), 0, "where 0 holds 2 tensors, expected one"),
        ((None, A), 0, "where 0 holds 0 tensors"),
        (A, "sample", "one tensor, so there is no output 'sample'; leave output out"),
        (A, 0, "one tensor, so there is no output 0"),
        (None, None, "returned NoneType without outputs, expected one tensor"),
        (3.0, None, "returned float without outputs"),
        ((1.0, "a"), None, r"tuple with 0 \(float\), 1 \(str\), expected one tensor"),
    ],
)
def test_an_unclear_output_is_refused_with_what_there_is(result, output, message):
    with pytest.raises(OutputError, match=message):
        picked(result, output)


def test_keyword_only_inputs_go_by_the_specs_names():
    def forward(self, x, t, *, scale, shift):
        return x * scale[:, None] + shift[:, None]

    call = ModuleCall(module_of(forward), spec(Condition(name="shift"), Condition(name="scale")))
    x, t = torch.randn(2, 3), torch.zeros(2)
    shift, scale = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    torch.testing.assert_close(call(x, t, shift, scale), x * scale[:, None] + shift[:, None])


def test_state_and_time_may_be_keyword_only_too():
    def forward(self, label, *, timestep, x):
        return x + 10 * timestep[:, None] + label[:, None]

    call = ModuleCall(module_of(forward), spec(Condition(name="label")))
    out = call(torch.zeros(2, 3), torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.25]))
    torch.testing.assert_close(out[:, 0], torch.tensor([10.5, 20.25]))


def test_conditions_go_by_name_where_only_keywords_take_them():
    def forward(self, x, t, **more):
        return x + more["b"][:, None] - more["a"][:, None]

    call = ModuleCall(module_of(forward), spec(Condition(name="a"), Condition(name="b")))
    out = call(torch.zeros(1, 3), torch.zeros(1), torch.tensor([1.0]), torch.tensor([5.0]))
    assert out[0, 0] == 4.0


def test_other_inputs_go_by_position_and_a_name_elsewhere_is_logged(caplog):
    def forward(self, timestep, x):
        return timestep + x[:, None]

    call = ModuleCall(module_of(forward), spec())
    assert call(torch.ones(2, 3), torch.tensor([1.0, 2.0]))[1, 0] == 3.0
    messages = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(messages) == 2
    assert "the spec's 'x' goes to 'timestep'" in messages[0]


def test_a_keyword_that_the_spec_does_not_name_is_refused():
    def forward(self, x, t, *, text, mask=None):
        return x

    with pytest.raises(CallError, match=r"Own.forward needs text by name.*x, timestep, y"):
        ModuleCall(module_of(forward), spec(Condition(name="y")))


@pytest.mark.parametrize("output", [True, 1.5, b"a", ("sample",)])
def test_an_output_is_a_name_or_an_index(output):
    with pytest.raises(TypeError, match="output"):
        ModuleCall(nn.Linear(3, 3), spec(), output)


def warnings_of(caplog, forward, **attributes):
    caplog.clear()
    module = module_of(forward)
    vars(module).update(attributes)
    ModuleCall(module, spec())
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_self_conditioning_left_out_is_logged_by_name(caplog):
    def forward(self, x, t, x_self_cond=None, classes=None):
        return x

    (message,) = warnings_of(caplog, forward)
    assert "'x_self_cond' (self-conditioning) is left at its default" in message
    # lucidrains' networks have the parameter and a switch
    assert not warnings_of(caplog, forward, self_condition=False)
    assert warnings_of(caplog, forward, self_condition=True)

    def without(self, x, t, classes=None, return_dict=True, *, mask=None):
        return x

    assert not warnings_of(caplog, without)


def test_self_conditioning_that_is_fed_is_not_logged(caplog):
    def forward(self, x, t, x_self_cond=None):
        return x

    ModuleCall(module_of(forward), spec(Condition(name="x_self_cond", shape=(3,))))
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_half_condition_reaches_the_module_in_its_dtype(dtype):
    seen = []

    def forward(self, x, t, c):
        seen.append(c.dtype)
        return x + c.float()[:, None]

    call = ModuleCall(module_of(forward), spec(Condition(name="c", dtype=dtype)))
    value = torch.tensor([0.1, 1 / 3])
    out = call(torch.zeros(2, 3), torch.zeros(2), value)
    assert seen == [getattr(torch, dtype)]
    torch.testing.assert_close(out[:, 0], value.to(getattr(torch, dtype)).float(), rtol=0, atol=0)


def test_it_has_the_names_of_the_module_and_no_mode_of_its_own():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    call = ModuleCall(net, spec())
    assert [n for n, _ in call.named_parameters()] == [n for n, _ in net.named_parameters()]
    assert [n for n, _ in call.named_buffers()] == [n for n, _ in net.named_buffers()]
    assert list(call.parameters()) == list(net.parameters())
    assert any(part.training for part in call.modules())
    net.eval()
    assert not any(part.training for part in call.modules())
    assert called(call, spec()) is call
    assert called(nn.Sequential(call), spec())[0] is call
    assert called(net, spec()).module is net


def test_a_half_condition_follows_the_half_weights_where_they_are_cast():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.take = nn.Linear(4, 3).half()
            self.rest = nn.Linear(3, 3)

        def forward(self, x, t, c):
            return self.rest(x) + self.take(c).float()

    net = Net().eval()
    c = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    form = spec(Condition(name="c", dtype="float16", shape=(4,)))
    call, x, t = ModuleCall(net, form), torch.zeros(1, 3), torch.zeros(1)
    want = call(x, t, c)
    wide = call.to(torch.float32)
    torch.testing.assert_close(wide(x, t, c), want, rtol=2e-3, atol=2e-3)


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(3, 3)

    def forward(self, x, t, *, gain):
        return {"noise": self.net(x) * gain[:, None], "features": x}


def test_a_live_engine_samples_the_named_output():
    form = spec(Condition(name="gain", null=1.0))
    module = Several().eval()
    engine = revstep.from_module(module, form, device="cpu", output="noise")

    class Alone(nn.Module):
        def forward(self, x, t, gain):
            return module(x, t, gain=gain)["noise"]

    want = revstep.from_module(Alone().eval(), form, device="cpu")
    call = {"seed": 0, "steps": 3, "conditions": {"gain": [0.5, 2.0]}}
    np.testing.assert_array_equal(engine.sample(**call).x, want.sample(**call).x)
    with pytest.raises(BackendError, match=r"'noise' .*'features'.*output='noise'"):
        revstep.from_module(module, form, device="cpu").sample(**call)


def test_the_call_can_be_compiled_without_a_break():
    call = ModuleCall(Several().eval(), spec(Condition(name="gain")), "noise")
    inputs = torch.randn(2, 3), torch.zeros(2), torch.tensor([0.5, 2.0])
    compiled = torch.compile(call, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), call(*inputs))


def test_an_index_out_of_range_in_a_live_module_names_the_condition():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 3)

        def forward(self, x, t, tokens):
            return x + self.table(tokens)

    tokens = Condition(name="tokens", dtype="int32", null=0)
    engine = revstep.from_module(Tokens().eval(), spec(tokens), device="cpu")
    with pytest.raises(BackendError, match=r"out of range.*condition 'tokens'.*limits"):
        engine.sample(1, steps=1, conditions={"tokens": 10})
