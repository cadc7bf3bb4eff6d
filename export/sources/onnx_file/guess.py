"""What the inputs of a file are, guessed from their names, dtypes and shapes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from revstep.export.sources.onnx_file.names import SECOND, STATE, TIME
from revstep.export.sources.onnx_file.ports import FilePort, OnnxFile
from revstep.export.sources.onnx_file.wiring import has_rows

CONDITION, CONSTANT = "condition", "constant"
STATES = (
    *("noisy", "sample", "x", "xt", "latent", "latents", "hidden states", "z", "zt"),
    *("noise", "trajectory", "actions", "input", "inputs"),
)
TIME_KINDS = {  # words of a time's name -> what it is fed
    "sigma": "sigma", "sigmas": "sigma", "noise level": "sigma", "c noise": "log_sigma",
    "log sigma": "log_sigma", "log snr": "log_snr", "logsnr": "log_snr", "timestep": "index",
    "timesteps": "index", "time step": "index", "diffusion step": "index",
}  # fmt: skip
TIMES = (*TIME_KINDS, "t", "time", "times", "ts", "step", "tau", "noise labels", "k", "gamma")
SECONDS = ("r", "s", "t next", "time next", "timestep r", "r timestep", "dt", "step size", "delta")
GUIDANCE = ("guidance", "guidance scale", "cfg", "cfg scale", "timestep cond", "w")
FLAGS = ("train", "training", "deterministic", "inference", "is training")
PREDICTIONS = {  # words of an output's name -> the prediction
    "denoised": "sample", "x0": "sample", "pred x0": "sample", "x start": "sample",
    "pred original sample": "sample", "clean": "sample", "eps": "epsilon", "epsilon": "epsilon",
    "noise pred": "epsilon", "pred noise": "epsilon", "noise": "epsilon", "score": "score",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Guess:
    """What an input may be.

    Attributes:
        role: ``state``, ``time``, ``second_time``, ``condition`` or ``constant``.
        what: In words: a class label, a mask, ...
        reason: Why.
        kind: Of a time: what it is fed; None: the name doesn't say.
        classes: Rows of the table that it indexes, where it does.
    """

    role: str
    what: str
    reason: str
    kind: str | None = None
    classes: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Guesses:
    """What a file's inputs and output may be.

    Attributes:
        inputs: By the inputs' names.
        output: The output that may be the prediction; None: none has the state's shape.
        prediction: What it may predict, and why; None: its name doesn't say.
    """

    inputs: Mapping[str, Guess]
    output: FilePort | None
    prediction: tuple[str, str] | None

    def of(self, role: str) -> str | None:
        """The name of the input with a role, if one has it."""
        return next((name for name, g in self.inputs.items() if g.role == role), None)


def guess(file: OnnxFile) -> Guesses:
    """The guesses of a file."""
    tables = _tables(file)
    found: dict[str, Guess] = {}
    state, output = _state(file)
    if state is not None and output is not None:
        found[state.name] = Guess(STATE, "the noisy state", _why_state(state, output))
    numbers = [p for p in file.inputs if p.name not in found and _one_a_row(p)]
    time = _time(numbers, tables)
    found |= time
    for port in file.inputs:
        if port.name not in found:
            found[port.name] = _condition(port, state, tables)
    ordered = {port.name: found[port.name] for port in file.inputs}
    return Guesses(ordered, output, _prediction(output))


def _state(file: OnnxFile) -> tuple[FilePort | None, FilePort | None]:
    """The input that an output has the shape of, by its name where several do."""
    pairs = [
        (one, out)
        for one in file.inputs
        for out in file.outputs
        if one.is_float and out.is_float and one.dims and out.dims and _alike(one, out)
    ]
    if not pairs:
        return None, None
    return min(pairs, key=lambda pair: (_rank(pair[0], STATES), _rank(pair[1], PREDICTIONS)))


def _alike(one: FilePort, out: FilePort) -> bool:
    """Whether an output has an input's axes, or one of them twice as long (learned variance)."""
    assert one.dims is not None
    assert out.dims is not None
    if len(one.dims) != len(out.dims) or len(one.dims) < 2:
        return False
    pairs = list(zip(one.dims, out.dims, strict=True))[1:]
    free = [isinstance(a, str) or isinstance(b, str) for a, b in pairs]
    other = [(a, b) for (a, b), f in zip(pairs, free, strict=True) if not f and a != b]
    return not other or (len(other) == 1 and other[0][1] == 2 * int(other[0][0]))


