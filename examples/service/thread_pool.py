"""Requests from a thread pool: every thread waits for its own, and all share network calls.

python examples/service/thread_pool.py demo-output/fashion_mnist_unet.revstep clothes
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import revstep


def draw(service: revstep.Service, label: int, folder: Path) -> Path:
    """One picture of a class, written by the thread that asked for it."""
    job = service.submit(1, seed=label, guidance=1.5, conditions={"class_labels": label})
    path = folder / f"{label}.png"
    job.result().pil()[0].save(path)
    return path


def main(bundle: str, folder: Path, threads: int = 8) -> list[Path]:
    """A picture of every class."""
    folder.mkdir(parents=True, exist_ok=True)
    engine = revstep.load(bundle)
    with revstep.Service(engine) as service, ThreadPoolExecutor(threads) as pool:
        paths = list(pool.map(lambda label: draw(service, label, folder), range(10)))
        stats = service.stats()
    print(f"{stats.outcomes['completed']} pictures in {stats.steps} steps of the service")
    return paths


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
