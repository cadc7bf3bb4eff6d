"""The bundle is the module as it was given: in its own dtypes, and usable afterwards."""

import copy
import logging
import threading

import numpy as np
import onnxruntime as ort
import pytest
import torch
from specs import spec_of
from torch import nn
from toys import build

from revstep import Condition, DenoiserSpec
from revstep.engine.backends.module.cast import LARGE
from revstep.engine.errors import ExportError
from revstep.export import compile_bundle, export_module
from revstep.export.module.checks import called_module
from revstep.export.module.form import Form, find_form, in_eval_mode
from revstep.export.parity.reference import float32_copy, make_decoder_reference, make_reference
from revstep.schedules import VPSchedule

BOUND = {"forward": 1e-4, "ddim20": 1e-3}
FP16 = {"forward": 1e-2, "ddim20": 3e-2}


def spec(shape=(8,), *conditions):
    return spec_of(shape=shape, conditions=conditions)


def error(module, bundle, **conditions):
    """The largest error of a bundle's graph over the RMS of the module's own output."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, *bundle.spec.shape, generator=generator)
    t = torch.tensor([10.0, 500.0, 937.0])
    with torch.no_grad():
        want = module(x, t, *conditions.values()).double().numpy()
    fed = {bundle.spec.name: x, bundle.spec.time.name: t, **conditions}
    session = ort.InferenceSession(bundle.graph("fp32"), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {name: value.numpy() for name, value in fed.items()})
    return np.abs(got - want).max() / np.sqrt(np.mean(want**2))


class Net(nn.Module):
    """A linear layer, and ``change`` of (its module, its output, the time)."""

    def __init__(self, change=lambda self, y, t: y + 1e-3 * t):
        super().__init__()
        torch.manual_seed(0)
        self.f = nn.Linear(8, 8)
        self.change = change

    def forward(self, x, t):
        return self.change(self, self.f(x), t[:, None])


def turned(self, y, t):
    pairs = torch.view_as_complex(y.reshape(-1, 4, 2).contiguous())
    return torch.view_as_real(pairs * self.turn).reshape(y.shape) + 1e-3 * t


def real_and_imaginary(self, y, t):
    turned = torch.view_as_complex(y.reshape(-1, 4, 2).contiguous()) * self.turn.conj()
    return torch.cat([turned.real, turned.imag], -1) + 1e-3 * t


def from_table(self, y, t):
    return y + (1e6 * self.table).sin().float() + 1e-3 * t  # off by 0.1 in float32


def buffers(change, **named):
    module = Net(change)
    for name, value in named.items():
        module.register_buffer(name, value)
    return module.eval()


TURN = torch.polar(torch.ones(4), torch.arange(4.0) + 0.3)
TABLE = torch.linspace(0.1, 1, 8, dtype=torch.float64)


@pytest.mark.parametrize(
    "module",
    [
        buffers(turned, turn=TURN),
        buffers(real_and_imaginary, turn=TURN),
        buffers(from_table, table=TABLE),
        buffers(lambda self, y, t: y.squeeze(1) + 1e-3 * t),
    ],
    ids=["complex buffer", "conjugate", "float64 table", "squeeze of a longer axis"],
)
def test_the_graph_is_the_module(module, tmp_path):
    bundle = export_module(module, spec(), tmp_path / "x.revstep")
    assert error(module, bundle) < 1e-5
    assert bundle.manifest["parity"]["bounds"] == {"fp32": BOUND}
    assert bundle.manifest["parity"]["reference"] == {"dtype": "float32", "device": "cpu"}


def test_the_reference_of_a_half_module_is_its_own_output_with_its_own_bounds(tmp_path):
    module = Net().half().eval()
    bundle = export_module(module, spec(), tmp_path / "x.revstep")
    parity = bundle.parity()
    x, t = torch.from_numpy(parity["x"]), torch.from_numpy(parity["t"])
    with torch.no_grad():
        want = module(x.half(), t).float().numpy()
    assert np.array_equal(parity["out"], want)
    parity_entry = bundle.manifest["parity"]
    assert parity_entry["bounds"] == {"fp32": FP16}
    assert parity_entry["reference"]["dtype"] == "float16"
    assert 1e-5 < parity_entry["figures"]["copy"]["forward"]["error"] < 1e-2
    figures = compile_bundle(bundle.path, threads=1).parity
    assert figures["forward"]["bound"] == 1e-2
    with pytest.raises(Exception, match="differs from the reference"):
        compile_bundle(bundle.path, threads=1, bounds={"forward": 1e-6})


def test_a_bfloat16_module_runs_its_own_ddim():
    module = Net().bfloat16().eval()
    held = make_reference(module, float32_copy(module), spec(), ("fp32",))
    assert held.run_in == {"dtype": "bfloat16", "device": "cpu"}
    assert held.limits["fp32"].forward == 5e-2
    copied = make_reference(float32_copy(module), float32_copy(module), spec(), ("fp32",))
    assert not np.array_equal(held.parity["ddim20.final"], copied.parity["ddim20.final"])


def test_a_float64_module_runs_in_float64():
    module = Net().double().eval()
    seen = set()
    module.f.register_forward_hook(lambda m, inputs, out: seen.add(out.dtype))
    held = make_reference(module, float32_copy(Net()), spec(), ("fp32",))
    assert seen == {torch.float64}
    assert held.run_in["dtype"] == "float64"
    assert held.limits["fp32"].forward == 1e-4


def takes_time_of_its_weights(self, y, t):
    return y + self.f(torch.cos(t * torch.arange(8.0)))  # float32 into a layer of any dtype


def test_a_module_that_cant_run_as_given_is_held_to_its_copy_with_a_warning(caplog):
    module = Net(takes_time_of_its_weights).half().eval()
    with caplog.at_level(logging.WARNING, "revstep"):
        held = make_reference(module, float32_copy(module), spec(), ("fp32",))
    assert held.run_in["dtype"] == "float32"
    assert held.limits["fp32"].forward == 1e-4
    (record,) = caplog.records
    assert "weights of float16" in record.getMessage()
    assert "module.float()" in record.getMessage()


def test_what_a_cast_changes_is_refused_with_its_name(tmp_path):
    module = buffers(lambda self, y, t: y + (1e9 * self.table).sin(), table=TABLE).double()
    with pytest.raises(ExportError, match=r"as it was given \(.*the bound is.*'table' \(float64\)"):
        export_module(module, spec(), tmp_path / "x.revstep")
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_asks_for_its_dtype_is_refused():
    module = Net(lambda self, y, t: y * (2 if y.dtype == torch.bfloat16 else 1)).bfloat16().eval()
    with pytest.raises(
        ExportError, match=r"float32 copy.*does not do what the module does as it was"
    ):
        make_reference(module, float32_copy(module), spec(), ("fp32",))


@pytest.mark.parametrize("power", [True, False])
def test_a_part_in_16_bits_widens_the_bounds_where_it_must(power, tmp_path, caplog):
    def part(self, y, t):  # ONNX Runtime rounds half powers otherwise than torch
        return torch.pow(y.half().abs() + 1, y.half()) if power else y + 0 * y.half()

    module = Net(lambda self, y, t: part(self, y, t).float() + 1e-3 * t).eval()
    one = DenoiserSpec(shape=(8,), schedule=VPSchedule(), prediction="sample")
    with caplog.at_level(logging.WARNING, "revstep"):
        bundle = export_module(module, one, tmp_path / "x.revstep")
    assert bundle.manifest["parity"]["bounds"]["fp32"] == (FP16 if power else BOUND)
    assert ("computes a part in 16 bits" in caplog.text) == power


@pytest.mark.parametrize(
    ("take", "bound"),
    [
        (lambda c: c.float(), 1e-4),
        (lambda c: (c * c).float(), 1e-2),  # which a runtime may round otherwise
        (lambda c: (1.1 * c.float()).half().float(), 1e-2),
    ],
)
def test_a_half_condition_alone_widens_no_bound(take, bound):
    class Takes(Net):
        def forward(self, x, t, c):
            return self.f(x) + take(c) + 1e-3 * t[:, None]

    one = spec((8,), Condition(name="c", shape=(8,), dtype="float16"))
    module = called_module(Takes().eval(), one, None)
    held = make_reference(module, float32_copy(module), one, ("fp32",))
    assert held.limits["fp32"].forward == 1e-4
    assert held.inner.forward == bound


def test_the_first_form_that_a_module_takes_is_used():
    def run(allowed):
        def once(form):
            if form.dtype not in allowed or form.time not in allowed:
                raise ExportError(f"not {form.dtype}")

        return once

    half, double = Net().half(), Net().double()
    f16, f32, f64 = torch.float16, torch.float32, torch.float64
    assert find_form(half, run({f32})) == Form()
    assert find_form(half, run({f16, f32, f64})) == Form()
    assert find_form(double, run({f64})) == Form(dtype=f64, time=f64)
    with pytest.raises(ExportError, match=r"not torch.float32"):
        find_form(half, run({f16}))  # never a time of 16 bits


class Keeping(Net):
    """Keeps a table that it computes once; uses dropout in training."""

    table = None

    def forward(self, x, t):
        if self.table is None:
            self.table = torch.cos(torch.arange(8.0))
        y = self.f(x) * self.table
        return nn.functional.dropout(y, 0.5, self.training) + 1e-3 * t[:, None]


@pytest.mark.parametrize("training", [True, False])
def test_a_module_can_be_trained_on_after_its_export(training, tmp_path):
    module = Keeping().train(training)
    module.lock = threading.Lock()
    bundle = export_module(module, spec(), tmp_path / "x.revstep")
    assert module.training == training
    assert all(p.requires_grad for p in module.parameters())
    assert error(Keeping().eval(), bundle) < 1e-5
    module.train()(torch.randn(2, 8), torch.zeros(2)).square().mean().backward()
    assert module.f.weight.grad is not None


class Named(nn.Module):
    """Conditions named like operators, a weight and the output."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4))
        self.a = nn.Linear(4, 4)

    def forward(self, x, t, view, linear, cos, out, weight):
        y = torch.cos(self.a(x)) + view.view(-1, 4) * self.weight + linear + cos * out
        return y + weight + 1e-3 * t[:, None]


