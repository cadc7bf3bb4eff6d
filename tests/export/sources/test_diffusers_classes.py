"""Every class of denoiser that a diffusers folder may hold, beside the loop of its own pipeline.

The oracle is diffusers' own network under its own scheduler, called as the class's pipeline calls
it. Noise, conditions and weights are the same on both sides.
"""

import json

import diffusers
import numpy as np
import pytest
import torch
from diffusers_folders import FOLDERS

import revstep
from revstep.engine.errors import ExportError
from revstep.export import export_diffusers, load_diffusers_checkpoint
from revstep.export.sources.diffusers.table import ADAPTERS

VERSIONS = ("0.38", "0.42")  # as tried
pytestmark = [
    pytest.mark.skipif(
        not diffusers.__version__.startswith(VERSIONS),
        reason=f"holds for diffusers {' and '.join(VERSIONS)}",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

EQUAL = 1e-3  # of the result's RMS, as asked for; what is met is 1e-5
ROWS = 3
FAST = ("flux", "dit", "unet_1d")  # others are exported in more than ten seconds


def each(*fast):
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in FOLDERS]


def arrays(values):
    return {name: value.numpy() for name, value in values.items()} or None


def assert_same_runs(engine, folder, network, scheduler, guidance):
    noise = torch.randn(ROWS, *folder.shape, generator=torch.Generator().manual_seed(5))
    conditions, nulls = folder.values(ROWS), folder.values(ROWS, seed=2)
    want = folder.loop(network, scheduler, noise, conditions, nulls, guidance)
    asked = {
        "conditions": arrays(conditions),
        "noise": noise.numpy(),
        "steps": folder.steps,
        **folder.asked,
    }
    if guidance != 1.0:
        asked |= {"guidance": guidance, "null_conditions": arrays(nulls)}
    got = engine.sample(ROWS, **asked).x
    scale = np.sqrt(np.mean(want.astype(np.float64) ** 2))
    assert np.isfinite(want).all()
    np.testing.assert_allclose(got, want, atol=EQUAL * scale, rtol=0)
    return want


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_loaded_class_runs_as_its_pipeline(tmp_path, name, guidance):
    folder = FOLDERS[name]
    if guidance != 1.0 and not folder.conditions:
        pytest.skip("a class without conditions")
    network, scheduler = folder.save(tmp_path)
    found = load_diffusers_checkpoint(tmp_path, **folder.arguments)
    assert found.spec.shape == folder.shape
    assert found.spec.learned_variance == folder.learned
    names = {c.name for c in found.spec.conditions}
    assert names == {*folder.conditions, *folder.known}
    assert_same_runs(
        revstep.from_module(found.module, found.spec), folder, network, scheduler, guidance
    )


@pytest.mark.parametrize("name", each(*FAST))
def test_an_exported_class_runs_as_its_pipeline(tmp_path, name):
    import onnx

    folder = FOLDERS[name]
    network, scheduler = folder.save(tmp_path / "model")
    bundle = export_diffusers(tmp_path / "model", tmp_path / "x.revstep", **folder.arguments)
    onnx.checker.check_model(str(bundle.graph("fp32")), full_check=True)
    engine = revstep.load(bundle.path, device="cpu", threads=1)
    assert engine.spec == load_diffusers_checkpoint(tmp_path / "model", **folder.arguments).spec
    guidance = 2.0 if folder.conditions else 1.0
    assert_same_runs(engine, folder, network, scheduler, guidance)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_condition_changes_the_output(tmp_path, name):
    """A condition that the module dropped would pass where the oracle's call dropped it too."""
    folder = FOLDERS[name]
    folder.save(tmp_path)
    found = load_diffusers_checkpoint(tmp_path, **folder.arguments)
    x, t = torch.randn(2, *folder.shape), torch.tensor([0.3, 0.9])
    own = {**folder.values(2), **{k: torch.tensor(v).expand(2, *torch.tensor(v).shape)
                                  for k, v in folder.known.items()}}  # fmt: skip
    order = [c.name for c in found.spec.conditions]
    with torch.inference_mode():
        plain = found.module(x, t, *(own[name] for name in order))
        for one in order:
            value = own[one]
            other = 1 - value if value.dtype == torch.int64 and value.max() < 2 else value.flip(0)
            other = (value + 1) % 5 if one == "class_labels" else other
            other = value * 1.5 + 1.0 if one in folder.known else other
            changed = found.module(x, t, *({**own, one: other}[name] for name in order))
            assert (changed - plain).abs().max() > 1e-6, one


def test_the_table_has_no_class_that_nothing_tries():
    tried = {folder.network for folder in FOLDERS.values()}
    tried.add("AnyFlowTransformer3DModel")  # of two times: tests/export/test_two_times.py
    assert tried == set(ADAPTERS)


@pytest.mark.parametrize("name", ["dit", "pixart"])
def test_configs_of_the_class_that_these_two_once_were_load(tmp_path, name):
    folder = FOLDERS[name]
    folder.save(tmp_path)
    path = tmp_path / "transformer" / "config.json"
    config = json.loads(path.read_text())
    old = {
        "_class_name": "Transformer2DModel", "double_self_attention": False,
        "num_vector_embeds": None, "only_cross_attention": False, "use_linear_projection": False,
    }  # fmt: skip
    path.write_text(json.dumps({**config, **old}))
    assert load_diffusers_checkpoint(tmp_path, **folder.arguments).spec.shape == folder.shape
    path.write_text(json.dumps({**config, **old, "num_vector_embeds": 7}))
    with pytest.raises(ExportError, match=r"'num_vector_embeds'.*would be ignored"):
        load_diffusers_checkpoint(tmp_path, **folder.arguments)


def test_a_diffusion_transformer_knows_its_null_class(tmp_path):
    FOLDERS["dit"].save(tmp_path)
    (label,) = load_diffusers_checkpoint(tmp_path).spec.conditions
    assert (label.null, label.classes) == (6, 7)


def test_what_a_pipelines_index_says_is_read(tmp_path):
    folder = FOLDERS["sdxl"]
    folder.save(tmp_path)
    index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True,
             "unet": ["diffusers", "UNet2DConditionModel"]}  # fmt: skip
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    spec = load_diffusers_checkpoint(tmp_path).spec
    text, pooled, _ = spec.conditions
    assert (text.shape, text.null, pooled.null) == ((77, 16), 0.0, 0.0)
    assert spec.guidable
    assert load_diffusers_checkpoint(tmp_path / "unet").spec == spec


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("unet_1d", (32,), (3, 32)),
        ("stable_diffusion", (16, 8), (4, 16, 8)),
        ("sd3", (4, 8), (4, 4, 8)),
        ("flux", None, (4, 128, 128)),
        ("wan", (1, 2, 4), (4, 1, 2, 4)),
    ],
)
def test_a_size_sets_the_states_axes(tmp_path, name, size, shape):
    FOLDERS[name].save(tmp_path)
    assert load_diffusers_checkpoint(tmp_path, size=size).spec.shape == shape


