"""Live modules in 16 bits, without edits: what is cast, what stays float32, and how near it is."""

import copy
import dataclasses
import logging
import warnings

import numpy as np
import pytest
from specs import spec_of

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from toys import build, embed  # noqa: E402

import revstep  # noqa: E402
from revstep.engine.backends.module.denoiser import TorchModuleDenoiser  # noqa: E402
from revstep.engine.backends.module.reduced import live_module  # noqa: E402
from revstep.engine.spec.precisions import FORWARD_BOUNDS  # noqa: E402

CPU = torch.device("cpu")
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
SPEC = spec_of(shape=(8,))
PRECISIONS = pytest.mark.parametrize("precision", ["fp16", "bf16"])


class HandWritten(nn.Module):
    """A float32 time embedding beside layers that would be of half weights."""

    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 32))
        self.first, self.norm = nn.Linear(8, 32), nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.last = nn.Linear(32, 8)

    def forward(self, x, t):
        h = self.norm(self.first(x) + self.time(embed(t, 16)))[:, None]
        return self.last(torch.stack([h[:, 0], self.attention(h, h, h)[0][:, 0]], 1).sum(1))


class Padded(nn.Module):
    """PyTorch's encoder on padded sequences, whose nested tensors autocast doesn't reach."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x, t, mask):
        return self.last(self.encoder(self.first(x), src_key_padding_mask=mask))


@PRECISIONS
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("null", [False, True])  # with all True the trial run fails
def test_padded_encoders_of_pytorch_run_as_in_float32(precision, null):
    mask = revstep.Condition(name="mask", dtype="bool", shape=(6,), null=null)
    spec = dataclasses.replace(SPEC, shape=(6, 4), conditions=(mask,))
    torch.manual_seed(0)
    module = Padded().eval()
    x = torch.randn(2, 6, 4)
    given = torch.tensor([[False] * 3 + [True] * 3, [False] * 5 + [True]])
    with torch.no_grad():
        want = module(x, None, given)
        got = live_module(module, spec, precision, CPU)(x, torch.zeros(2), given)
    assert torch.equal(want[0, 3:], module.last.bias.expand(3, 4))  # PyTorch's zeros
    torch.testing.assert_close(got.float(), want, rtol=0, atol=FORWARD_BOUNDS[precision])


@PRECISIONS
def test_a_reduced_module_runs_itself_not_a_copy_in_eval_mode(precision):
    live = live_module(HandWritten().train(), SPEC, precision, CPU)
    assert not any(part.training for part in live.modules())


class Bare(nn.Module):
    """A layer whose states autocast has in 16 bits."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 4)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x, t):
        return self.last(self.layer(self.first(x)))


@PRECISIONS
def test_encoder_layers_of_pytorch_run_on_states_of_16_bits(precision):
    torch.manual_seed(0)
    module = Bare().eval()
    x = torch.randn(2, 6, 4)
    with torch.no_grad():
        want = module(x, None)
        live = live_module(module, dataclasses.replace(SPEC, shape=(6, 4)), precision, CPU)
        got = live(x, torch.zeros(2))
    torch.testing.assert_close(got.float(), want, rtol=0, atol=FORWARD_BOUNDS[precision])


class RawTime(nn.Module):
    """Feeds the time itself to a layer, as tabular networks do."""

    def __init__(self):
        super().__init__()
        self.time, self.state = nn.Linear(1, 32), nn.Linear(8, 32)
        self.last = nn.Linear(32, 8)

    def forward(self, x, t):
        return self.last(torch.sin(self.time(t[:, None])) + self.state(x))


class Outside(nn.Module):
    """Runs one layer in float32 by itself, outside of autocast."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x, t):
        with torch.autocast("cpu", enabled=False):
            h = self.inner(x.float()) * torch.cos(t)[:, None]
        return self.last(h)


class Tied(nn.Module):
    """A layer whose weight is an embedding's too."""

    def __init__(self):
        super().__init__()
        self.table, self.last = nn.Embedding(8, 8), nn.Linear(8, 8)
        self.last.weight = self.table.weight

    def forward(self, x, t):
        return self.last(x) + self.table(t.long() % 8)


class Normed(nn.Module):
    """Weights that are computed anew in every call, by hooks and by parametrisations."""

    def __init__(self):
        super().__init__()
        self.first = nn.utils.parametrizations.weight_norm(nn.Linear(8, 32))
        with warnings.catch_warnings(), torch.no_grad():  # torch copies no weight with a gradient
            warnings.simplefilter("ignore")
            self.middle = nn.utils.weight_norm(nn.Linear(32, 32))
        self.last = nn.utils.spectral_norm(nn.Linear(32, 8))

    def forward(self, x, t):
        return self.last(torch.tanh(self.middle(torch.tanh(self.first(x)))))


