"""The wiring of a file for a whole spec; what contradicts is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from revstep.engine.errors import ExportError
from revstep.engine.nearest import unknown, unknown_names
from revstep.engine.spec.denoiser import Condition, DenoiserSpec, TimeInput
from revstep.engine.spec.second_time import SecondTime
from revstep.export.sources.onnx_file.constants import constants as given_constants
from revstep.export.sources.onnx_file.names import STATE, TIMES, InputName, Names
from revstep.export.sources.onnx_file.ports import FilePort, OnnxFile
from revstep.export.sources.onnx_file.wiring import Feed, Result, Wiring, has_rows, sizes

WHOLE_TIMES = ("index", "thousand")  # of the kinds, those that may be whole numbers
FREE = "a file whose time has a row each, (batch,), can run many rows a call"


def wire(file: OnnxFile, spec: DenoiserSpec, names: Names) -> Wiring:
    """How revstep's inputs become the file's.

    Raises:
        ExportError: The spec contradicts the file.
    """
    return _Wire(file, spec, names).all()


def input_port(file: OnnxFile, ours: str, wanted: InputName) -> FilePort:
    """The file's input that is ``ours``.

    Raises:
        ExportError: There is none of that name, or it has no shape.
    """
    ports = {p.name: p for p in file.inputs}
    if wanted.name not in ports:
        raise ExportError(
            f"{file.path}, for the spec's {ours}: {unknown('input', wanted.name, ports)}; say "
            f'which it is: [inputs] {ours} = "..."'
        )
    port = ports[wanted.name]
    if port.dims is None:
        raise ExportError(
            f"{file.path}: the input {port.name!r} ({port.dtype}) has no shape in the file, and "
            "one is needed: write the file with the shapes of its inputs"
        )
    return port


@dataclasses.dataclass(frozen=True)
class _Wire:
    """A file, a whole spec, and the names between them."""

    file: OnnxFile
    spec: DenoiserSpec
    names: Names

    def all(self) -> Wiring:
        """The wiring."""
        spec = self.spec
        times = dict(zip(TIMES, spec.times, strict=False))
        conditions = {c.name: c.name for c in spec.conditions}
        self._check_names(times)
        ours = {STATE: spec.name, **{key: time.name for key, time in times.items()}, **conditions}
        ports = {
            key: input_port(self.file, key, self.names.of(key, name)) for key, name in ours.items()
        }
        constants = given_constants(self.file, self.names.constants)
        self._check_used([p.name for p in ports.values()], constants)
        self._check_kinds(ports, times)
        state = self.names.of(STATE, spec.name)
        order, back, shape = None, None, spec.shape
        if state.channels_last:
            order, back = _channels_last(len(shape))
            shape = (*shape[1:], shape[0])
        rows = self._rows(STATE, ports[STATE], shape)
        first = (ports[STATE].dims or (1,))[0] if rows else 1
        feeds = [
            Feed(spec.name, ports[STATE].name, ports[STATE].dtype, spec.shape, shape, rows, order)
        ]
        lead = first if rows else None
        for key, time in times.items():
            feed = self._feed(key, ports[key], (), lead)
            named = self.names.of(key, time.name)
            feeds.append(
                dataclasses.replace(feed, ours=time.name, scale=named.scale, shift=named.shift)
            )
        feeds += [self._feed(c.name, ports[c.name], c.shape, lead) for c in spec.conditions]
        batch, why = self._batch(feeds, first)
        return Wiring(tuple(feeds), constants, self._result(rows, back), batch, why)

    def _wrong(self, said: str) -> ExportError:
        return ExportError(f"{self.file.path}: {said}")

    def _check_names(self, times: Mapping[str, object]) -> None:
        """Refuses names of inputs that the spec doesn't have."""
        conditions = [c.name for c in self.spec.conditions]
        if clash := [name for name in conditions if name in (STATE, *TIMES)]:
            (name, *_) = clash
            raise self._wrong(
                f"a condition is named {name!r}, which means the noisy state or a time in "
                f'[inputs]: name it otherwise, name = "given_{name}", with [inputs] given_{name} = '
                f'"{name}"'
            )
        known = (STATE, *times, *conditions)
        if others := set(self.names.inputs) - set(known):
            raise self._wrong(unknown_names("[inputs] names no input of the spec:", others, known))

    def _check_used(self, taken: list[str], constants: Mapping[str, object]) -> None:
        """Refuses an input that nothing feeds, or that two do."""
        if twice := [name for name in taken if taken.count(name) > 1 or name in constants]:
            raise self._wrong(
                f"the file's input {twice[0]!r} is named twice: each is one of the spec's "
                "inputs, or a constant"
            )
        left = [p for p in self.file.inputs if p.name not in {*taken, *constants}]
        if left:
            raise self._wrong(
                f"the file takes {'; '.join(map(str, left))} too, and the spec names no such "
                f'input: add [[conditions]] name = "{identifier(left[0].name)}", or give it one '
                f'value for ever: [constants] "{left[0].name}" = ...'
            )

    def _check_kinds(
        self, ports: Mapping[str, FilePort], times: Mapping[str, TimeInput | SecondTime]
    ) -> None:
        """Refuses inputs of dtypes that can't be what the spec says they are."""
        if not ports[STATE].is_float:
            raise self._wrong(f"the state is the input {ports[STATE]}, which holds no real numbers")
        for key, time in times.items():
            self._check_time(key, time, ports[key])
        for condition in self.spec.conditions:
            self._check_condition(condition, ports[condition.name])

    def _check_time(self, key: str, time: TimeInput | SecondTime, port: FilePort) -> None:
        what = key.replace("_", " ")
        if not port.is_float and "int" not in port.dtype:
            raise self._wrong(f"the {what} is the input {port}, which holds no numbers")
        whole = time.kind in WHOLE_TIMES or self.names.of(key, time.name).scale != 1.0
        if not port.is_float and (time.fractions or not whole):
            said = "fractions = true" if time.fractions else f'kind = "{time.kind}"'
            raise self._wrong(
                f"the {what} is the input {port}, whole numbers, and the spec's {key} says {said}: "
                'whole times are kind = "index" without fractions'
            )

    def _check_condition(self, condition: Condition, port: FilePort) -> None:
        whole = "int" in port.dtype
        if not (port.is_float or whole or port.dtype == "bool"):
            raise self._wrong(
                f"the input {port} is of a type that no condition has; give it one value for ever "
                "if that will do: [constants]"
            )
        given = condition.interface
        if (given == "float32" and not port.is_float) or ("int" in given and port.dtype == "bool"):
            dtype = "bool" if port.dtype == "bool" else "int64"
            raise self._wrong(
                f"the spec's condition {condition.name!r} is {condition.dtype}, and the file takes "
                f'{port.dtype}: dtype = "{dtype}"'
            )

    def _rows(self, ours: str, port: FilePort, shape: tuple[int, ...]) -> bool:
        """Whether an input has an axis of rows before ``shape``.

        Args:
            ours: ``state``, a time, or the condition's name.
            port: The input.
            shape: Of one sample's value, in the file's order of axes.
        """
        rows = has_rows(port.dims or (), shape)
        if rows is None and ours in TIMES:
            raise self._wrong(
                f"the input {port} can't be the {ours.replace('_', ' ')}, which is one number a "
                f'row, (rows,), or one for all, (): say which it is: [inputs] {ours} = "..."'
            )
        if rows is None:
            last = ours == STATE and shape != self.spec.shape
            whose = "spec's shape" if ours == STATE else f"shape of its condition {ours!r}"
            raise self._wrong(
                f"the input {port} is neither {_with_rows(shape)} nor {shape}, as the spec says"
                f"{' (channels last)' if last else ''}: fix the {whose}"
            )
        return rows

    def _feed(
        self, ours: str, port: FilePort, shape: tuple[int, ...], first: int | str | None
    ) -> Feed:
        """The time or a condition; ``first`` is the state's axis of rows, None: it has none."""
        dims = port.dims or ()
        rows = self._rows(ours, port, shape)
        if rows and first is not None and (isinstance(dims[0], str) or dims[0] == first):
            return Feed(ours, port.name, port.dtype, shape, sizes(dims[1:], shape), True)
        if rows and dims[0] != 1 and isinstance(dims[0], int):
            raise self._wrong(
                f"the input {port} has {dims[0]} rows, and the state has "
                f"{first if isinstance(first, int) else 'any number' if first else 'none'}"
            )
        inner = (1, *sizes(dims[1:], shape)) if rows else sizes(dims, shape)
        return Feed(ours, port.name, port.dtype, shape, inner, False)

    def _batch(self, feeds: list[Feed], first: int | str) -> tuple[int | None, str]:
        """The rows of every call, and what fixes them."""
        state, others = feeds[0], feeds[1:]
        if not state.rows:
            return 1, "its state has no axis of rows"
        if shared := [f.name for f in others if not f.rows]:
            if isinstance(first, int) and first > 1:
                raise self._wrong(
                    f"a call takes {first} rows but one {shared[0]!r} for all, and rows of one "
                    f"call may be at different times: write the file for one row, or {FREE}"
                )
            return 1, f"it takes one {shared[0]!r} for all rows, which may differ; {FREE}"
        return (first, "its first axis") if isinstance(first, int) else (None, "")

    def _result(self, rows: bool, order: tuple[int, ...] | None) -> Result:
        """The output that is the prediction."""
        file, shape = self.file, self.spec.output_shape
        inner = shape if order is None else (*shape[1:], shape[0])
        outputs = {p.name: p for p in file.outputs}
        name = self.names.output.name
        if name is None:
            fitting = [p for p in file.outputs if _gives(p, inner)] if len(outputs) > 1 else ()
            if len(outputs) > 1 and len(fitting) != 1:
                raise self._wrong(
                    f"the file has the outputs {'; '.join(map(str, file.outputs))}: say which is "
                    'the prediction: [output] name = "..."'
                )
            name = (fitting or file.outputs)[0].name
        if name not in outputs:
            raise self._wrong(unknown("output", name, outputs))
        port = outputs[name]
        if name in {p.name for p in file.inputs}:
            raise self._wrong(f"the output {port} is an input, given back as it is: no prediction")
        if not port.is_float or not _gives(port, inner):
            raise self._wrong(
                f"the output {port} can't be the prediction, float32 {_with_rows(inner)}"
                f"{self._why_not(port, inner)}"
            )
        dims = port.dims
        with_rows = rows if dims is None else bool(has_rows(dims, inner))
        return Result(name, shape, with_rows, order, self.names.output.scale)

    def _why_not(self, port: FilePort, inner: tuple[int, ...]) -> str:
        axis = -1 if inner != self.spec.output_shape else 0
        doubled = list(inner)
        doubled[axis] *= 2
        if not self.spec.learned_variance and _gives(port, tuple(doubled)):
            return ": it has twice the channels: learned_variance = true?"
        halves = list(inner)
        halves[axis] //= 2
        if self.spec.learned_variance and _gives(port, tuple(halves)):
            return ": it has the state's channels: learned_variance = false?"
        return ": fix the spec's shape, or name another output"


def _gives(port: FilePort, inner: tuple[int, ...]) -> bool:
    """Whether an output can be (rows, *inner), or ``inner``; one without a shape may be."""
    return port.dims is None or has_rows(port.dims, inner) is not None


def _channels_last(axes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The orders of axes from (rows, C, ...) to (rows, ..., C), and back."""
    return (0, *range(2, axes + 1), 1), (0, axes, *range(1, axes))


def _with_rows(shape: tuple[int, ...]) -> str:
    """A shape behind an axis of rows, as ``(rows, 3, 64, 64)``."""
    return f"({', '.join(map(str, ('rows', *shape)))}{'' if shape else ','})"


def identifier(name: str) -> str:
    """A name in a file as one that a spec may have."""
    found = "".join(c if c.isalnum() and c.isascii() else "_" for c in name).strip("_")
    if not found or found[0].isdigit():
        return f"input_{found}"
    return f"given_{found}" if found in (STATE, *TIMES) else found
