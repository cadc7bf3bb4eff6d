"""The bundled denoiser's images, scored by the example's classifier."""

import numpy as np
import pytest

import revstep
from proofs.quality import example

pytest.importorskip("onnxruntime")
pytest.importorskip("safetensors")

LABELS = np.repeat(np.arange(10), 20)
SEED = 5000  # an ordinary one: of six tried, all passed and all leading runs failed


@pytest.fixture(scope="module")
def scoring():
    return example("score")


def shortfalls(scoring, bundle, **options):
    engine = revstep.load(bundle, threads=2)
    samples = engine.sample(seed=SEED, guidance=1.5, conditions={"class_labels": LABELS}, **options)
    score = scoring.score(samples.x, LABELS)
    print(score)  # noqa: T201  (shown where the test fails)
    return score, score.shortfalls()


def test_200_images_by_ddim_20_look_like_the_data(scoring, demo_bundle):
    score, missed = shortfalls(scoring, demo_bundle, sampler="ddim", steps=20)
    assert missed == ()
    assert score.accuracy >= 0.92
    assert abs(score.pixel_mean / score.real_pixel_mean - 1) <= 0.10
    assert abs(score.pixel_std / score.real_pixel_std - 1) <= 0.10


def test_a_wrong_sampler_fails_the_same_scores(scoring, demo_bundle):
    score, missed = shortfalls(scoring, demo_bundle, sampler="ddim", steps=10, grid="leading")
    assert missed
    assert score.accuracy < 0.92
    assert score.frechet_distance > scoring.MAX_FRECHET
