"""A spec in TOML to start from: what a file says, and questions where it can't know."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from revstep.engine.spec.prediction import PREDICTIONS
from revstep.export.sources.onnx_file.guess import CONDITION, CONSTANT, Guess, Guesses
from revstep.export.sources.onnx_file.names import SECOND, STATE, TIME
from revstep.export.sources.onnx_file.ports import FilePort, OnnxFile
from revstep.export.sources.onnx_file.wire import identifier
from revstep.export.sources.onnx_file.wiring import own_axes

SCHEDULES = (  # kind, the fields that matter, and who has it
    (
        "vp",
        'steps = 1000, betas = "linear"',
        'DDPM; or "scaled_linear", "squaredcos_cap_v2"',
    ),
    ("ve", 'levels = "karras", sigma_min = 0.002, sigma_max = 80.0', "EDM, consistency models"),
    ("flow", "", "rectified flow, flow matching"),
    ("vp_continuous", 'curve = "cosine"', 'trained at random t; "linear", "cosine", "sigmoid"'),
    ("trigflow", "sigma_data = 0.5", "sCM, TrigFlow"),
)
LEVELS = ("sigma", "log_sigma")
CHANNELS = (1, 3, 4)


def template(file: OnnxFile, found: Guesses) -> str:
    """The text of a spec file; what the file can't say is commented out, as a question."""
    return "\n".join(_lines(file, found)) + "\n"


def _lines(file: OnnxFile, found: Guesses) -> Iterator[str]:
    name = file.path.name
    bundle = file.path.with_suffix(".revstep").name
    yield f"# The spec of {name}, to start from."
    yield "# Lines without # are what the file says, or guesses from its names: check them."
    yield "# Lines with a ? are yours to fill in, where they hold: take the # away."
    words = ("--onnx", name, "--spec", "THIS_FILE", "-o", bundle)
    yield f"# Then: revstep export {shlex.join(words)}"
    yield ""
    yield from _top(file, found)
    yield ""
    yield from _schedule(found)
    yield ""
    for role in (TIME, SECOND):
        yield from _time(role, found)
    for port in file.inputs:
        if found.inputs[port.name].role == CONDITION:
            yield from _condition(port, found.inputs[port.name])
    yield from _names(file, found)


def _top(file: OnnxFile, found: Guesses) -> Iterator[str]:
    state = next((p for p in file.inputs if p.name == found.of(STATE)), None)
    time = next((p for p in file.inputs if p.name == found.of(TIME)), None)
    inner = own_axes(state, time) if state is not None else ()
    shape = ", ".join(map(str, inner)) or "3, 64, 64"
    if state is not None and inner and all(isinstance(d, int) for d in inner):
        yield f"shape = [{shape}]  # of one sample, without the batch"
    else:
        yield f"# shape = [{shape}]  # ? of one sample, without the batch: numbers"
    if found.prediction is not None:
        prediction, why = found.prediction
        yield f'prediction = "{prediction}"  # a guess: {why}'
    else:
        yield '# prediction = "epsilon"  # ? what the network was trained to predict; one of:'
        yield f"#   {', '.join(PREDICTIONS)}"
    if found.output is not None and state is not None and _doubled(state, found.output):
        yield f"learned_variance = true  # the output {found.output.name!r} has twice the channels"
    yield "# value_range = [-1.0, 1.0]  # ? the data's range, for pictures and for clipping"
    yield "# clip = true  # ? whether its sampler clips the estimate to that range"
    yield '# grid = "trailing"  # ? where the network is called: trailing, leading, karras, ...'
    usual = "ddim" if found.of(SECOND) is None else "flow_map"
    yield f'# sampler = "heun"  # ? what draws where nobody names one; {usual} by default'
    if state is not None and inner != state.dims and isinstance((state.dims or ("",))[0], int):
        assert state.dims
        yield f"# The file takes {state.dims[0]} rows a call; batch follows from that."


def _schedule(found: Guesses) -> Iterator[str]:
    kind = found.inputs[name].kind if (name := found.of(TIME)) is not None else None
    likely = "ve" if kind in LEVELS else "vp"
    yield "# The noise schedule that it was trained with? Take the # of one line away:"
    for one, fields, who in sorted(SCHEDULES, key=lambda schedule: schedule[0] != likely):
        inner = ", ".join(filter(None, (f'kind = "{one}"', fields)))
        yield f"# schedule = {{ {inner} }}  # {who}"


