"""A trained network from PyPI as its ONNX file, beside its own package's sampler.

adaptive-terrain-diffusion 0.4.2 (MIT): a consistency model of height maps, one step from sigma 80.
It is fetched for this test alone, and no part of revstep.
"""

import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import revstep
from revstep.commands.errors import describe
from revstep.export import export_onnx
from revstep.export.sources.onnx_file.guess import guess
from revstep.export.sources.onnx_file.ports import read_file
from revstep.export.sources.onnx_file.template import template

PACKAGE = "adaptive-terrain-diffusion==0.4.2"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The package, unpacked."""
    path = tmp_path_factory.mktemp("terrain")
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(path), PACKAGE]
    try:
        done = subprocess.run(fetch, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{PACKAGE} could not be fetched in 5 minutes")
    if done.returncode:
        pytest.skip(f"{PACKAGE} can't be fetched here: {done.stderr.strip().splitlines()[-1:]}")
    (wheel,) = path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(path)
    return path


@pytest.fixture(scope="module")
def bundle(folder, tmp_path_factory):
    """The file through the spec that inspect writes, its questions answered."""
    (model,) = folder.rglob("*.onnx")
    file = read_file(model)
    text = template(file, guess(file))
    text = re.sub(r'^# (schedule = \{ kind = "ve")', r"\1", text, flags=re.MULTILINE)
    text = text.replace("# value_range = [-1.0, 1.0]", "value_range = [-1.0, 1.0]")
    spec = tmp_path_factory.mktemp("spec") / "spec.toml"
    spec.write_text(text)
    return export_onnx(model, spec, spec.parent / "terrain.revstep")


def test_its_spec_is_guessed_but_for_the_schedule(bundle):
    spec = bundle.spec
    assert (spec.shape, spec.prediction) == ((1, 128, 128), "sample")
    assert (spec.name, spec.time.name, spec.time.kind) == ("noisy", "sigma", "sigma")
    assert [c.name for c in spec.conditions] == ["difficulty"]
    assert spec.schedule.sigma_max == 80.0


def test_one_step_is_what_its_own_package_draws(bundle, folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    generator = pytest.importorskip("terrain_diffusion").TerrainGenerator(device="cpu")
    difficulty = [10, 90]
    want = generator.generate(2, difficulty=difficulty, seed=3, zero_floor=False)
    engine = revstep.load(bundle.path)
    drawn = engine.sample(
        2,
        sampler="consistency",
        steps=1,
        noise=np.random.default_rng(3).standard_normal((2, 1, 128, 128), dtype=np.float32),
        conditions={"difficulty": (np.array(difficulty) - 1) / 99},
        clip=False,
    ).x
    heights = generator._from_model_space(drawn, zero_floor=False)
    assert want.std() > 0.1
    np.testing.assert_allclose(heights, want, atol=1e-4 * want.std())


def test_a_wrong_guess_of_a_user_is_told(bundle, folder, tmp_path):
    (model,) = folder.rglob("*.onnx")
    values = {
        "prediction": "sample", "schedule": {"kind": "ve"}, "time": {"kind": "sigma"},
        "inputs": {"state": "noisy", "time": "sigma"},
    }  # fmt: skip
    with pytest.raises(revstep.errors.ExportError) as error:
        export_onnx(model, values, tmp_path / "x.revstep")
    assert "takes 'difficulty', float32 (batch,) too" in describe(error.value)
