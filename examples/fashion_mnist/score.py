"""Scores generated Fashion-MNIST images with the small classifier beside this file (no torch).

Images are float32 (n, 1, 32, 32) in [-1, 1]: the 28x28 originals with 2 black pixels (-1) on each
side, as the denoiser was trained. Pixel statistics are on the [0, 1] brightness scale
``(x + 1) / 2``, over all pixels of all images, where 0 is the black background.

    python examples/fashion_mnist/score.py samples.npy --labels labels.npy

prints the score as JSON and exits with 1 if a limit is missed.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

__all__ = [
    "CLASSES",
    "MAX_FRECHET",
    "MIN_ACCURACY",
    "PIXEL_TOLERANCE",
    "Score",
    "class_probabilities",
    "features",
    "frechet_distance",
    "load_classifier",
    "pixel_mean_std",
    "score",
]

Array = NDArray[np.float32]

CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
MIN_ACCURACY = 0.92
PIXEL_TOLERANCE = 0.10  # relative to the real set's value, on the [0, 1] scale
# For 200 images or more. Eight seeds of 200 (README.md): trailing DDIM-20 stays below 2.9,
# leading DDIM-10 above 5.
MAX_FRECHET = 3.8

WEIGHTS_PATH = Path(__file__).with_name("classifier.safetensors")
_CHUNK = 100  # images per pass: the widest unfolded layer is then 30 MB


@dataclass(frozen=True, slots=True)
class Score:
    """What `score` measures, with the real test set's values beside it.

    Attributes:
        count: Number of images.
        accuracy: Share of images that the classifier gives their label, in [0, 1].
        frechet_distance: On the 64 features, against the real test set. It grows as `count`
            falls: compare scores of equal counts only.
        pixel_mean: Mean brightness in [0, 1].
        pixel_std: Standard deviation of the brightness over all pixels of all images.
        real_accuracy: The classifier's accuracy on the real test set.
        real_pixel_mean: `pixel_mean` of the real test set.
        real_pixel_std: `pixel_std` of the real test set.
    """

    count: int
    accuracy: float
    frechet_distance: float
    pixel_mean: float
    pixel_std: float
    real_accuracy: float
    real_pixel_mean: float
    real_pixel_std: float

    def shortfalls(
        self,
        *,
        min_accuracy: float = MIN_ACCURACY,
        max_frechet: float = MAX_FRECHET,
        pixel_tolerance: float = PIXEL_TOLERANCE,
    ) -> tuple[str, ...]:
        """Returns one sentence for each limit missed; empty if the images pass.

        Args:
            min_accuracy: Min class accuracy, in [0, 1].
            max_frechet: Largest Fréchet distance; the default is for 200 images or more.
            pixel_tolerance: Largest relative difference of the pixel mean and of the pixel
                standard deviation from the real set's.
        """
        missed = []
        if self.accuracy < min_accuracy:
            missed.append(f"class accuracy {self.accuracy:.3f} is below {min_accuracy:.3f}")
        if self.frechet_distance > max_frechet:
            missed.append(
                f"Fréchet distance {self.frechet_distance:.2f} of {self.count} images "
                f"is above {max_frechet:.2f}"
            )
        for name, got, real in (
            ("mean", self.pixel_mean, self.real_pixel_mean),
            ("standard deviation", self.pixel_std, self.real_pixel_std),
        ):
            if abs(got - real) > pixel_tolerance * real:
                missed.append(
                    f"pixel {name} {got:.4f} is more than {pixel_tolerance:.0%} "
                    f"from the real set's {real:.4f}"
                )
        return tuple(missed)


def score(images: NDArray[Any], labels: NDArray[Any]) -> Score:
    """Returns the score of generated images against the classes asked for.

    Args:
        images: (n, 1, 32, 32) floats in [-1, 1], n at least 2.
        labels: (n,) integers 0..9, the class each image was sampled for.

    Raises:
        TypeError: If `images` are not floats or `labels` not integers.
        ValueError: If a shape or a value is outside what is named above.
    """
    x = _checked_images(images)
    y = np.asarray(labels)
    if not np.issubdtype(y.dtype, np.integer):
        raise TypeError(f"labels have dtype {y.dtype}; give integers 0..9")
    if len(x) < 2:
        raise ValueError(f"got {len(x)} images; a Fréchet distance needs 2 or more")
    if y.shape != (len(x),):
        raise ValueError(f"labels have shape {y.shape}; give one per image: ({len(x)},)")
    if y.min() < 0 or y.max() >= len(CLASSES):
        raise ValueError(f"labels span {y.min()}..{y.max()}; the classes are 0..9")

    tensors, metadata = load_classifier()
    hidden = _hidden(x, tensors)
    mean, std = pixel_mean_std(x)
    return Score(
        count=len(x),
        accuracy=float((_logits(hidden, tensors).argmax(1) == y).mean()),
        frechet_distance=frechet_distance(
            hidden.mean(0, dtype=np.float64),
            np.cov(hidden.astype(np.float64), rowvar=False),
            tensors["real.feature_mean"],
            tensors["real.feature_cov"],
        ),
        pixel_mean=mean,
        pixel_std=std,
        real_accuracy=float(metadata["test_accuracy"]),
        real_pixel_mean=float(tensors["real.pixel_mean_std"][0]),
        real_pixel_std=float(tensors["real.pixel_mean_std"][1]),
    )


def class_probabilities(images: NDArray[Any]) -> Array:
    """Returns the classifier's softmax, (n, 10) float32, for (n, 1, 32, 32) images in [-1, 1]."""
    tensors, _ = load_classifier()
    logits = _logits(_hidden(_checked_images(images), tensors), tensors)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def features(images: NDArray[Any], tensors: Mapping[str, Array] | None = None) -> Array:
    """Returns the 64 features of each image, (n, 64) float32, non-negative.

    Args:
        images: (n, 1, 32, 32) floats in [-1, 1].
        tensors: The network's weights; those of the shipped classifier if not given.
    """
    return _hidden(_checked_images(images), load_classifier()[0] if tensors is None else tensors)