def test_a_size_is_in_pixels_where_there_is_a_vae(tmp_path):
    FOLDERS["sdxl"].save(tmp_path)
    (tmp_path / "vae").mkdir()
    config = {"_class_name": "AutoencoderKL", "block_out_channels": [4, 4, 4]}
    (tmp_path / "vae" / "config.json").write_text(json.dumps(config))
    from revstep.export import load_diffusers

    _, spec = load_diffusers(tmp_path, size=(64, 32))
    assert spec.shape == (4, 16, 8)
    assert list(np.asarray(spec.conditions[2].null)) == [64.0, 32.0, 0.0, 0.0, 64.0, 32.0]
    with pytest.raises(ValueError, match=r"size=64x30 does not fit .*columns a multiple of 4"):
        load_diffusers(tmp_path, size=(64, 30))


def test_a_videos_size_is_in_frames_and_pixels(tmp_path):
    FOLDERS["wan"].save(tmp_path)
    (tmp_path / "vae").mkdir()
    config = {"_class_name": "AutoencoderKLWan", "scale_factor_spatial": 8}
    (tmp_path / "vae" / "config.json").write_text(json.dumps(config))
    from revstep.export import load_diffusers

    assert load_diffusers(tmp_path, size=(9, 32, 48))[1].shape == (4, 3, 4, 6)
    with pytest.raises(ValueError, match=r"frames 1 \+ a multiple of 4"):
        load_diffusers(tmp_path, size=(8, 32, 48))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("sd3", {"size": (8,)}, "size=8 has 1 numbers; SD3Transformer2DModel has rows x columns"),
        ("wan", {"size": (4, 4)}, "frames x rows x columns"),
        ("sd3", {"size": (8, 0)}, "size=0 is out of range"),
        ("sd3", {"size": (8, 2.5)}, "size must be a whole number"),
        ("sd3", {"sequence_length": 0}, "sequence_length=0 is out of range"),
        ("sd3", {"null_class": 3}, "null_class=3 was given, but this model has no classes"),
    ],
)
def test_a_size_that_the_state_cannot_have_is_the_callers_mistake(
    tmp_path, name, arguments, message
):
    FOLDERS[name].save(tmp_path)
    with pytest.raises((TypeError, ValueError), match=message):
        load_diffusers_checkpoint(tmp_path, **arguments)