class ByHand(nn.Module):
    """Products with its own tensors, a convolution, and a layer called by name."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(8, 8) / 3), nn.Parameter(torch.zeros(8))
        self.conv, self.time = nn.Conv1d(1, 4, 3, padding=1), nn.Linear(16, 8)

    def forward(self, x, t):
        h = torch.addmm(self.bias, x, self.weight) + self.time(input=embed(t, 16))
        h = self.conv(h[:, None]) * torch.nn.functional.linear(x, self.weight)[:, None]
        return torch.einsum("bcd,de->be", h, self.weight)


def far(module, reduced, rows=64):
    """The largest error over the RMS of the float32 output, at times spread over the schedule."""
    rng = torch.Generator().manual_seed(1)
    x, t = torch.randn(rows, 8, generator=rng), torch.linspace(0, 999, rows)
    with torch.no_grad():
        want, got = module(x, t).double(), reduced(x, t).double()
    return float((got - want).abs().max() / want.square().mean().sqrt())


@PRECISIONS
@pytest.mark.parametrize("kind", [HandWritten, RawTime, Outside, Tied, Normed, ByHand])
def test_a_module_runs_unedited_within_the_bound_of_an_export(kind, precision):
    torch.manual_seed(0)
    module = kind().eval()
    before = copy.deepcopy(module.state_dict())
    reduced = live_module(module, SPEC, precision, CPU)
    assert 0.0 < far(module, reduced) < FORWARD_BOUNDS[precision]
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


@PRECISIONS
def test_products_of_the_state_are_cast_and_what_sees_the_time_alone_is_not(precision):
    reduced = live_module(HandWritten().eval(), SPEC, precision, CPU).module
    cast = {name for name, p in reduced.named_parameters() if p.dtype == DTYPES[precision]}
    wide = {name for name, p in reduced.named_parameters() if p.dtype == torch.float32}
    assert cast == {name for name in cast | wide if name.split(".")[0] not in ("time", "norm")}
    assert wide >= {"time.0.weight", "time.2.bias", "norm.weight"}


def test_a_layer_outside_of_autocast_and_one_tied_to_a_table_keep_their_weights():
    reduced = live_module(Outside().eval(), SPEC, "bf16", CPU).module
    assert reduced.inner.weight.dtype == torch.float32
    assert reduced.last.weight.dtype == torch.bfloat16
    assert live_module(Tied().eval(), SPEC, "bf16", CPU).module.last.weight.dtype == torch.float32


def test_weights_that_fail_in_16_bits_are_given_back():
    class Picky(HandWritten):
        def forward(self, x, t):
            if self.last.weight.dtype != torch.float32:
                raise TypeError("a weight of another type")
            return super().forward(x, t)

    reduced = live_module(Picky().eval(), SPEC, "bf16", CPU)
    assert {p.dtype for p in reduced.parameters()} == {torch.float32}
    assert reduced(torch.ones(2, 8), torch.ones(2)).shape == (2, 8)


def test_half_weights_as_given_are_taken():
    module = RawTime().eval().half()
    reduced = live_module(module, SPEC, "bf16", CPU)
    assert reduced.module.state.weight.dtype == torch.bfloat16
    assert reduced.module.time.weight.dtype == torch.float32
    assert module.time.weight.dtype == torch.float16


def test_a_module_that_refuses_null_conditions_still_runs():
    spec = spec_of(shape=(8,), conditions=(revstep.Condition(name="length"),))

    class Picky(HandWritten):
        def forward(self, x, t, length):
            if bool((length == 0).any()):
                raise ValueError("a length of 0")
            return super().forward(x, t) / length[:, None]

    engine = revstep.from_module(Picky().eval(), spec, device="cpu", precision="bf16")
    assert np.isfinite(engine.sample(2, steps=2, seed=0, conditions={"length": [1.0, 2.0]}).x).all()


def test_a_condition_that_is_a_time_is_not_rounded():
    spec = spec_of(shape=(4,), conditions=(revstep.Condition(name="r"),))

    class Jump(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(4, 4)

        def forward(self, x, t, r):
            return self.mix(x) * torch.cos(t - r)[:, None]

    torch.manual_seed(0)
    module, run = Jump().eval(), {"n": 2, "seed": 0, "steps": 1, "conditions": {"r": [999.0] * 2}}
    want = revstep.from_module(module, spec, device="cpu").sample(**run).x
    got = revstep.from_module(module, spec, device="cpu", precision="bf16").sample(**run).x
    assert np.abs(got - want).max() < 0.02 * np.sqrt(np.mean(want**2))


def test_a_module_that_16_bits_change_too_much_is_warned_of(caplog):
    class Cancels(HandWritten):
        def forward(self, x, t):
            return self.last(1000.0 + super().forward(x, t)[:, :1].expand(-1, 32)) - self.last(
                torch.full((len(x), 32), 1000.0)
            )

    with caplog.at_level(logging.WARNING, "revstep"):
        live_module(Cancels().eval(), SPEC, "bf16", CPU)
    assert "in bfloat16 the module differs from float32 by" in caplog.text


@PRECISIONS
def test_a_reduced_module_can_be_captured_and_says_its_precision(precision):
    module, spec, _ = build("policy")
    reduced = live_module(module, spec, precision, CPU)
    denoiser = TorchModuleDenoiser(reduced, spec, precision=precision)
    assert denoiser.capturable is None
    assert denoiser.describe()["precision"] == precision
    assert denoiser.dtype == torch.float32


def test_a_reduced_module_goes_through_torch_compile():
    module, spec, _ = build("policy")
    reduced = live_module(module, spec, "bf16", CPU)
    compiled = torch.compile(reduced, backend="eager", fullgraph=True)
    inputs = torch.randn(2, *spec.shape), torch.tensor([3.0, 90.0]), torch.randn(2, 4)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), reduced(*inputs), rtol=0.02, atol=0.02)