def pixel_mean_std(images: NDArray[Any]) -> tuple[float, float]:
    """Returns mean and standard deviation of ``(x + 1) / 2`` over all pixels of all images."""
    x = np.asarray(images, np.float64)
    return float(x.mean() + 1) / 2, float(x.std()) / 2


def frechet_distance(
    mean_a: NDArray[Any], cov_a: NDArray[Any], mean_b: NDArray[Any], cov_b: NDArray[Any]
) -> float:
    """Returns the squared Fréchet distance of two Gaussians, 0 if they are equal.

    ``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``; the last trace is that of the symmetric
    root of ``C_a^(1/2) C_b C_a^(1/2)``, which has the same eigenvalues.

    Args:
        mean_a: (d,) mean.
        cov_a: (d, d) covariance, symmetric and positive semidefinite.
        mean_b: (d,) mean.
        cov_b: (d, d) covariance.

    References:
        Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017,
        https://arxiv.org/abs/1706.08500, equation 6.
    """
    a, b = np.asarray(cov_a, np.float64), np.asarray(cov_b, np.float64)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ b @ root).clip(0)  # rounding leaves small negatives
    shift = np.asarray(mean_a, np.float64) - np.asarray(mean_b, np.float64)
    distance = shift @ shift + np.trace(a) + np.trace(b) - 2 * np.sqrt(product).sum()
    return max(float(distance), 0.0)


@cache
def load_classifier(path: Path = WEIGHTS_PATH) -> tuple[dict[str, Array], dict[str, str]]:
    """Returns the classifier's tensors, as float32, and its metadata."""
    with safe_open(path, framework="numpy") as file:
        names = file.keys()
        tensors = {name: file.get_tensor(name).astype(np.float32) for name in names}
        return tensors, dict(file.metadata())


def _checked_images(images: NDArray[Any]) -> Array:
    x = np.asarray(images)
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"images have dtype {x.dtype}; give floats in [-1, 1]")
    if x.ndim != 4 or x.shape[1:] != (1, 32, 32):
        raise ValueError(f"images have shape {x.shape}; give (n, 1, 32, 32)")
    if x.size and not np.abs(x).max() <= 1 + 1e-4:  # a NaN fails too
        raise ValueError(f"images span {x.min():.4g}..{x.max():.4g}; give finite values in [-1, 1]")
    return np.asarray(x, np.float32)


def _hidden(x: Array, tensors: Mapping[str, Array]) -> Array:
    """The network up to its 64 features: three convolutions, then a linear layer."""
    parts = [np.empty((0, 64), np.float32)]
    for start in range(0, len(x), _CHUNK):
        h = x[start : start + _CHUNK].transpose(0, 2, 3, 1)  # (b, 32, 32, 1)
        h = _convolved(h, tensors, "conv1", stride=2, fill=-1.0)  # (b, 16, 16, 32)
        h = _convolved(h, tensors, "conv2", stride=1)  # (b, 16, 16, 48)
        h = _max_pooled(h)  # (b, 8, 8, 48)
        h = _convolved(h, tensors, "conv3", stride=1)  # (b, 8, 8, 64)
        h = _max_pooled(h)  # (b, 4, 4, 64)
        # NOTE: flattened channel first, as torch.flatten does with (b, c, h, w).
        flat = h.transpose(0, 3, 1, 2).reshape(len(h), -1)
        parts.append(np.maximum(flat @ tensors["hidden.weight"].T + tensors["hidden.bias"], 0))
    return np.concatenate(parts)


def _logits(hidden: Array, tensors: Mapping[str, Array]) -> Array:
    return hidden @ tensors["logits.weight"].T + tensors["logits.bias"]


def _convolved(
    x: Array, tensors: Mapping[str, Array], name: str, *, stride: int, fill: float = 0.0
) -> Array:
    """ReLU of a "same" convolution; x (b, h, w, c), weight (out, c, k, k)."""
    weight = tensors[f"{name}.weight"]
    out, _, k, _ = weight.shape
    pad = (k - 1) // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]  # (b, h', w', c, k, k)
    columns = windows.reshape(-1, weight[0].size)
    product = columns @ weight.reshape(out, -1).T + tensors[f"{name}.bias"]
    return np.asarray(np.maximum(product, 0).reshape(*windows.shape[:3], out))


def _max_pooled(x: Array) -> Array:
    b, h, w, c = x.shape
    return np.asarray(x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4)))


def main() -> None:
    """Scores the images of a .npy file and prints the score as JSON."""
    parser = argparse.ArgumentParser(description="Score generated Fashion-MNIST images.")
    parser.add_argument("images", type=Path, help=".npy, (n, 1, 32, 32) floats in [-1, 1]")
    parser.add_argument("--labels", type=Path, help=".npy, (n,) integers; default 0..9 repeated")
    arguments = parser.parse_args()
    images = np.load(arguments.images)
    labels = np.load(arguments.labels) if arguments.labels else np.arange(len(images)) % 10
    result = score(images, labels)
    shortfalls = result.shortfalls()
    print(json.dumps({**asdict(result), "shortfalls": shortfalls}, indent=2, ensure_ascii=False))
    raise SystemExit(1 if shortfalls else 0)


if __name__ == "__main__":
    main()