def edit(root, folder, **changes):
    path = root / folder.place / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("name", "changes", "arguments", "message"),
    [
        ("stable_diffusion", {"in_channels": 9}, {}, "9 channels in and 4 out"),
        ("stable_diffusion", {"addition_embed_type": "image"}, {}, "addition_embed_type='image'"),
        ("stable_diffusion", {"encoder_hid_dim_type": "image_proj"}, {}, "encoder_hid_dim_type="),
        ("stable_diffusion", {"attention_type": "gated"}, {}, "attention_type='gated'"),
        ("stable_diffusion", {"class_embed_type": "timestep"}, {}, "class_embed_type='timestep'"),
        ("stable_diffusion", {"cross_attention_dim": [16, 8]}, {}, "several widths"),
        ("stable_diffusion", {"sample_size": None}, {}, "no sample_size; name the size with"),
        ("stable_diffusion", {"cross_attention_dim": 24}, {}, "can't be loaded|does not fit"),
        ("sdxl", {"projection_class_embeddings_input_dim": 20}, {}, "no room for a text"),
        ("dit", {}, {"size": (8, 4)}, "square latents; got a size of 8x4"),
        ("sd3", {}, {"size": (32, 8)}, "latents of 16x16 at most"),
        ("flux", {}, {"size": (5, 8)}, "even numbers of rows"),
        ("flux", {"patch_size": 2}, {}, "patch_size=2"),
        ("unet_1d", {"out_block_type": "ValueFunction"}, {}, "out_block_type='ValueFunction'"),
        ("sana", {"timestep_scale": 1000.0}, {}, r"timestep_scale=1000\.0"),
        ("sana", {"guidance_embeds": True}, {}, "goes with SCMScheduler; the scheduler is 'DPM"),
        ("wan", {}, {"size": (3, 3, 4)}, "patches of 1x2x2; got a size of 3x3x4"),
        ("wan", {}, {"size": None}, "does not say how large its videos are"),
        ("wan", {"image_dim": 1280}, {}, "image_dim=1280"),
    ],
)
def test_what_a_bundle_does_not_carry_is_refused_by_name(
    tmp_path, name, changes, arguments, message
):
    folder = FOLDERS[name]
    folder.save(tmp_path / "model")
    edit(tmp_path / "model", folder, **changes)
    with pytest.raises(ExportError, match=message):
        export_diffusers(
            tmp_path / "model", tmp_path / "x.revstep", **{**folder.arguments, **arguments}
        )
    assert not (tmp_path / "x.revstep").exists()


@pytest.mark.parametrize("name", ["unet_2d", "dit", "unet_1d"])
def test_a_length_of_text_is_refused_where_there_is_none(tmp_path, name):
    folder = FOLDERS[name]
    folder.save(tmp_path)
    message = f"sequence_length=5 was given, but {folder.network} of this folder takes no text"
    with pytest.raises(ValueError, match=message):
        load_diffusers_checkpoint(tmp_path, **{**folder.arguments, "sequence_length": 5})


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"transformer": ["diffusers", "X"]}, r"transformer is missing, which .*model_index\.json"),
        (
            {"transformer": ["diffusers", "X"], "transformer_2": ["diffusers", "X"]},
            "two denoisers, transformer/ and transformer_2/",
        ),
    ],
)
def test_a_pipeline_without_its_denoiser_says_which(tmp_path, index, message):
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ExportError, match=message):
        load_diffusers_checkpoint(tmp_path)


def test_pickled_weights_are_refused_with_the_command_that_converts_them(tmp_path):
    import shlex
    import subprocess
    import sys

    folder = FOLDERS["dit"]
    network, _ = folder.save(tmp_path)
    (tmp_path / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    network.save_pretrained(tmp_path / "transformer", safe_serialization=False)
    with pytest.raises(ExportError, match="is pickled, which can run code") as refused:
        load_diffusers_checkpoint(tmp_path)
    command = str(refused.value).partition("convert it: ")[2]
    _, option, code = shlex.split(command)
    subprocess.run([sys.executable, option, code], check=True, capture_output=True)
    assert load_diffusers_checkpoint(tmp_path).spec.shape == folder.shape
