"""Exports an animal and compares each graph with the module itself, in float64 on the CPU."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch

from revstep.engine.errors import ExportError
from revstep.export import export_module
from zoo.animal import PRECISIONS
from zoo.run_graph import run_graph

ROWS = 5


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one precision: an error relative to the output's RMS, or a refusal's words."""

    error: float | None = None
    refusal: str | None = None


def judge(animal, precisions=PRECISIONS):
    """Precision -> outcome; nothing may be left where export refuses."""
    module, spec = animal.make(), animal.describe()
    inputs = random_inputs(animal, spec)
    want = None if animal.refused else truth(animal, spec, inputs)
    with tempfile.TemporaryDirectory() as folder:
        return {
            precision: _graph_outcome(found, precision, inputs, want)
            for precision, found in _exported(animal, module, spec, Path(folder), precisions)
        }


def _exported(animal, module, spec, folder, precisions):
    """(precision, its bundle or the refusal), in one export where that is refused or goes well."""
    found = _export(animal, module, spec, folder / "all.revstep", precisions)
    if not isinstance(found, ExportError) or animal.refused or len(precisions) == 1:
        yield from ((precision, found) for precision in precisions)
        return
    for precision in precisions:
        path = folder / f"{precision}.revstep"
        yield precision, _export(animal, module, spec, path, (precision,))


def _export(animal, module, spec, path, precisions):
    try:
        return export_module(module, spec, path, precisions=precisions, **animal.options)
    except ExportError as error:
        assert [p for p in path.parent.iterdir() if path.name in p.name] == []
        return error


def _graph_outcome(found, precision, inputs, want):
    if isinstance(found, ExportError):
        return Outcome(refusal=str(found))
    if want is None:  # it should have been refused
        return Outcome(error=np.inf)
    got = run_graph(found.graph(precision), inputs)
    one = run_graph(found.graph(precision), {name: value[:1] for name, value in inputs.items()})
    return Outcome(error=max(error_of(got, want), error_of(one, want[:1], want)))


def error_of(got, want, scale=None):
    """The largest error over the RMS of what is wanted; infinite where it is no number."""
    if got.shape != want.shape or not np.all(np.isfinite(got)):
        return np.inf
    scale = want if scale is None else scale
    return float(np.max(np.abs(got - want)) / np.sqrt(np.mean(scale**2)))


def random_inputs(animal, spec):
    """name -> values as the graph takes them."""
    rng = np.random.default_rng(11)
    high = spec.schedule.steps - 1 if spec.time.kind == "index" else 1.0
    t = np.linspace(high, 0.0, ROWS)
    inputs = {
        spec.name: rng.standard_normal((ROWS, *spec.shape)).astype(np.float32),
        spec.time.name: (np.round(t) if high > 1 else t).astype(np.float32),
    }
    for c in spec.conditions:
        if c.name in animal.inputs:
            inputs[c.name] = np.asarray(animal.inputs[c.name])
        elif "int" in c.dtype:
            inputs[c.name] = rng.integers(0, c.classes, (ROWS, *c.shape)).astype(c.dtype)
        else:
            values = torch.from_numpy(rng.standard_normal((ROWS, *c.shape)).astype(np.float32))
            inputs[c.name] = values.to(getattr(torch, c.dtype)).float().numpy()
    return inputs


def truth(animal, spec, inputs):
    """The module's own output for these inputs, computed in float64 where it can be."""
    module = animal.make().eval()
    real = torch.float64 if animal.oracle == "float64" else torch.float32
    if animal.oracle == "float64":
        module = float64(module)
    dtypes = {c.name: c.dtype for c in spec.conditions}
    tensors = {}
    for name, value in inputs.items():
        tensor = torch.from_numpy(np.array(value))
        if dtypes.get(name) in ("float16", "bfloat16") and real is torch.float32:
            tensor = tensor.to(getattr(torch, dtypes[name]))
        tensors[name] = tensor.to(real) if tensor.dtype == torch.float32 else tensor
    with torch.no_grad():
        named = animal.keywords
        out = module(tensors.pop(spec.name), **tensors) if named else module(*tensors.values())
    if isinstance(out, dict):
        out = out.get("sample")
    out = out[0] if isinstance(out, tuple) else out
    return out.double().numpy()


def float64(module):
    """The module with float64 for its real parameters and buffers, complex128 for complex ones."""
    wide = {torch.complex64: torch.complex128}
    return module._apply(
        lambda t: t.double() if t.is_floating_point() else t.to(wide.get(t.dtype, t.dtype))
    )
