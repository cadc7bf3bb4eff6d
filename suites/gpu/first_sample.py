"""One fresh process from its start to its first sample; prints JSON (`startup.py` reads it)."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Arguments: started (seconds since the epoch), device, `ours` or `peer`, dry, root."""
    started, device, side, dry, root = sys.argv[1:]
    marks = {"process": time.time()}
    import revstep

    marks["revstep"] = time.time()
    import torch

    from suites.gpu.context import Run
    from suites.gpu.networks import make_network
    from suites.gpu.peers import our_run, peer_run, torch_engine

    marks["torch"] = time.time()
    run = Run.bare(torch.device(device), Path(root), dry=dry == "dry")
    network, steps = make_network(run, "policy"), run.pick(50, 2)
    marks["network"] = time.time()
    if side == "ours":
        sample = our_run(torch_engine(run, network, "fp16", buckets=(1,)), 1, steps)
    else:
        sample = peer_run(run, network, "fp16", 1, steps)
    marks["engine"] = time.time()
    sample()
    marks["sample"] = time.time()
    last = float(started)
    parts = {}
    for name, at in marks.items():
        parts[name], last = at - last, at
    found = {"seconds": last - float(started), "parts_s": parts, "revstep": revstep.__version__}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
