"""What memory the ranges of a deep, wide network take, which only a process of its own shows.

A program: ``python range_memory.py FOLDER`` prints ``{"tensors": bytes, "grown": bytes}``: of all
its tensors, and by how much the peak of the process grew.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx.parser import parse_model

from revstep.export.precision.ranges import add_ranges, ranges_session
from revstep.export.precision.types import save_graph

BLOCKS, SHAPE = 40, (1, 8, 256, 256)
TENSOR = 4 * int(np.prod(SHAPE))
VALUE = f"float[{','.join(map(str, SHAPE))}]"
HEAD = '<ir_version: 10, opset_import: ["" : 20]>'
BLOCK = """ c{0} = Conv <pads = [1, 1, 1, 1]> (h{0}, w)
 s{0} = Sigmoid (c{0})
 m{0} = Mul (c{0}, s{0})
 h{1} = Add (h{0}, m{0})
"""


def network():
    """Residual blocks around convolutions, each tensor of 2 MiB."""
    nodes = "".join(BLOCK.format(n, n + 1) for n in range(BLOCKS)) + f" out = Neg (h{BLOCKS})"
    proto = parse_model(f"{HEAD} g ({VALUE} h0) => ({VALUE} out) {{\n{nodes}\n}}")
    weights = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32) / 30
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))


def peak():
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])


def main(path):
    model = network()
    names = add_ranges(model.graph)
    save_graph(model, path)
    session = ranges_session(path, 1)
    before = peak()
    ranges = session.run(None, {"h0": np.ones(SHAPE, np.float32)})[-1]
    assert (ranges > 0.0).all()
    found = {"tensors": TENSOR * len(names), "grown": peak() - before}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "g.onnx")
