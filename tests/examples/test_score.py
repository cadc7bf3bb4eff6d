import sys

import numpy as np
import pytest

from proofs.quality import example


@pytest.fixture(scope="module")
def scorer():
    yield example("score")
    sys.modules.pop("score")


@pytest.fixture
def images():
    """Blocky random pictures on a black background, 25 of them: not a multiple of the chunk."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(-1, 1, (25, 1, 7, 7)).astype(np.float32)
    return np.pad(coarse.repeat(4, 2).repeat(4, 3), ((0, 0), (0, 0), (2, 2), (2, 2)), "edge")


def _torch_network(tensors):
    """The architecture written anew with torch's layers; the shipped weights."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    conv1 = nn.Conv2d(1, 32, 5, stride=2)
    conv2, conv3 = nn.Conv2d(32, 48, 3, padding=1), nn.Conv2d(48, 64, 3, padding=1)
    hidden, logits = nn.Linear(1024, 64), nn.Linear(64, 10)
    for name, layer in (
        ("conv1", conv1),
        ("conv2", conv2),
        ("conv3", conv3),
        ("hidden", hidden),
        ("logits", logits),
    ):
        layer.load_state_dict(
            {k: torch.from_numpy(tensors[f"{name}.{k}"]) for k in ("weight", "bias")}
        )
    features = nn.Sequential(
        *(nn.ConstantPad2d(2, -1.0), conv1, nn.ReLU()),
        *(conv2, nn.ReLU(), nn.MaxPool2d(2)),
        *(conv3, nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), hidden, nn.ReLU()),
    )
    return features, nn.Sequential(logits, nn.Softmax(1))


