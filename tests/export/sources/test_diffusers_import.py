"""A diffusers folder as a module and a spec; diffusers' own schedulers are the oracle."""

import json
import shutil

import diffusers
import numpy as np
import pytest
import safetensors.torch as safetensors
import torch

from revstep.engine.errors import ExportError
from revstep.engine.spec.schedule import FlowSchedule, VPSchedule
from revstep.export import load_diffusers
from revstep.export.sources.diffusers_schedule import FLOW_SCHEDULERS, VP_SCHEDULERS, read_scheduler

# diffusers' own, on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


@pytest.fixture
def folder(demo_folder, tmp_path):
    """A copy of the demo's folder that a test may change."""
    for part in ("unet", "scheduler"):
        shutil.copytree(demo_folder / part, tmp_path / "model" / part)
    return tmp_path / "model"


def edit(path, **changes):
    values = json.loads(path.read_text())
    for key, value in changes.items():
        if value is ...:
            values.pop(key)
        else:
            values[key] = value
    path.write_text(json.dumps(values))


def config_of(name, **changes):
    """A config as diffusers itself saves it."""
    scheduler = getattr(diffusers, name)(**changes)
    return json.loads(scheduler.to_json_string()), scheduler


def test_the_demos_folder_gives_its_module_and_spec(demo_folder):
    module, spec = load_diffusers(demo_folder, null_class=10)
    assert spec.shape == (1, 32, 32)
    assert spec.schedule == VPSchedule(steps=1000, betas="squaredcos_cap_v2")
    assert spec.prediction == "v_prediction"
    assert (spec.value_range, spec.clip, spec.grid) == ((-1.0, 1.0), True, "trailing")
    assert (spec.final, spec.time.kind) == ("clean", "index")
    (label,) = spec.conditions
    assert (label.name, label.dtype, label.shape) == ("class_labels", "int64", ())
    assert (label.classes, label.null) == (11, 10)
    assert not module.training
    assert next(module.parameters()).dtype == torch.float32


def test_the_module_gives_the_golden_outputs(demo_folder):
    golden = safetensors.load_file(demo_folder / "golden.safetensors")
    module, _ = load_diffusers(demo_folder, null_class=10)
    with torch.inference_mode():
        out = module(golden["x"], golden["t"].float(), golden["y"].long())
    torch.testing.assert_close(out, golden["v"], atol=2e-5, rtol=0)


def test_without_a_null_class_there_is_no_guidance_and_a_hint(demo_folder, caplog):
    _, spec = load_diffusers(demo_folder)
    assert spec.conditions[0].null is None
    assert not spec.guidable
    assert "--null-class 10" in caplog.text


@pytest.mark.parametrize("null_class", [-1, 11])
def test_a_null_class_out_of_range_is_the_callers_mistake(demo_folder, null_class):
    with pytest.raises(ValueError, match="classes 0 to 10"):
        load_diffusers(demo_folder, null_class=null_class)


def test_a_null_class_without_classes_is_the_callers_mistake(folder):
    edit(folder / "unet" / "config.json", num_class_embeds=None)
    with pytest.raises(ValueError, match="has no classes"):
        load_diffusers(folder, null_class=3)


def test_a_flat_folder_and_the_unets_own_folder_load(folder):
    _, spec = load_diffusers(folder, null_class=10)
    assert load_diffusers(folder / "unet", null_class=10)[1] == spec
    shutil.move(folder / "scheduler" / "scheduler_config.json", folder / "unet")
    assert load_diffusers(folder / "unet", null_class=10)[1] == spec


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("DDIMScheduler", {}),
        ("DDPMScheduler", {"beta_schedule": "sigmoid", "clip_sample": False}),
        ("DDPMScheduler", {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 400}),
        ("DDIMScheduler", {"beta_schedule": "scaled_linear", "beta_end": 0.012}),
        ("DDIMScheduler", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
        ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
        ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
        ("HeunDiscreteScheduler", {}),
        ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min"}),
        ("UniPCMultistepScheduler", {"prediction_type": "sample"}),
        ("DDIMScheduler", {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3}),
    ],
)
def test_a_scheduler_keeps_its_signal_and_noise(name, changes):
    config, scheduler = config_of(name, **changes)
    spec = read_scheduler(config).spec_fields
    schedule = spec["schedule"]
    want = scheduler.alphas_cumprod.numpy()
    alpha, sigma = schedule.alpha_sigma(np.arange(len(want)))
    np.testing.assert_allclose(alpha**2, want, atol=2e-6)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, atol=1e-12)
    assert spec["prediction"] == scheduler.config.prediction_type
    assert spec["grid"] == scheduler.config.timestep_spacing
    assert spec["grid_offset"] == scheduler.config.steps_offset


