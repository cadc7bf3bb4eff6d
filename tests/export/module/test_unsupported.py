"""What a graph can't hold is refused with its name, its cause and its fix."""

import threading

import pytest
import torch
from specs import spec_of
from torch import nn
from toys import TABULAR, TabularToy

from revstep import Condition
from revstep.engine.errors import ExportError
from revstep.export import export_module
from revstep.export.module.unsupported import check_surroundings, check_weight_types, no_autocast

CPU = torch.device("cpu")
FIX = "before it was quantised.*float32, float16 or bfloat16.*precisions="


class Packed(nn.Linear):
    """A layer as a quantisation package has it."""

    __module__ = "torchao.quantization.linear"


class Int8(torch.Tensor):
    """A tensor as a quantisation package has it."""

    __module__ = "bitsandbytes.nn.modules"


def of_fp8():
    module = TabularToy()
    module.narrow = nn.Parameter(torch.ones(3).to(torch.float8_e4m3fn), requires_grad=False)
    return module


def of_fp8_buffer():
    module = TabularToy()
    module.register_buffer("scale", torch.ones(3).to(torch.float8_e5m2))
    return module


def of_layer():
    return nn.Sequential(nn.Linear(3, 3), Packed(3, 3))


def of_tensor():
    module = nn.Linear(3, 3)
    module.register_buffer("data", torch.ones(3).as_subclass(Int8))
    return module


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (of_fp8, "'narrow' is torch.float8_e4m3fn"),
        (of_fp8_buffer, "'scale' is torch.float8_e5m2"),
        (of_layer, "part '1' is a Packed of torchao"),
        (of_tensor, "'data' is a Int8 of bitsandbytes"),
    ],
)
def test_quantised_weights_are_named_with_the_fix(make, named):
    with pytest.raises(ExportError, match=f"{named}.*{FIX}"):
        check_weight_types(make())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torchs_own_quantised_layers_are_named_before_anything_is_written(tmp_path):
    module = torch.ao.quantization.quantize_dynamic(TabularToy(), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ExportError, match=rf"is a Linear of torch.ao.*{FIX}"):
        export_module(module, TABULAR, tmp_path / "x.revstep")
    assert list(tmp_path.iterdir()) == []


def test_whole_number_weights_and_halves_are_allowed():
    module = TabularToy().half()
    module.register_buffer("table", torch.arange(3, dtype=torch.int8))
    check_weight_types(module)


class Auto(TabularToy):
    """A tabular toy that enters autocast."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, x, t):
        with torch.autocast("cpu", **self.options):
            return super().forward(x, t).float()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_inside_a_module_is_refused_with_its_line(dtype, tmp_path):
    name = str(dtype).removeprefix("torch.")
    fix = rf"autocast to {name} \(.*test_unsupported.py, line \d+: with torch.autocast.*take it out"
    with pytest.raises(ExportError, match=fix):
        export_module(Auto(dtype=dtype), TABULAR, tmp_path / "x.revstep")
    assert list(tmp_path.iterdir()) == []


def test_autocast_that_is_switched_off_is_no_matter():
    x, t = torch.zeros(2, 6), torch.zeros(2)
    with no_autocast(CPU):
        Auto(enabled=False)(x, t)
        with torch.autocast("cuda", enabled=False):
            TabularToy()(x, t)


def test_autocast_of_another_thread_is_no_matter():
    with no_autocast(CPU):
        other = threading.Thread(target=lambda: torch.autocast("cpu").__enter__())
        other.start()
        other.join()


def test_autocast_explains_what_it_leads_to():
    def run():
        with torch.autocast("cpu"):
            raise ExportError("the rows depend on each other")

    with pytest.raises(ExportError, match=r"enters torch\.autocast"), no_autocast(CPU):
        run()


def test_an_error_without_autocast_stays_itself():
    with pytest.raises(ExportError, match="the rows depend"), no_autocast(CPU):
        raise ExportError("the rows depend on each other")


def test_an_autocast_around_the_export_is_refused(tmp_path):
    check_surroundings()
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(ExportError, match=r"is on around the export.*outside of it"),
    ):
        export_module(TabularToy(), TABULAR, tmp_path / "x.revstep")


class Padded(torch.nn.Module):
    def __init__(self, **fields):
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 1, **fields)

    def forward(self, x, t, mask):
        return self.encoder(x, src_key_padding_mask=mask)


class Hidden(Padded):
    def forward(self, x, t, mask):
        return super().forward(x, t, mask) * ~mask[:, :, None]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_encoders_that_zero_padded_positions_are_refused_by_name(tmp_path):
    mask = Condition(name="mask", dtype="bool", shape=(6,), null=False)
    spec = spec_of(shape=(6, 4), conditions=(mask,))
    with pytest.raises(ExportError, match=r"'encoder' sets padded .* use_nested_tensor = False"):
        export_module(Padded().eval(), spec, tmp_path / "a.revstep")
    assert not list(tmp_path.iterdir())
    export_module(Padded(enable_nested_tensor=False).eval(), spec, tmp_path / "a.revstep")
    export_module(Hidden().eval(), spec, tmp_path / "b.revstep")  # nobody sees those
