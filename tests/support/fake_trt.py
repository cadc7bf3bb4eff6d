"""A TensorRT in Python, for its callers' logic: plans run on torch CPU tensors by address.

A plan is JSON: {"tensors": [[name, mode, shape, dtype]], "profile": [low, tuned, high]}. It
computes out = x + t (row by row) + the float conditions' sum; with a "graph", an .onnx file, what
ONNX Runtime computes of that. ``Faults`` makes calls fail as TensorRT's do: a False or None, and a
line in the log; "nan" makes the output NaN.
"""

import ctypes
import dataclasses
import enum
import functools
import json
import types

import numpy as np

KINDS = {"tensor(float)": "FLOAT", "tensor(int64)": "INT64", "tensor(bool)": "BOOL"}
TYPES = {"float32": "FLOAT", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}


@dataclasses.dataclass
class Faults:
    """Which call fails, and what is then logged."""

    call: str = ""
    says: str = ""
    streams: list = dataclasses.field(default_factory=list)


def plan(spec, low, tuned, high, change=lambda tensors: tensors):
    """A plan whose tensors are the spec's."""
    rows = high if low == high else -1
    tensors = [
        [spec.name, "INPUT", [rows, *spec.shape], "FLOAT"],
        *([time.name, "INPUT", [rows], "FLOAT"] for time in spec.times),
        *([c.name, "INPUT", [rows, *c.shape], TYPES[c.interface]] for c in spec.conditions),
        ["out", "OUTPUT", [rows, *spec.output_shape], "FLOAT"],
    ]
    return json.dumps({"tensors": change(tensors), "profile": [low, tuned, high]}).encode()


def graph_plan(graph, low, tuned, high, change=lambda tensors: tensors):
    """A plan that gives what ONNX Runtime gives of the graph."""
    rows = high if low == high else -1
    session = _session(str(graph))
    tensors = [
        [port.name, mode, [rows, *port.shape[1:]], KINDS[port.type]]
        for mode, ports in (("INPUT", session.get_inputs()), ("OUTPUT", session.get_outputs()))
        for port in ports
    ]
    made = {"tensors": change(tensors), "profile": [low, tuned, high], "graph": str(graph)}
    return json.dumps(made).encode()


@functools.cache
def _session(graph):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def fake_trt(faults=None, rtx=False):
    """A module with the names that the engine's side uses."""
    faults = faults or Faults()

    class TensorIOMode(enum.Enum):
        INPUT = 1
        OUTPUT = 2

    class DataType(enum.Enum):
        FLOAT = 0
        HALF = 1
        INT64 = 2
        INT32 = 3
        BOOL = 4

    class ILogger:
        WARNING = 2

        def __init__(self):
            pass

    def fails(logger, call):
        if faults.call == call:
            logger.log(1, faults.says)
            return True
        return False

    class Context:
        def __init__(self, engine):
            self.engine, self.shapes, self.memory = engine, {}, {}

        def set_input_shape(self, name, shape):
            self.shapes[name] = tuple(shape)
            return not fails(self.engine.logger, "set_input_shape")

        def infer_shapes(self):
            if fails(self.engine.logger, "infer_shapes"):
                return ["x"]
            inputs = [n for n, t in self.engine.tensors.items() if t[0] == "INPUT"]
            return [name for name in inputs if name not in self.shapes]

        def get_tensor_shape(self, name):
            rows = next(iter(self.shapes.values()))[0]
            return (rows, *self.engine.tensors[name][1][1:])

        def set_tensor_address(self, name, address):
            self.memory[name] = address
            return not fails(self.engine.logger, "set_tensor_address")

        def is_stream_capturable(self, stream):
            return faults.call != "is_stream_capturable"

        def array(self, name):
            _, _, dtype = self.engine.tensors[name]
            kind = next(kind for kind, name in TYPES.items() if name == dtype)
            shape = self.get_tensor_shape(name)
            size = int(np.prod(shape)) * np.dtype(kind).itemsize
            raw = (ctypes.c_char * size).from_address(self.memory[name])
            return np.frombuffer(raw, kind).reshape(shape)

        def execute_async_v3(self, stream):
            if fails(self.engine.logger, "execute_async_v3"):
                return False
            faults.streams.append(stream)
            if self.engine.graph is not None:
                self.run_graph()
                return True
            out = self.array("out")
            names = [n for n, t in self.engine.tensors.items() if t[0] == "INPUT"]
            x, t, *conditions = (self.array(name) for name in names)
            wide = (-1,) + (1,) * (x.ndim - 1)
            total = x + t.reshape(wide)
            for values in conditions:
                total = total + values.reshape(len(t), -1).sum(1).reshape(wide)
            np.copyto(out, np.nan if faults.call == "nan" else total)
            return True

        def run_graph(self):
            tensors = self.engine.tensors
            inputs = {n: self.array(n).copy() for n, t in tensors.items() if t[0] == "INPUT"}
            names = [n for n, t in tensors.items() if t[0] == "OUTPUT"]
            found = _session(self.engine.graph).run(names, inputs)
            for name, values in zip(names, found, strict=True):
                np.copyto(self.array(name), np.nan if faults.call == "nan" else values)

    class Engine:
        def __init__(self, data, logger):
            self.logger, self.graph = logger, data.get("graph")
            self.tensors = {name: rest for name, *rest in data["tensors"]}
            self.profile = data["profile"]
            self.num_io_tensors = len(self.tensors)

        def get_tensor_name(self, index):
            return list(self.tensors)[index]

        def get_tensor_mode(self, name):
            return TensorIOMode[self.tensors[name][0]]

        def get_tensor_shape(self, name):
            return tuple(self.tensors[name][1])

        def get_tensor_dtype(self, name):
            return DataType[self.tensors[name][2]]

        def get_tensor_profile_shape(self, name, index):
            return [(rows, *self.tensors[name][1][1:]) for rows in self.profile]

        def create_execution_context(self):
            if fails(self.logger, "create_execution_context"):
                return None
            return Context(self)

    class Runtime:
        def __init__(self, logger):
            if fails(logger, "Runtime"):
                raise TypeError("pybind11::init(): factory function returned nullptr")
            self.logger = logger

        def deserialize_cuda_engine(self, data):
            if fails(self.logger, "deserialize_cuda_engine"):
                return None
            return Engine(json.loads(data), self.logger)

    return types.SimpleNamespace(
        ILogger=ILogger, TensorIOMode=TensorIOMode, DataType=DataType, Runtime=Runtime
    )
