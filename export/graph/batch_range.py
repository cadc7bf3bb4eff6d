"""That a module does the same for any batch, which a graph traced at one batch takes for granted.

``torch.export`` follows a python branch on the batch (``if x.shape[0] > 8``) as the example takes
it, and narrows the batch's range without a word. Not every branch matters: diffusers' upsampling
makes tensors contiguous from 64 rows on. So the operators of a small and a large batch are
compared, on tensors without values, which costs neither memory nor arithmetic; only where they
differ are the rows themselves.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from revstep.engine.backends.module.cast import copy_module
from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.module.checks import ROW_TOLERANCE
from revstep.export.module.examples import example_inputs
from revstep.export.module.run import other_batch, run_module

FEW = 2  # rows of the exporter's example
MAX_ELEMENTS = 1 << 18  # of one call's state: activations are hundreds of times as large
MAX_VALUES = 1 << 12  # of a constant tensor, to be compared by its values
COPIES = frozenset({"alias", "clone", "contiguous", "detach"})  # the same values
FREE_BATCH = (
    "no python branches on the batch, no python loop over its rows, y[:x.shape[0]] instead of "
    "y.chunk(2), and -1 or x.shape[0] instead of a number in a reshape"
)

Call = tuple[str, tuple[object, ...]]


def check_batch(module: torch.nn.Module, spec: DenoiserSpec, rows: int) -> None:
    """Checks that ``rows`` rows get what they get two at a time.

    Raises:
        ExportError: They don't; or the module takes another way there, and its samples are too
            large for comparing the rows.
    """
    if rows <= FEW + 1:
        return
    same = _same_way(module, spec, rows)
    if same:
        return
    max_rows = MAX_ELEMENTS // spec.elements
    if same is None:  # the exporter can't follow such a module either, and says why
        _compare_rows(module, spec, min(rows, max_rows))
    elif rows <= max_rows:
        _compare_rows(module, spec, rows)
    else:
        raise ExportError(
            f"the module takes another way at batch {rows} than at batch {FEW}, and a graph holds "
            f"only one: {FREE_BATCH}; or give the spec a smaller batch range than "
            f"batch={spec.batch}"
        )


def _compare_rows(module: torch.nn.Module, spec: DenoiserSpec, rows: int) -> None:
    """Compares the first and last rows of a batch with the same rows two at a time."""
    if rows <= FEW + 1:
        return
    inputs = example_inputs(spec, rows, seed=1)
    many = other_batch(module, inputs, spec)
    for part in (slice(0, FEW), slice(rows - FEW, rows)):
        alone = run_module(module, tuple(i[part] for i in inputs), spec)
        scale = max(float(alone.square().mean().sqrt()), 1e-12)
        change = float((many[part] - alone).abs().max()) / scale
        if not change <= ROW_TOLERANCE:
            raise ExportError(
                f"the module gives a row another output at batch {rows} than at batch 2 (by "
                f"{change:.2g} of its RMS), but samples share network calls: no python branches "
                "on the batch, and nothing that normalises or attends over it"
            )


def _same_way(module: torch.nn.Module, spec: DenoiserSpec, rows: int) -> bool | None:
    """Whether ``rows`` rows take the operators that 2 take, on the same tensors; None: unknown."""
    try:
        few, many = (_calls(module, spec, n) for n in (FEW, rows))
    except Exception:  # a module of any kind, on tensors without values
        return None
    return len(few) == len(many) and all(
        one == other and len(a) == len(b) and all(map(_follows, a, b, itertools.repeat(rows)))
        for (one, a), (other, b) in zip(few, many, strict=True)
    )


def _follows(few: object, many: object, rows: int) -> bool:
    """Whether an argument of the call with 2 rows is the same with ``rows``, or grows with them."""
    if few == many:
        return True
    numbers = isinstance(few, int | float) and isinstance(many, int | float)
    return numbers and few * rows == many * FEW  # type: ignore[operator]


def _calls(module: torch.nn.Module, spec: DenoiserSpec, rows: int) -> list[Call]:
    from torch._subclasses.fake_tensor import FakeTensorMode

    weights = [*module.named_parameters(), *module.named_buffers()]
    # a copy, of all but the weights: a module may keep what it computes
    own = copy_module(module, {id(tensor): tensor for _, tensor in weights})
    recorder = _Recorder({id(tensor): name for name, tensor in weights})
    inputs = example_inputs(spec, FEW)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), recorder:
        own(
            *(torch.empty((rows, *i.shape[1:]), dtype=getattr(torch, i.dtype.name)) for i in inputs)
        )
    return recorder.calls


@dataclasses.dataclass(frozen=True)
class _Made:
    """The tensor that was made as the ``number``-th."""

    number: int


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operators of a run, and which tensors and numbers each takes."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self._names = names
        self._made: dict[int, _Made] = {}
        self._count = 0
        self._kept: list[torch.Tensor] = []  # an id holds while its tensor lives

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [tensor for tensor in tree_leaves(result) if isinstance(tensor, torch.Tensor)]
        copied = self._made.get(id(args[0])) if args else None
        if func.overloadpacket.__name__ in COPIES and copied is not None:
            self._keep(result, copied)
        elif made:  # without any it is a question, as for a device
            leaves = tree_leaves((args, kwargs))
            self.calls.append((str(func), tuple(map(self._name_of, leaves))))
            for tensor in made:
                if id(tensor) not in self._made:
                    self._keep(tensor, _Made(self._count))
                    self._count += 1
        return result

    def _keep(self, tensor: torch.Tensor, made: _Made) -> None:
        self._kept.append(tensor)
        self._made[id(tensor)] = made

    def _name_of(self, leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor):
            return leaf if isinstance(leaf, int | float) else str(leaf)
        if id(leaf) in self._made:
            return self._made[id(leaf)]
        if id(leaf) in self._names:
            return self._names[id(leaf)]
        self._kept.append(leaf)
        return str(leaf.tolist()) if leaf.numel() <= MAX_VALUES else id(leaf)