def test_conditions_may_be_named_like_operators_weights_and_the_output(tmp_path):
    names = ("view", "linear", "cos", "out", "weight")
    module = Named().eval()
    bundle = export_module(
        module, spec((4,), *(Condition(name=n, shape=(4,)) for n in names)), tmp_path / "x.revstep"
    )
    given = {n: torch.full((3, 4), 0.3 * i) for i, n in enumerate(names)}
    assert error(module, bundle, **given) < 1e-5


class Policy(nn.Module):
    """A decoder under a constant causal mask, as diffusion policies have it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True)
        self.body = nn.TransformerDecoder(layer, 1)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(6))

    def forward(self, x, t, seen, on):
        y = self.body(x, seen, tgt_mask=self.mask, memory_key_padding_mask=~on.bool())
        return y + 1e-3 * t[:, None, None] * x


def test_a_transformer_decoder_with_a_causal_mask_and_padding_is_exported(tmp_path):
    seen = Condition(name="seen", shape=(3, 16), null=0.0)
    on = Condition(name="on", shape=(3,), dtype="int64", classes=2, null=1)
    module = Policy().eval()
    bundle = export_module(module, spec((6, 16), seen, on), tmp_path / "x.revstep")
    generator = torch.Generator().manual_seed(2)
    given = {"seen": torch.randn(3, 3, 16, generator=generator)}
    given["on"] = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 1]])  # the first row: all off
    assert error(module, bundle, **given) < 1e-5
    assert (bundle.parity()["edge.cond.on"] == 0).all(axis=1).any()


def test_a_half_decoders_images_are_its_own_with_its_bound():
    _, one, decoder = build("image")
    decoder = decoder.half().eval()
    final = np.random.default_rng(0).standard_normal((2, *one.shape)).astype(np.float32)
    images, limit = make_decoder_reference(decoder, float32_copy(decoder), one, final)
    scaled = final / np.float32(one.decoder.scale) + np.float32(one.decoder.shift)
    with torch.no_grad():
        want = decoder(torch.from_numpy(scaled).half()).float().numpy()
    assert np.array_equal(images, want)
    assert limit.forward == 1e-2


def test_a_decoder_that_a_cast_changes_is_refused():
    _, one, decoder = build("image")
    other = copy.deepcopy(decoder)
    with torch.no_grad():
        next(other.parameters()).mul_(1.01)
    final = np.ones((1, *one.shape), np.float32)
    with pytest.raises(ExportError, match=r"the decoder's float32 copy.*the bound is 0.0001"):
        make_decoder_reference(decoder.eval(), other.eval(), one, final)


def test_a_module_that_cant_be_copied_says_why(tmp_path):
    class Never(Net):
        def __deepcopy__(self, memo):
            raise TypeError("it holds a socket")

    with pytest.raises(ExportError, match=r"can't be copied.*TypeError: it holds a socket.*Delete"):
        export_module(Never().eval(), spec(), tmp_path / "x.revstep")


def test_a_float32_copy_shares_large_weights_and_leaves_the_module_as_it_was():
    side = int(LARGE**0.5)
    module = torch.nn.Sequential(torch.nn.Linear(side, side), torch.nn.BatchNorm1d(side)).eval()
    copy = float32_copy(module)
    assert copy[0].weight.data_ptr() == module[0].weight.data_ptr()
    assert module[0].weight.requires_grad
    assert not copy[0].weight.requires_grad
    own = {t.data_ptr() for t in (*copy.parameters(), *copy.buffers())}
    assert {module[0].bias.data_ptr(), module[1].running_mean.data_ptr()}.isdisjoint(own)
    half = float32_copy(module.half())
    assert half[0].weight.dtype == torch.float32
    assert module[0].weight.dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_copy_in_eval_mode_shares_large_weights_and_leaves_the_module_as_it_was(dtype):
    side = int(LARGE**0.5)
    module = torch.nn.Sequential(torch.nn.Linear(side, side), torch.nn.BatchNorm1d(side)).to(dtype)
    copy = in_eval_mode(module)
    assert copy[0].weight.data_ptr() == module[0].weight.data_ptr()
    assert module[0].weight.requires_grad
    assert module.training
    assert not any(m.training for m in copy.modules())
    own = {t.data_ptr() for t in (*copy.parameters(), *copy.buffers())}
    assert {module[0].bias.data_ptr(), module[1].running_mean.data_ptr()}.isdisjoint(own)
    assert in_eval_mode(copy) is copy
