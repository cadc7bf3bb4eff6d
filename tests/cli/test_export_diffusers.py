"""``revstep export --diffusers``: a class with its size, and the sampler that then runs."""

import json

import pytest

from revstep.engine.bundle.reader import Bundle

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A diffusion transformer of 4 x 4 latents, exported by the command."""
    from diffusers_folders import FOLDERS
    from typer.testing import CliRunner

    from revstep.cli import app

    root = tmp_path_factory.mktemp("dit")
    FOLDERS["dit"].save(root / "model")
    path = root / "dit.revstep"
    result = CliRunner().invoke(
        app, ["export", "--diffusers", str(root / "model"), "--size", "4x4", "-o", str(path)]
    )
    assert result.exit_code == 0, result.stderr
    return path


def test_the_size_is_the_states(bundle):
    spec = Bundle.open(bundle).spec
    assert spec.shape == (4, 4, 4)
    assert spec.sampler.name == "dpmpp_2m"


def test_the_bundles_own_sampler_runs_by_default(cli, bundle, tmp_path):
    def drawn(name, *more):
        path = tmp_path / f"{name}.npy"
        result = cli(
            "sample", bundle, "-o", path, "--seed", 3, "--steps", 3, "--class", "2", "--json", *more
        )
        assert result.exit_code == 0, result.stderr
        return path.read_bytes(), json.loads(result.stdout)["sampler"]

    own, name = drawn("own")
    assert name == "dpmpp_2m"
    assert drawn("named", "--sampler", "dpmpp_2m", "--compat", "diffusers")[0] == own
    other, name = drawn("other", "--set", "second=heun")
    assert name == "dpmpp_2m"
    assert drawn("ddim", "--sampler", "ddim")[1] == "ddim"
    assert other != own


def test_info_says_which_sampler_runs(cli, bundle):
    lines = [line.split() for line in cli("info", bundle).stdout.splitlines()]
    (words,) = (line[1:] for line in lines if line[:1] == ["sampler"])
    assert words[0] == "dpmpp_2m,"
    assert words[-2:] == ["compat", "diffusers"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "8"), "--size goes with --diffusers"),
        (("--sequence-length", "8"), "--sequence-length goes with --diffusers"),
    ],
)
def test_sizes_go_with_a_folder(cli, tmp_path, arguments, message):
    result = cli("export", "toys:image", "-o", tmp_path / "x.revstep", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize("size", ["8,8", "8x", "large", "-4x4"])
def test_a_size_that_is_no_numbers_is_refused(cli, tmp_path, size):
    result = cli("export", "--diffusers", tmp_path, "-o", tmp_path / "x.revstep", "--size", size)
    assert result.exit_code == 2
    assert "--size must be numbers such as 768x512" in " ".join(result.stderr.split())
