"""Ways to damage a bundle."""

import errno
import hashlib
import json

import numpy as np

from revstep.engine.bundle.writer import write_manifest


def snapshot(path):
    """Name -> sha256 of every file below a directory."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def flip(file, at, bit=0x10):
    """Flips one bit of a byte of a file."""
    data = bytearray(file.read_bytes())
    data[at] ^= bit
    file.write_bytes(bytes(data))


def edit_manifest(bundle, change):
    """Applies ``change(manifest)`` and writes the manifest with a right digest."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    write_manifest(bundle, manifest)


def rehash(bundle, name):
    """Makes the manifest agree with a changed file, so that only parity can notice."""
    data = (bundle / name).read_bytes()
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit_manifest(bundle, lambda m: m["files"].update({name: entry}))


def export_anew(bundle):
    """What another export does to a bundle: another graph, and a manifest that matches it."""
    flip(bundle / "denoiser.fp32.onnx", 2000)
    rehash(bundle, "denoiser.fp32.onnx")


def disk_full(*args, **kwargs):
    """In place of a call that writes."""
    raise OSError(errno.ENOSPC, "No space left on device")


def change_weight(bundle, change, name="denoiser.fp32.onnx", size=8):
    """Changes the first weight of the graph with ``size`` elements or more; hashes are renewed."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(bundle / name)
    weight = next(
        w for w in model.graph.initializer
        if w.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16) and len(w.dims) > 1
        and np.prod(w.dims) >= size
    )  # fmt: skip
    values = numpy_helper.to_array(weight).copy()
    change(values)
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, bundle / name)
    rehash(bundle, name)


def scale_one(values):
    values.reshape(-1)[np.abs(values).argmax()] *= 1.5
