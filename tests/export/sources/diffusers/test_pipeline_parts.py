"""The text encoders, tokenizers and VAE of a pipeline's folder give what its own pipeline does."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

import pipelines  # noqa: E402
from vocabularies import write_clip_tokenizer  # noqa: E402

from revstep.engine.errors import ExportError  # noqa: E402
from revstep.engine.parts.tokenizer import PromptTokenizer  # noqa: E402
from revstep.export.sources.diffusers.folder import load_diffusers_checkpoint  # noqa: E402

PROMPTS = ["a red fox in the snow, oil on canvas", "the cat"]
T5 = pipelines.T5_LENGTH


@pytest.fixture
def copy(pipeline_folder, tmp_path):
    """A function: a copy of a folder, to damage."""
    return lambda name="stable_diffusion": shutil.copytree(pipeline_folder(name), tmp_path / "copy")


def encoded(checkpoint, prompts):
    """The conditions of the prompts, by the modules and the tokenizers of a checkpoint."""
    found = {}
    for encoder in checkpoint.spec.encoders:
        values = {}
        for tokenizer in encoder.tokenizers:
            file = checkpoint.files[tokenizer.file]
            values |= PromptTokenizer(file, tokenizer).encode(prompts)
        inputs = [torch.tensor(values[c.name]) for c in encoder.inputs]
        with torch.no_grad():
            out = checkpoint.encoders[encoder.name](*inputs)
        outs = (out,) if torch.is_tensor(out) else out
        found |= dict(zip(encoder.conditions, (o.numpy() for o in outs), strict=True))
    return found


def loaded(folder, **options):
    checkpoint = load_diffusers_checkpoint(folder, **options)
    checkpoint.check()
    return checkpoint


def assert_close(found, **wanted):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value.numpy(), atol=2e-5, err_msg=name)


def test_stable_diffusion_has_the_last_state_of_clip(pipeline_folder):
    folder = pipeline_folder("stable_diffusion")
    checkpoint = loaded(folder)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    with torch.no_grad():
        text, null = pipeline.encode_prompt(PROMPTS, "cpu", 1, True)
    assert_close(encoded(checkpoint, PROMPTS), encoder_hidden_states=text)
    assert_close(encoded(checkpoint, ["", ""]), encoder_hidden_states=null)
    (ids,) = checkpoint.spec.encoders[0].inputs
    np.testing.assert_array_equal(ids.null, pipeline.tokenizer("", padding="max_length").input_ids)


def test_more_tokens_than_the_encoder_takes_are_refused_and_fewer_are_its_length(pipeline_folder):
    folder = pipeline_folder("stable_diffusion")
    with pytest.raises(ValueError, match=r"sequence_length=78 was given.* takes 77 tokens at most"):
        load_diffusers_checkpoint(folder, sequence_length=78)
    spec = loaded(folder, sequence_length=20).spec
    assert spec.conditions[0].shape[0] == spec.encoders[0].tokenizers[0].length == 20


def test_sdxl_has_both_clips_and_zeros_for_nothing(pipeline_folder):
    folder = pipeline_folder("stable_diffusion_xl")
    checkpoint = loaded(folder)
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    with torch.no_grad():
        text, _, pooled, _ = pipeline.encode_prompt(PROMPTS, do_classifier_free_guidance=False)
    assert_close(encoded(checkpoint, PROMPTS), encoder_hidden_states=text, text_embeds=pooled)
    nulls = {c.name: c.null for c in checkpoint.spec.conditions}
    assert nulls["encoder_hidden_states"] == nulls["text_embeds"] == 0.0
    side = pipelines.PIXELS
    np.testing.assert_array_equal(nulls["time_ids"], [side, side, 0, 0, side, side])


def test_stable_diffusion_3_has_two_clips_beside_each_other_and_then_t5(pipeline_folder):
    folder = pipeline_folder("stable_diffusion_3")
    checkpoint = loaded(folder, sequence_length=77 + T5)
    pipeline = diffusers.StableDiffusion3Pipeline.from_pretrained(folder)
    with torch.no_grad():
        text, _, pooled, _ = pipeline.encode_prompt(
            PROMPTS, None, None, do_classifier_free_guidance=False, max_sequence_length=T5
        )
    found = encoded(checkpoint, PROMPTS)
    assert_close(found, encoder_hidden_states=text, pooled_projections=pooled)


def test_stable_diffusion_3_without_t5_has_zeros_in_its_place(copy):
    folder = copy("stable_diffusion_3")
    pipeline = diffusers.StableDiffusion3Pipeline.from_pretrained(
        folder, text_encoder_3=None, tokenizer_3=None
    )
    with torch.no_grad():
        text, _, pooled, _ = pipeline.encode_prompt(
            PROMPTS, None, None, do_classifier_free_guidance=False, max_sequence_length=T5
        )
    assert not text[:, 77:].any()
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(folder / part)
        entered(folder, part, [None, None])
    checkpoint = loaded(folder, sequence_length=77 + T5)
    found = encoded(checkpoint, PROMPTS)
    assert_close(found, encoder_hidden_states=text, pooled_projections=pooled)


def test_flux_has_clips_pooled_output_and_t5(pipeline_folder):
    folder = pipeline_folder("flux")
    checkpoint = loaded(folder, sequence_length=T5, size=(pipelines.PIXELS,) * 2)
    pipeline = diffusers.FluxPipeline.from_pretrained(folder)
    with torch.no_grad():
        text, pooled, _ = pipeline.encode_prompt(PROMPTS, None, max_sequence_length=T5)
    found = encoded(checkpoint, PROMPTS)
    assert_close(found, encoder_hidden_states=text, pooled_projections=pooled)


def test_pixart_has_t5_with_its_mask_of_prompts_in_small_letters(pipeline_folder):
    folder = pipeline_folder("pixart")
    checkpoint = loaded(folder, sequence_length=T5)
    pipeline = diffusers.PixArtSigmaPipeline.from_pretrained(folder)
    prompts = ["  A Red FOX in the snow ", ""]
    with torch.no_grad():
        text, mask, _, _ = pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=T5
        )
    found = encoded(checkpoint, prompts)
    assert_close(found, encoder_hidden_states=text, encoder_attention_mask=mask)


@pytest.mark.parametrize("dynamic", [True, False])
def test_flux_has_the_times_that_its_pipeline_gives_the_scheduler(copy, dynamic):
    folder = copy("flux")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_dynamic_shifting": dynamic}))
    spec = loaded(folder, sequence_length=T5, size=(96, 128)).spec
    pipeline = diffusers.FluxPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline("a fox", height=96, width=128, num_inference_steps=5, max_sequence_length=T5,
             output_type="latent")  # fmt: skip
    times = spec.grid_of().natural_times(spec.schedule, spec.time, 5)
    np.testing.assert_allclose(times, pipeline.scheduler.sigmas[:-1].numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_3"])
def test_the_vae_goes_both_ways_as_the_pipelines_own(pipeline_folder, name):
    checkpoint = loaded(pipeline_folder(name))
    vae = diffusers.AutoencoderKL.from_pretrained(pipeline_folder(name) / "vae")
    spec = checkpoint.spec
    assert spec.decoder.scale == vae.config.scaling_factor
    assert spec.decoder.shift == (vae.config.shift_factor or 0.0)
    with torch.no_grad():
        latents = torch.randn(2, *spec.shape)
        pictures = vae.decode(latents).sample
        torch.testing.assert_close(checkpoint.decoder(latents), pictures)
        mean = vae.encode(pictures).latent_dist.mean
        torch.testing.assert_close(checkpoint.picture_encoder(pictures), mean)
    assert pictures.shape[1:] == spec.decoder.shape == spec.picture_encoder.shape


def test_a_vae_with_a_mean_and_spread_of_each_channel_has_them_in_both_directions(copy):
    folder = copy("stable_diffusion_xl")
    path = folder / "vae" / "config.json"
    config = json.loads(path.read_text())
    mean, spread = [-1.5, 0.5, 0.0, 2.0], [8.0, 5.0, 1.0, 4.0]
    path.write_text(json.dumps({**config, "latents_mean": mean, "latents_std": spread}))
    checkpoint = loaded(folder)
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae")
    mean, spread = (torch.tensor(v).view(1, 4, 1, 1) for v in (mean, spread))
    with torch.no_grad():
        latents = torch.randn(1, *checkpoint.spec.shape)
        pictures = vae.decode(latents * spread + mean).sample
        torch.testing.assert_close(checkpoint.decoder(latents), pictures)
        torch.testing.assert_close(
            checkpoint.picture_encoder(pictures) * spread + mean,
            vae.encode(pictures).latent_dist.mean,
        )


def test_large_pictures_are_decoded_in_tiles_of_the_vaes_own_size(pipeline_folder):
    folder = pipeline_folder("stable_diffusion")
    assert loaded(folder).spec.decoder.tile is None
    side = 4 * 129
    spec = load_diffusers_checkpoint(folder, size=(side, 256)).spec
    assert spec.decoder.tile == (16, 16)
    assert spec.decoder.shape == (3, side, 256)


def test_a_clip_tokenizer_of_fewer_ids_makes_the_text_shorter(copy):
    folder = copy()
    write_clip_tokenizer(folder / "tokenizer", length=32)
    checkpoint = loaded(folder)
    assert checkpoint.spec.conditions[0].shape == (32, 32)
    assert checkpoint.spec.encoders[0].tokenizers[0].length == 32


def test_a_checker_of_pictures_is_named_as_left_out(copy, caplog):
    folder = copy()
    (folder / "safety_checker").mkdir()
    with caplog.at_level(logging.WARNING):
        load_diffusers_checkpoint(folder)
    assert "safety_checker/, which the bundle does not have" in caplog.text
    assert "its pictures are not checked" in caplog.text


def test_a_part_that_no_bundle_carries_is_named_as_left_out(copy, caplog):
    folder = copy()
    entered(folder, "controlnet", ["diffusers", "ControlNetModel"])
    with caplog.at_level(logging.WARNING):
        load_diffusers_checkpoint(folder)
    assert "has controlnet/, which the bundle does not have" in caplog.text


@pytest.mark.parametrize(("part", "left"), [("vae", "decoder"), ("text_encoder", "encoders")])
def test_a_part_that_the_index_names_is_there_or_said_to_be_none(copy, part, left):
    folder = copy()
    shutil.rmtree(folder / part)
    with pytest.raises(
        ExportError, match=rf"{part} is missing, which .*put \[null, null\] for {part}"
    ):
        load_diffusers_checkpoint(folder)
    assert not loaded(folder / "unet").encoders
    entered(folder, part, [None, None])
    assert not getattr(loaded(folder), left)


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_weights_in_several_files_are_read_by_their_index(copy, part, variant, capfd):
    folder = copy()
    whole = loaded(folder)
    kinds = {"unet": diffusers.UNet2DConditionModel, "text_encoder": transformers.CLIPTextModel}
    network = kinds[part].from_pretrained(folder / part)
    shutil.rmtree(folder / part)
    network.save_pretrained(folder / part, max_shard_size="40KB", variant=variant)
    assert len(list((folder / part).glob("*.safetensors"))) > 2
    capfd.readouterr()
    for have, want in zip(weights_of(loaded(folder)), weights_of(whole), strict=True):
        torch.testing.assert_close(have, want)
    assert "shards" not in capfd.readouterr().err  # no bar


def weights_of(checkpoint):
    return [*checkpoint.module.parameters(), *checkpoint.encoders["text"].parameters()]


@pytest.mark.parametrize("place", ["", "unet"])
def test_the_folder_in_which_one_is_has_its_parts(copy, place, monkeypatch):
    monkeypatch.chdir(copy() / place)
    assert len(loaded(".").encoders) == (not place)


def test_a_text_without_room_for_a_word_is_refused(pipeline_folder):
    with pytest.raises(ExportError, match="of 2 tokens has no room for a word beside the 2"):
        load_diffusers_checkpoint(pipeline_folder("stable_diffusion"), sequence_length=2)


def changed(path, **values):
    """Changes values of a config."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def entered(folder, part, entry):
    """Changes the index's entry of a part."""
    changed(folder / "model_index.json", **{part: entry})


