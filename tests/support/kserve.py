"""A client of the KServe inference protocol, version 2, over HTTP: what Triton speaks."""

import json

import httpx
import numpy as np

TYPES = {
    "bool": "BOOL",
    "int32": "INT32",
    "int64": "INT64",
    "uint64": "UINT64",
    "float32": "FP32",
    "float64": "FP64",
    "object": "BYTES",
}
DTYPES = {kind: np.dtype(name) for name, kind in TYPES.items()}


class RefusedError(Exception):
    """An answer that is no result."""

    def __init__(self, status, message):
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


def infer(url, model, inputs, *, outputs=(), binary=True, timeout=120):
    """The outputs of a model by name; ``inputs`` are arrays by name, texts of dtype object."""
    body = {
        "inputs": [
            {
                "name": name,
                "datatype": TYPES[array.dtype.name],
                "shape": list(array.shape),
                "data": array.ravel().tolist(),
            }
            for name, array in inputs.items()
        ],
        "outputs": [{"name": name, "parameters": {"binary_data": binary}} for name in outputs],
        "parameters": {"binary_data_output": binary},
    }
    answer = httpx.post(f"{url}/v2/models/{model}/infer", json=body, timeout=timeout)
    if answer.status_code != 200:
        raise RefusedError(answer.status_code, answer.json()["error"])
    if not binary:
        return {
            o["name"]: np.array(o["data"], DTYPES[o["datatype"]]).reshape(o["shape"])
            for o in answer.json()["outputs"]
        }
    at = int(answer.headers["Inference-Header-Content-Length"])
    found = {}
    for o in json.loads(answer.content[:at])["outputs"]:
        size = o["parameters"]["binary_data_size"]
        data = np.frombuffer(answer.content[at : at + size], DTYPES[o["datatype"]])
        found[o["name"]] = data.reshape(o["shape"])
        at += size
    assert at == len(answer.content)
    return found


def tensors(**values):
    """The inputs of the sampling model as arrays; ``conditions__label`` is ``conditions.label``."""
    kinds = {
        **dict.fromkeys(("n", "steps", "priority"), np.int32),
        **dict.fromkeys(("guidance", "strength", "deadline_s"), np.float64),
        **dict.fromkeys(("start", "known", "mask", "noise"), np.float32),
        **dict.fromkeys(("sampler", "sampler_options", "grid", "compat", "final"), object),
        "seed": np.uint64,
        "clip": np.bool_,
    }
    return {
        name.replace("__", "."): np.atleast_1d(np.asarray(value, kinds.get(name)))
        for name, value in values.items()
    }
