"""export, compile, info and demo, as a user runs them."""

import json

import pytest

FACTORY = """
import torch
from revstep import DenoiserSpec, VPSchedule

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(5, 4)

    def forward(self, x, t):
        return self.layer(torch.cat([x, (t / 1000)[:, None].to(x.dtype)], dim=1))

def build():
    torch.manual_seed(0)
    spec = DenoiserSpec(shape=(4,), schedule=VPSchedule(), prediction="epsilon", batch=(1, 8))
    return Net().eval(), spec
"""


def test_from_a_users_file_to_samples(process, tmp_path):
    (tmp_path / "mine.py").write_text(FACTORY)
    exported = process("export", "mine:build", "-o", "x.revstep", "--precision", "fp32,fp16")
    assert exported.returncode == 0, exported.stderr
    compiled = process("compile", "x.revstep", "--seconds", "0.5", "--json")
    assert compiled.returncode == 0, compiled.stderr
    entries = json.loads(compiled.stdout)["compiled"]
    assert [(e["target"], e["precision"], e["batch"]) for e in entries] == [
        ("cpu", "fp32", [1, 1]),
        ("cpu", "fp32", [8, 8]),  # as many as the spec allows
    ]
    for entry in entries:
        assert entry["parity"]["forward"]["error"] <= entry["parity"]["forward"]["bound"]
    checked = process("compile", "x.revstep", "--target", "onnxruntime", "--json")
    assert json.loads(checked.stdout)["target"] == "onnxruntime"
    sampled = process("sample", "x.revstep", "-o", "x.npy", "-n", "2", "--steps", "4")
    assert sampled.returncode == 0, sampled.stderr
    assert "WARNING" not in sampled.stderr  # it has been compiled, so there is nothing to warn of
    assert (tmp_path / "x.npy").exists()

    again = process("export", "mine:build", "-o", "x.revstep")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


def test_info_prints_the_spec(cli, image_bundle):
    result = cli("info", image_bundle)
    assert result.exit_code == 0, result.stderr
    for text in (
        "3x8x8",
        "epsilon, learned variance",
        "label",
        "5 classes",
        "fp16.onnx",
        "nodes in 16 bits",
        "norm",
        "decoder",
    ):
        assert text in result.stdout


def test_info_prints_a_path_as_it_is(process, copy_of, tabular_bundle):
    copy = copy_of(tabular_bundle, "b[/b][red]" + "x" * 80)
    result = process("info", copy)
    assert result.returncode == 0, result.stderr
    assert f"{copy} (revstep" in result.stdout


def test_info_json_is_the_manifest(cli, image_bundle):
    result = cli("info", image_bundle, "--json")
    report = json.loads(result.stdout)
    assert report.pop("path") == str(image_bundle)
    assert report == json.loads((image_bundle / "manifest.json").read_text())


@pytest.mark.slow
def test_demo_on_a_small_untrained_denoiser(cli, tmp_path, pixels_of):
    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=4,
    )
    unet.save_pretrained(tmp_path / "model" / "unet")
    diffusers.DDIMScheduler(
        clip_sample=True, clip_sample_range=1.0, timestep_spacing="trailing"
    ).save_pretrained(tmp_path / "model" / "scheduler")
    out = tmp_path / "out"
    result = cli("demo", "--model", tmp_path / "model", "-o", out, "--seconds", "0.1", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [row["cell"]["batch"] for row in report["latency"]] == [1, 16]
    sizes = {p.name: pixels_of(p).shape[::-1] for p in out.glob("*.png")}
    assert sizes == {
        "ddim20_guidance1.5.png": (10 * 10 + 2, 3 * 10 + 2),
        "ddpm250_guidance1.png": (4 * 10 + 2, 3 * 10 + 2),
    }
    assert (out / "model.revstep" / "manifest.json").is_file()


def test_demo_outside_a_checkout_names_the_way_out(process):
    result = process("demo")
    assert result.returncode == 2
    assert "--model" in result.stderr
    assert "checkout" in result.stderr