def renamed(folder, part, name):
    """Changes the class of a part."""
    entered(folder, part, ["transformers", name])


DAMAGE = {
    "no vocabulary": (
        lambda f: (f / "tokenizer" / "merges.txt").unlink(),
        r"tokenizer has no vocabulary: neither tokenizer\.json nor vocab\.json and merges\.txt; "
        "copy the missing file",
    ),
    "no tokenizer": (
        lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer is missing, so no prompt can be read"
    ),
    "no config": (
        lambda f: (f / "tokenizer" / "tokenizer_config.json").unlink(),
        r"tokenizer_config\.json is missing; save it whole",
    ),
    "another tokenizer": (
        lambda f: (f / "tokenizer" / "tokenizer_config.json").write_text(
            '{"tokenizer_class": "BertTokenizer"}'
        ),
        "unknown tokenizer_class 'BertTokenizer'",
    ),
    "a damaged vocabulary": (
        lambda f: (f / "tokenizer" / "vocab.json").write_text("{"), "can't be read as a CLIPTok"
    ),
    "no weights": (
        lambda f: (f / "text_encoder" / "model.safetensors").unlink(),
        r"text_encoder has no model\.safetensors; save it",
    ),
    "pickled weights": (
        lambda f: (f / "text_encoder" / "model.safetensors").rename(
            f / "text_encoder" / "pytorch_model.bin"
        ),
        r"pytorch_model\.bin is pickled.*from transformers import CLIPTextModel as M",
    ),
    "another encoder": (
        lambda f: renamed(f, "text_encoder", "CLIPSegModel"),
        "is of class 'CLIPSegModel'; carried here: CLIPTextModel",
    ),
    "weights of another name": (
        lambda f: (f / "text_encoder" / "model.safetensors").rename(
            f / "text_encoder" / "model.non_ema.safetensors"
        ),
        r"named otherwise: model\.non_ema\.safetensors; .*rename it to model\.safetensors",
    ),
    "a VAE of no scale": (
        lambda f: changed(f / "vae" / "config.json", scaling_factor="x"),
        r"vae/config\.json describes no valid VAE: could not convert",
    ),
    "another scheduler": (
        lambda f: changed(f / "scheduler" / "scheduler_config.json", _class_name="X"),
        r"scheduler_config\.json: the scheduler is 'X'; allowed: DDIM",
    ),
    "no config of the VAE": (
        lambda f: (f / "vae" / "config.json").unlink(), r"vae/config\.json is missing"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_pipeline_is_refused_with_what_to_do(copy, kind):
    folder = copy()
    damage, message = DAMAGE[kind]
    damage(folder)
    with pytest.raises(ExportError, match=message):
        load_diffusers_checkpoint(folder)


def test_parts_of_different_models_are_refused(copy):
    folder = copy()
    pipelines.clip(width=16).save_pretrained(folder / "text_encoder")
    with pytest.raises(ExportError, match="of width 16, and the denoiser takes 32"):
        load_diffusers_checkpoint(folder)


def test_weights_that_lack_a_layer_are_refused(copy):
    folder = copy()
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 4}))
    with pytest.raises(ExportError, match=r"does not fit .* missing keys"):
        load_diffusers_checkpoint(folder)