def _why_state(state: FilePort, output: FilePort) -> str:
    named = f", and it is called {state.name!r}" if _is(state, STATES) else ""
    if state.dims == output.dims:
        return f"the output {output.name!r} has its shape{named}"
    return f"the output {output.name!r} has its shape, but for the channels{named}"


def _time(numbers: list[FilePort], tables: Mapping[str, int]) -> dict[str, Guess]:
    """The time among inputs of one number a row, and the second time."""
    named = [p for p in numbers if _is(p, TIMES)]
    floats = [p for p in numbers if p.is_float]
    alone = numbers if len(numbers) == 1 else floats if len(floats) == 1 else []
    if not (chosen := sorted(named, key=lambda p: _rank(p, TIMES)) or alone):
        return {}
    port = chosen[0]
    kind = next((TIME_KINDS[w] for w in TIME_KINDS if _is(port, (w,))), None)
    why = f"one number a row, called {port.name!r}"
    if port not in named:
        why = "the only input of one number a row"
    if "int" in port.dtype:
        kind, why = "index", f"{why}; whole numbers, so training indices"
    if (rows := tables.get(port.name)) is not None:
        why = f"{why}; it reads a table of {rows} rows: schedule steps = {rows}?"
    found = {port.name: Guess(TIME, "the time", why, kind, rows)}
    for other in numbers:
        if other is not port and _is(other, SECONDS):
            reason = f"one number a row, called {other.name!r}, beside the time {port.name!r}"
            found[other.name] = Guess(SECOND, "a second time: where a step goes", reason, kind)
            break
    return found


def _condition(port: FilePort, state: FilePort | None, tables: Mapping[str, int]) -> Guess:
    """What an input is that is neither state nor time."""
    if port.dims is None:
        return Guess(CONDITION, "unknown", "the file doesn't say its shape, which an export needs")
    rows = tables.get(port.name)
    rank = len(port.dims)
    if _is(port, FLAGS) or (port.dtype == "bool" and rank == 0):
        return Guess(CONSTANT, "a flag", "it is no data: one value for ever will do")
    if rank == 0:
        return Guess(CONSTANT, "a number", "one for all rows")
    if "mask" in _words(port.name):
        return Guess(CONDITION, "a mask", f"called {port.name!r}")
    whole = "int" in port.dtype
    if _one_a_row(port) and whole:
        more = f", which reads a table of {rows} rows" if rows is not None else ""
        return Guess(CONDITION, "a class label", f"a whole number a row{more}", classes=rows)
    if _one_a_row(port):
        what = "a guidance strength" if _is(port, GUIDANCE) else "a number"
        return Guess(CONDITION, what, "one number a row")
    if whole:
        what = "token ids" if rows is not None or "ids" in _words(port.name) else "whole numbers"
        return Guess(CONDITION, what, f"{rank - 1} axes of whole numbers a row", classes=rows)
    if state is not None and rank == len(state.dims or ()) and rank > 3:
        return Guess(CONDITION, "a picture", "as many axes as the state")
    if rank == 3:
        return Guess(CONDITION, "embeddings, as of a text", "a sequence of vectors a row")
    return Guess(CONDITION, "a vector" if rank == 2 else "an array", f"{rank - 1} axes a row")


def _prediction(output: FilePort | None) -> tuple[str, str] | None:
    if output is None:
        return None
    for words, prediction in PREDICTIONS.items():
        if _is(output, (words,)):
            return prediction, f"the output is called {output.name!r}"
    return None


def _tables(file: OnnxFile) -> dict[str, int]:
    """Rows of the tables that whole-number inputs index, of those that index one size alone."""
    from revstep.export.graph.index_tables import index_tables

    names = {p.name for p in file.inputs if "int" in p.dtype}
    found = index_tables(file.path, names) if names else {}
    return {
        name: tables[0].size
        for name, tables in found.items()
        if len(tables) == 1 and tables[0].whole and tables[0].shift == 0
    }


def _one_a_row(port: FilePort) -> bool:
    """Whether an input is one number: of a row, or of all."""
    return port.dims is not None and has_rows(port.dims, ()) is not None and port.dtype != "bool"


def _is(port: FilePort, names: Iterable[str]) -> bool:
    return _words(port.name) in names or _words(port.name).replace(" ", "") in names


def _rank(port: FilePort, names: Iterable[str]) -> int:
    words = _words(port.name)
    return next((i for i, n in enumerate(names) if n in (words, words.replace(" ", ""))), 99)


def _words(name: str) -> str:
    """A name in lower case, its words apart: ``noisyLatents:0`` is ``noisy latents``."""
    last = name.split("/")[-1].split(":")[0]
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", last)
    return " ".join(re.findall(r"[a-z0-9]+", apart.lower()))