@pytest.mark.parametrize("name", [*VP_SCHEDULERS, *FLOW_SCHEDULERS])
def test_every_named_scheduler_loads_as_diffusers_saves_it(name):
    config, _ = config_of(name)
    kind = FlowSchedule if name in FLOW_SCHEDULERS else VPSchedule
    assert isinstance(read_scheduler(config).spec_fields["schedule"], kind)


def test_an_old_config_takes_the_schedulers_defaults():
    old = {"_class_name": "DDPMScheduler", "_diffusers_version": "0.1.1", "beta_end": 0.02,
           "beta_schedule": "linear", "beta_start": 1e-4, "clip_sample": True,
           "num_train_timesteps": 1000, "trained_betas": None,
           "variance_type": "fixed_large"}  # fmt: skip
    sampling = read_scheduler(old)
    assert sampling.spec_fields["grid"] == "leading"
    with pytest.warns(DeprecationWarning, match="spacing is now grid"):
        assert sampling.spec_fields["spacing"] == "leading"
    with pytest.raises(KeyError, match="spaces"):
        sampling.spec_fields["spaces"]
    assert sampling.spec_fields["prediction"] == "epsilon"
    assert sampling.spec_fields["clip"] is True
    assert not sampling.learned_variance


@pytest.mark.parametrize(
    ("name", "changes", "field", "want"),
    [
        ("DDIMScheduler", {"clip_sample_range": 3.0}, "value_range", (-3.0, 3.0)),
        ("DDIMScheduler", {"clip_sample": False}, "clip", False),
        ("DDIMScheduler", {"set_alpha_to_one": False}, "final", "first_ddim"),
        ("PNDMScheduler", {}, "final", "first_ddim"),
        ("PNDMScheduler", {}, "clip", False),
        ("DDIMScheduler", {}, "final", "clean"),
        ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min"}, "final", "first"),
        ("FlowMatchEulerDiscreteScheduler", {}, "prediction", "flow"),
    ],
)
def test_defaults_of_sampling_are_carried(name, changes, field, want):
    assert read_scheduler(config_of(name, **changes)[0]).spec_fields[field] == want


def test_flow_times_are_diffusers_timesteps():
    config, scheduler = config_of("FlowMatchEulerDiscreteScheduler")
    sampling = read_scheduler(config)
    schedule = sampling.spec_fields["schedule"]
    t = schedule.from_index(np.arange(1000))[::-1]
    assert sampling.time_kind == "thousand"
    np.testing.assert_allclose(1000.0 * t, scheduler.timesteps.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "ScoreSdeVeScheduler"}, "'ScoreSdeVeScheduler'; allowed: DDIMScheduler"),
        ({"_class_name": None}, "the scheduler is None"),
        ({"noise_warp": 2}, "field 'noise_warp' = 2"),
        ({"predict_epsilon": False}, "predict_epsilon=False"),
        ({"prediction_type": "flow_prediction"}, "prediction_type='flow_prediction'"),
        ({"beta_schedule": "cubic"}, "beta_schedule='cubic'"),
        ({"beta_start": 0.5}, "beta_start <= beta_end"),
        ({"beta_start": "small"}, "not valid"),
        ({"num_train_timesteps": 0}, "not valid"),
        (
            {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True,
             "use_beta_sigmas": True},
            "use_karras_sigmas and use_beta_sigmas; allowed: one",
        ),
    ],
)  # fmt: skip
def test_a_config_that_makes_no_sense_is_refused(changes, message):
    config = {"_class_name": "DDIMScheduler", **changes}
    with pytest.raises(ExportError, match=message):
        read_scheduler(config)


def test_a_field_that_the_scheduler_ignores_is_ignored():
    plain = read_scheduler({"_class_name": "PNDMScheduler"})
    assert read_scheduler({"_class_name": "PNDMScheduler", "clip_sample": True}) == plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "UVit2DModel"}, "'UVit2DModel'; carried are UNet2DModel, "),
        ({"rope_theta": 1e4}, "'rope_theta'.*would be ignored"),
        ({"sample_size": None}, "no sample_size"),
        ({"out_channels": 3}, "1 channels in and 3 out"),
        ({"time_embedding_type": "fourier"}, "fourier.*factory"),
        ({"class_embed_type": "timestep"}, "class_embed_type.*factory"),
        ({"sample_size": -4}, "no valid denoiser"),
        ({"out_channels": 2}, "does not fit|can't be loaded"),
    ],
)
def test_a_unet_that_cannot_be_carried_is_refused(folder, changes, message):
    edit(folder / "unet" / "config.json", **changes)
    with pytest.raises(ExportError, match=message):
        load_diffusers(folder, null_class=10)


