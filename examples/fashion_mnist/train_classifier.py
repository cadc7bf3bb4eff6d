"""Trains the small classifier that scores generated Fashion-MNIST images.

    apt-get install dataset-fashion-mnist
    python examples/fashion_mnist/train_classifier.py

Writes classifier.safetensors: float16 weights with BatchNorm folded in, and the test set's
statistics (feature mean and covariance, pixel mean and standard deviation) as `score.py` sees them.
"""

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from score import WEIGHTS_PATH, Array, features, frechet_distance, pixel_mean_std
from torch import Tensor, nn
from torch.nn import functional

DATA = Path("/usr/share/datasets/fashion-mnist")
STEM = {"train": "train", "test": "t10k"}


class Classifier(nn.Module):
    """The network of `score.py`, with BatchNorm after each convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 5, stride=2, bias=False)
        self.norm1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 48, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(48)
        self.conv3 = nn.Conv2d(48, 64, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(64)
        self.hidden = nn.Linear(1024, 64)
        self.logits = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        """Returns the (b, 64) features of (b, 1, 32, 32) images in [-1, 1]."""
        h = functional.pad(x, (2, 2, 2, 2), value=-1.0)  # the background goes on
        h = functional.relu(self.norm1(self.conv1(h)))  # (b, 32, 16, 16)
        h = functional.max_pool2d(functional.relu(self.norm2(self.conv2(h))), 2)  # (b, 48, 8, 8)
        h = functional.max_pool2d(functional.relu(self.norm3(self.conv3(h))), 2)  # (b, 64, 4, 4)
        h = functional.dropout(h.flatten(1), 0.3, self.training)
        return functional.relu(self.hidden(h))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the (b, 10) logits of (b, 1, 32, 32) images in [-1, 1]."""
        logits: Tensor = self.logits(self.features(x))
        return logits


def folded(model: Classifier) -> dict[str, NDArray[np.float16]]:
    """Returns the weights under the names `score.py` reads, each BatchNorm inside its convolution.

    ``scale = gamma / sqrt(var + eps)``; weight ``scale * w``, bias ``beta - scale * mean``.
    """
    tensors = {}
    norms = {"conv1": model.norm1, "conv2": model.norm2, "conv3": model.norm3}
    for conv, norm in norms.items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = model.get_submodule(conv).get_parameter("weight")
        tensors[f"{conv}.weight"] = weight * scale[:, None, None, None]
        tensors[f"{conv}.bias"] = norm.bias - scale * norm.running_mean
    for name in ("hidden", "logits"):
        tensors |= {f"{name}.{k}": v for k, v in model.get_submodule(name).named_parameters()}
    return {name: t.detach().numpy().astype(np.float16) for name, t in tensors.items()}


def load_split(folder: Path, split: str) -> tuple[Array, NDArray[np.int64]]:
    """Returns images (n, 1, 32, 32) float32 in [-1, 1] and labels (n,) of "train" or "test".

    Raises:
        SystemExit: If the data set is not in `folder`.
    """
    files = [folder / f"{STEM[split]}-{part}-ubyte.gz" for part in ("images-idx3", "labels-idx1")]
    for file in files:
        if not file.is_file():
            raise SystemExit(
                f"{file} is missing: install Debian's package dataset-fashion-mnist "
                "(apt-get install dataset-fashion-mnist), or give the folder with --data"
            )
    pixels, labels = (gzip.decompress(file.read_bytes()) for file in files)
    # idx files: a header of 16 bytes (images) or 8 (labels), then unsigned bytes
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    x = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2))).astype(np.float32) / 127.5 - 1
    return x, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def train(x: Tensor, y: Tensor, *, epochs: int, batch: int = 128) -> Classifier:
    """Returns a classifier trained by AdamW on a one-cycle rate, with random mirroring."""
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = len(x) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    for epoch in range(epochs):
        started, total = time.monotonic(), 0.0
        order = torch.randperm(len(x))[: steps * batch].reshape(steps, batch)
        for rows in order:
            images = x[rows]
            mirrored = torch.rand(batch, 1, 1, 1) < 0.5
            images = torch.where(mirrored, images.flip(3), images)
            images = images.contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(model(images), y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - started
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, {seconds:.0f} s", flush=True)
    return model.eval()


def main() -> None:
    """Trains, measures on the test set and writes the file."""
    parser = argparse.ArgumentParser(description="Train the Fashion-MNIST scorer.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the four .gz files")
    parser.add_argument("--output", type=Path, default=WEIGHTS_PATH)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    x, y = load_split(arguments.data, "train")
    test_x, test_y = load_split(arguments.data, "test")
    model = train(torch.from_numpy(x), torch.from_numpy(y), epochs=arguments.epochs)

    weights = folded(model)
    # The rounded weights, by the code that will score: the statistics then belong to them.
    rounded = {name: tensor.astype(np.float32) for name, tensor in weights.items()}
    hidden = features(test_x, rounded)
    guesses = (hidden @ rounded["logits.weight"].T + rounded["logits.bias"]).argmax(1)
    accuracy = float((guesses == test_y).mean())
    statistics = {
        "real.feature_mean": hidden.mean(0, dtype=np.float64).astype(np.float32),
        "real.feature_cov": np.cov(hidden.astype(np.float64), rowvar=False).astype(np.float32),
        "real.pixel_mean_std": np.array(pixel_mean_std(test_x), np.float32),
    }
    metadata = {
        "test_accuracy": f"{accuracy:.4f}",
        "data": "Fashion-MNIST test set (10,000 images padded to 32x32), Zalando SE, MIT licence",
        "script": "examples/fashion_mnist/train_classifier.py "
        f"--epochs {arguments.epochs} --seed {arguments.seed}",
    }
    save_file({**weights, **statistics}, arguments.output, metadata)
    size = arguments.output.stat().st_size
    print(f"test accuracy {accuracy:.4f}; wrote {arguments.output} ({size:,} bytes)")
    reference = statistics["real.feature_mean"], statistics["real.feature_cov"]
    for count in (200, 1000):
        sample = features(x[:count], rounded).astype(np.float64)
        distance = frechet_distance(sample.mean(0), np.cov(sample, rowvar=False), *reference)
        print(f"{count} training images: Fréchet distance {distance:.2f}")


if __name__ == "__main__":
    main()
