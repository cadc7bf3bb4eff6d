"""Choices for a CPU put into a bundle's manifest by hand: what won is the test's to say."""

import onnxruntime
from damage import edit_manifest

from revstep.engine.bundle.choice import CpuChoice
from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.layout import PLANS, file_digest
from revstep.engine.bundle.writer import described
from revstep.engine.system.machine import processor

ELSEWHERE = [
    ({"choice": {"processor": "PDP-11"}}, "it was measured on PDP-11, and this is "),
    ({"version": "0.1"}, "it was measured with ONNX Runtime 0.1, and this is "),
    ({"runtime": "abacus"}, "this revstep runs no 'abacus' on a CPU"),
    ({"choice": {"threads": 4096}}, "it takes 4096 threads, and this process may use "),
]
"""(fields of a winner, why it is passed over here)."""


def put_winner(path, rows, *, graph=None, precision="fp32", choice=None, **fields):
    """ONNX Runtime with one thread as the winner, but for ``fields``; ``graph`` is its own."""
    file = None
    if graph is not None:
        (path / PLANS).mkdir(exist_ok=True)
        file = f"{PLANS}{file_digest(graph)[:32]}.onnx"
        (path / file).write_bytes(graph.read_bytes())
    made = CpuChoice(**{
        "processor": processor(), "threads": 1, "rewrites": () if graph is None else ("any",),
        "seconds": 0.001, "candidates": (), **(choice or {}),
    })  # fmt: skip
    entry = CompiledEntry(**{
        "key": f"{rows}{precision}", "target": "cpu", "precision": precision,
        "runtime": "onnxruntime", "version": onnxruntime.__version__, "device": "cpu",
        "batch": (rows, rows), "file": file, "choice": made,
        "parity": {"forward": {"error": 0.0, "bound": 1e-4}}, **fields,
    })  # fmt: skip

    def change(manifest):
        manifest["engines"].append(entry.to_dict())
        if file is not None:
            manifest["files"][file] = described(path / file)

    edit_manifest(path, change)
    return entry