def test_numpy_inference_equals_torch(scorer, images, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(scorer, "_CHUNK", 10)  # two full passes and a rest
    features, head = _torch_network(scorer.load_classifier()[0])
    with torch.no_grad():
        expected = features(torch.from_numpy(images))
        probabilities = head(expected)
    np.testing.assert_allclose(scorer.features(images), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        scorer.class_probabilities(images), probabilities, rtol=1e-4, atol=1e-4
    )


def test_folding_keeps_the_trained_network(scorer, images):
    torch = pytest.importorskip("torch")
    trainer = example("train_classifier")
    torch.manual_seed(0)
    model = trainer.Classifier()
    with torch.no_grad():
        for norm in (model.norm1, model.norm2, model.norm3):
            for value in (norm.weight, norm.bias, norm.running_mean):
                value.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
        expected = model.eval().features(torch.from_numpy(images)).numpy()
    tensors = {k: v.astype(np.float32) for k, v in trainer.folded(model).items()}
    # float16 weights: 11 bits, over sums of hundreds of terms
    np.testing.assert_allclose(
        scorer.features(images, tensors), expected, rtol=0, atol=0.01 * expected.max()
    )


def test_missing_data_set_names_its_package(scorer, tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(SystemExit, match="dataset-fashion-mnist"):
        example("train_classifier").load_split(tmp_path, "test")


def test_frechet_distance_of_diagonal_gaussians(scorer):
    # Independent dimensions: sum of (m - n)^2 + (s - t)^2
    m, s = np.array([1.0, -2.0, 0.5]), np.array([1.0, 2.0, 3.0])
    n, t = np.array([0.0, 1.0, 0.5]), np.array([2.0, 0.5, 3.0])
    got = scorer.frechet_distance(m, np.diag(s**2), n, np.diag(t**2))
    assert got == pytest.approx(1 + 9 + 1 + 2.25, rel=1e-12)


def test_frechet_distance_equals_the_matrix_root_formula(scorer):
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(1)
    a, b = (m @ m.T for m in rng.normal(size=(2, 64, 80)))
    mean_a, mean_b = rng.normal(size=(2, 64))
    root = linalg.sqrtm(a @ b).real
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(a + b - 2 * root)
    assert scorer.frechet_distance(mean_a, a, mean_b, b) == pytest.approx(expected, rel=1e-9)
    assert scorer.frechet_distance(mean_a, a, mean_a, a) == pytest.approx(0, abs=1e-8)


def test_frechet_distance_of_fewer_samples_than_features(scorer):
    rng = np.random.default_rng(2)
    flat = np.cov(rng.normal(size=(20, 64)), rowvar=False)  # rank 19
    # tr(C^(1/2)) from the singular values, apart from any matrix root of a product
    roots = np.sqrt(np.linalg.svd(flat, compute_uv=False)).sum()
    expected = np.trace(flat) + 64 - 2 * roots
    got = scorer.frechet_distance(np.zeros(64), flat, np.zeros(64), np.eye(64))
    assert got == pytest.approx(expected, rel=1e-6)


def test_score_counts_labels_and_measures_pixels(scorer, images):
    guesses = scorer.class_probabilities(images).argmax(1)
    labels = guesses.copy()
    labels[:5] = (labels[:5] + 1) % 10
    result = scorer.score(images, labels)
    assert result.count == 25
    assert result.accuracy == pytest.approx(20 / 25)
    brightness = (images.astype(np.float64) + 1) / 2
    assert result.pixel_mean == pytest.approx(brightness.mean())
    assert result.pixel_std == pytest.approx(brightness.std())
    assert result.frechet_distance > 1  # noise is no clothing


def test_shipped_statistics_are_the_test_sets(scorer):
    result = scorer.score(np.zeros((2, 1, 32, 32), np.float32), np.array([0, 1]))
    # 28x28 mean and deviation of the published test set, in 0..255, spread over 32x32
    mean, std = 73.1466 / 255, 89.8733 / 255
    share = (28 / 32) ** 2
    assert result.real_pixel_mean == pytest.approx(mean * share, rel=1e-3)
    spread = np.sqrt((std**2 + mean**2) * share - (mean * share) ** 2)
    assert result.real_pixel_std == pytest.approx(spread, rel=1e-3)
    assert result.real_accuracy >= 0.92


def test_shortfalls_name_each_missed_limit(scorer):
    good = {
        "count": 200,
        "accuracy": 0.95,
        "frechet_distance": 1.0,
        "pixel_mean": 0.22,
        "pixel_std": 0.33,
        "real_accuracy": 0.93,
        "real_pixel_mean": 0.22,
        "real_pixel_std": 0.33,
    }
    assert scorer.Score(**good).shortfalls() == ()
    for change, name in (
        ({"accuracy": 0.91}, "accuracy"),
        ({"frechet_distance": 4.0}, "Fréchet"),
        ({"pixel_mean": 0.245}, "mean"),
        ({"pixel_mean": 0.195}, "mean"),
        ({"pixel_std": 0.365}, "deviation"),
        ({"pixel_std": 0.295}, "deviation"),
    ):
        (sentence,) = scorer.Score(**(good | change)).shortfalls()
        assert name in sentence


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"images": np.zeros((3, 1, 28, 28), np.float32)}, ValueError, r"\(n, 1, 32, 32\)"),
        ({"images": np.zeros((3, 1, 32, 32), np.uint8)}, TypeError, "uint8"),
        ({"images": np.full((3, 1, 32, 32), 1.5, np.float32)}, ValueError, r"\[-1, 1\]"),
        ({"images": np.full((3, 1, 32, 32), np.nan, np.float32)}, ValueError, "finite"),
        ({"images": np.zeros((1, 1, 32, 32), np.float32)}, ValueError, "2 or more"),
        ({"labels": np.zeros(2, int)}, ValueError, r"\(3,\)"),
        ({"labels": np.zeros(3)}, TypeError, "integers"),
        ({"labels": np.array([0, 1, 10])}, ValueError, r"0\.\.9"),
        ({"labels": np.array([0, 1, -1])}, ValueError, r"0\.\.9"),
    ],
)
def test_wrong_arguments_are_refused(scorer, change, error, match):
    arguments = {"images": np.zeros((3, 1, 32, 32), np.float32), "labels": np.arange(3)} | change
    with pytest.raises(error, match=match):
        scorer.score(**arguments)


def test_shipped_file_is_small(scorer):
    assert scorer.WEIGHTS_PATH.stat().st_size <= 300_000