def _time(role: str, found: Guesses) -> Iterator[str]:
    name = found.of(role)
    if name is None:
        if role == TIME:
            yield "# [time]"
            yield '# name = ""  # ? which input is the time or the noise level'
            yield ""
        return
    guess = found.inputs[name]
    yield f"[{role}]  # {guess.reason}"
    if guess.kind is not None:
        yield f'kind = "{guess.kind}"  # a guess'
    else:
        yield 'kind = "?"  # ? what it is fed: index (0 to T - 1), unit (t in 0 to 1),'
        yield "#   thousand (1000 t), sigma, log_sigma (ln(sigma) / 4), log_snr, angle"
    if guess.kind not in (None, "index"):
        yield "fractions = true"
    elif "whole numbers" not in guess.reason:
        yield "# fractions = true  # ? whether it may be fed times between training indices"
    if role == SECOND:
        yield '# of = "length"  # ? it is how far a step goes; else where it ends'
    yield ""


def _condition(port: FilePort, guess: Guess) -> Iterator[str]:
    yield f"[[conditions]]  # {port.dtype} {port.shape}: {guess.what}, a guess ({guess.reason})"
    yield f'name = "{identifier(port.name)}"'
    inner = list(port.dims or ())[1:]
    if any(isinstance(d, str) for d in inner):
        yield f"# shape = [{', '.join(map(str, inner))}]  # ? of one sample's value: numbers"
    if guess.classes is not None:
        yield f"classes = {guess.classes}  # rows of the table that it reads"
        yield f"# null = {guess.classes - 1}  # ? the class that means none, for guidance"
    elif guess.what == "a class label":
        yield "# classes = 1001  # ? labels are 0 to classes - 1"
        yield "# null = 1000  # ? the class that means none, for guidance"
    else:
        yield '# null = 0.0  # ? what means "no condition", for guidance: a number, a list, or'
        yield '#   { file = "null.npy" }'
    yield ""


def _names(file: OnnxFile, found: Guesses) -> Iterator[str]:
    yield "[inputs]  # what the file calls them"
    for role in (STATE, TIME, SECOND):
        name = found.of(role)
        if name is not None:
            yield f"{role} = {_quoted(name)}"
        elif role != SECOND:
            yield f'# {role} = ""  # ?'
        if any(p.name == name and role == STATE and _channels_last(p) for p in file.inputs):
            given = f"{{ name = {_quoted(str(name))}, channels_last = true }}"
            yield f"#   ? if its channels come last: state = {given}, without the shape above"
    for port in file.inputs:
        if found.inputs[port.name].role == CONDITION and identifier(port.name) != port.name:
            yield f"{identifier(port.name)} = {_quoted(port.name)}"
    yield ""
    constants = [p for p in file.inputs if found.inputs[p.name].role == CONSTANT]
    if constants:
        yield "[constants]  # inputs that always have one value"
        for port in constants:
            value = "false" if port.dtype == "bool" else "0"
            yield f"# {_quoted(port.name)} = {value}  # ? {found.inputs[port.name].what}"
        yield ""
    if len(file.outputs) > 1:
        yield f"[output]  # of {', '.join(p.name for p in file.outputs)}"
        alike = [p.name for p in file.outputs if found.output and p.dims == found.output.dims]
        if found.output is not None and (len(alike) == 1 or found.prediction is not None):
            yield f"name = {_quoted(found.output.name)}  # a guess: it has the state's shape"
        else:
            yield '# name = ""  # ? the prediction'
        yield ""


def _quoted(name: str) -> str:
    """A name as TOML has it, whose escapes are JSON's but for those of pairs."""
    return json.dumps(name, ensure_ascii=False)


def _channels_last(state: FilePort) -> bool:
    """Whether a state's last axis looks like a picture's channels, and its first doesn't."""
    inner = (state.dims or ())[1:]
    return len(inner) > 1 and inner[-1] in CHANNELS and inner[0] not in CHANNELS


def _doubled(state: FilePort, output: FilePort) -> bool:
    pairs = zip(state.dims or (), output.dims or (), strict=False)
    return any(isinstance(a, int) and isinstance(b, int) and b == 2 * a for a, b in pairs)