def test_a_learned_variance_without_its_channels_is_refused(folder):
    config, _ = config_of("DDPMScheduler", variance_type="learned_range")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match="needs 2 channels out"):
        load_diffusers(folder, null_class=10)


def small_unet(**changes):
    torch.manual_seed(0)
    options = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1,
        "block_out_channels": (8,), "down_block_types": ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",), "norm_num_groups": 4, "add_attention": False,
    }  # fmt: skip
    return diffusers.UNet2DModel(**{**options, **changes})


@pytest.mark.parametrize("variance", [None, "learned_range"])
def test_a_learned_variance_is_read_from_the_channels(tmp_path, variance):
    small_unet(out_channels=2).save_pretrained(tmp_path / "unet")
    options = {} if variance is None else {"variance_type": variance}
    diffusers.DDPMScheduler(**options).save_pretrained(tmp_path / "scheduler")
    _, spec = load_diffusers(tmp_path)
    assert spec.learned_variance
    assert spec.conditions == ()


def test_learned_times_are_whole(tmp_path):
    unet = small_unet(time_embedding_type="learned", num_train_timesteps=1000)
    unet.save_pretrained(tmp_path / "unet")
    diffusers.DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    module, spec = load_diffusers(tmp_path)
    assert not spec.time.fractions
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 999.0])
    with torch.inference_mode():
        want = unet.eval()(x, t.long()).sample
        torch.testing.assert_close(module(x, t), want)


def test_full_weights_win_over_fp16(folder):
    unet = diffusers.UNet2DModel.from_pretrained(folder / "unet", variant="fp16")
    with torch.no_grad():
        unet.conv_in.bias.fill_(0.125)
    unet.save_pretrained(folder / "unet")
    module, _ = load_diffusers(folder, null_class=10)
    assert float(module.network.conv_in.bias.detach()[0]) == 0.125


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.unlink(), r"no diffusion_pytorch_model\.safetensors"),
        (lambda f: f.rename(f.with_name("diffusion_pytorch_model.bin")), "pickled, .* not read"),
        (lambda f: f.write_bytes(f.read_bytes()[:-1000]), "can't be loaded"),
        (lambda f: f.write_bytes(b""), "can't be loaded"),
    ],
)
def test_bad_weights_are_refused(folder, change, message):
    change(folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    with pytest.raises(ExportError, match=message):
        load_diffusers(folder, null_class=10)


def test_weights_that_lack_a_tensor_are_refused(folder):
    file = folder / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    weights = safetensors.load_file(file)
    del weights["conv_in.bias"]
    safetensors.save_file(weights, file)
    with pytest.raises(ExportError, match=r"1 missing keys .conv_in.bias"):
        load_diffusers(folder, null_class=10)


@pytest.mark.parametrize("part", ["unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize(
    ("text", "message"), [(None, "is missing"), ("{", "as JSON"), ("[]", "a JSON object")]
)
def test_bad_configs_are_refused(folder, part, text, message):
    if text is None:
        (folder / part).unlink()
    else:
        (folder / part).write_text(text)
    with pytest.raises(ExportError, match=rf"config\.json .*{message}"):
        load_diffusers(folder, null_class=10)


def test_what_is_no_folder_is_named(tmp_path):
    with pytest.raises(ExportError, match="does not exist"):
        load_diffusers(tmp_path / "none")


def test_a_missing_precision_names_the_folder_and_the_null_class(demo_bundle):
    from revstep import Bundle
    from revstep.engine.errors import BundleError

    with pytest.raises(
        BundleError, match=r"--diffusers DIR --null-class 10 -o .* --precision fp32"
    ):
        Bundle.open(demo_bundle).graph("bf16")


def test_the_schedulers_sampler_is_written_down(demo_folder, tmp_path, monkeypatch):
    from revstep.export.sources.diffusers import folder as diffusers_import

    monkeypatch.setattr(diffusers_import, "export_module", lambda *args, source, **more: source)
    source = diffusers_import.export_diffusers(demo_folder, tmp_path / "x.revstep", null_class=10)
    assert source["kind"] == "diffusers"
    assert source["sampler"] == "DDIM(eta=0.0, epsilon=None)"
