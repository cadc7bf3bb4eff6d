"""A process that draws one sample of a bundle, or runs its network without revstep, and tells when.

It is run as a file, by the interpreter of a build: it imports nothing of the checkout.
"""

import hashlib
import json
import sys
import time


def now() -> float:
    """Seconds of a clock that all processes share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def revstep_run(bundle: str, threads: int, steps: int, guidance: float) -> tuple[list[float], str]:
    """When it had imported, loaded and drawn; the sample's sha256."""
    import numpy as np

    import revstep

    load = revstep.load
    imported = now()
    engine = load(bundle, threads=threads)
    loaded = now()
    conditions = {c.name: np.zeros(c.shape, c.dtype) for c in engine.spec.conditions}
    sample = engine.sample(
        1, sampler="ddim", steps=steps, seed=0, guidance=guidance, conditions=conditions
    )
    drawn = now()
    return [imported, loaded, drawn], hashlib.sha256(sample.x.tobytes()).hexdigest()


def bare_run(bundle: str, threads: int, steps: int, guidance: float) -> tuple[list[float], str]:
    """The same network calls in ONNX Runtime alone: no check, no sampler, no sample."""
    import numpy as np
    import onnxruntime as ort

    imported = now()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    graph = f"{bundle}/denoiser.fp32.onnx"
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    loaded = now()
    rows = 1 if guidance == 1.0 else 2
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    feed = {
        port.name: np.zeros(
            [rows if isinstance(n, str) else n for n in port.shape], kinds[port.type]
        )
        for port in session.get_inputs()
    }
    for _ in range(steps):
        session.run(None, feed)
    return [imported, loaded, now()], ""


def main() -> None:
    """Prints one line of JSON: times, and the sample's digest."""
    started = now()
    way, bundle, threads, steps, guidance = sys.argv[1:]
    run = revstep_run if way == "revstep" else bare_run
    times, digest = run(bundle, int(threads), int(steps), float(guidance))
    print(json.dumps({"times": [started, *times], "digest": digest}))


if __name__ == "__main__":
    main()
