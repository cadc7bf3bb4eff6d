"""Runs whose bytes must stay what they were, and the file that keeps their hashes.

    python tests/support/golden_runs.py            # compares; fails where a run differs
    python tests/support/golden_runs.py --write    # writes tests/engine/golden_runs.json anew

The file was written at commit 618b508. Commit 896003f had the same hashes but for the groups of
``golden_cases.CHANGED``, which are apart in the file, with the reason. The
network is made of +, -, * and / in float32, element by element, so that numpy and torch give the
same bits on every machine, and for a row in any batch.
"""

import argparse
import hashlib
import json
import logging
import sys
from pathlib import Path

import numpy as np

import revstep

if __name__ == "__main__":  # PYTHONSAFEPATH leaves a script's folder out
    sys.path.insert(0, str(Path(__file__).parent))

from golden_cases import CHANGED, all_cases

__all__ = [
    "FILE",
    "RowDenoiser",
    "all_cases",
    "differences",
    "engines",
    "host_engine",
    "network",
    "outcome",
    "places_of",
    "recorded",
]

FILE = Path(__file__).parents[1] / "engine" / "golden_runs.json"
DIGITS = 16  # of a sha256 that are kept
HALF, SMALL = 0.5, 0.03125  # exact in float32


def network(x, t, conditions, places):
    """(mean part, variance part) of a network; arrays of numpy or torch, all float32.

    Every row of the output depends on its own x, time and conditions, every element on its place.
    """
    column = (-1,) + (1,) * (x.ndim - 1)
    shift = t / (1.0 + SMALL * t * t) + 0.0009765625 * t
    for number, values in enumerate(conditions):
        flat = values.reshape(len(t), -1)
        for k in range(flat.shape[1]):
            shift = shift + (HALF / (1 + number + k)) * flat[:, k]
    shift = shift.reshape(column)
    mean = 1.25 * x / (1.0 + SMALL * x * x) + places * shift + SMALL * shift
    variance = (x - places) / (1.0 + x * x) * HALF
    return mean, variance


def places_of(shape):
    """A weight of each element: -0.75 to 0.75."""
    count = np.arange(int(np.prod(shape)))
    return (((count * 5) % 7 - 3) / np.float32(4)).astype(np.float32).reshape(shape)


class RowDenoiser:
    """The network on numpy buffers."""

    def __init__(self, spec):
        self.spec = spec

    def bind(self, buffers):
        places, channels = places_of(self.spec.shape), self.spec.shape[0]

        def call():
            x, t, *rest = buffers.inputs(self.spec).values()
            held = [np.asarray(values, np.float32) for values in rest]
            mean, variance = network(x, t, held, places)
            buffers.out[:, :channels] = mean
            if self.spec.learned_variance:
                buffers.out[:, channels:] = variance

        return call

    def describe(self):
        return {"backend": "rows"}


def host_engine(spec, **options):
    """The network on the CPU's runtime."""
    return revstep.Engine(RowDenoiser(spec), **options)


def engines(make):
    """A function of a setup: its engine, the same for setups that share a spec."""
    kept = {}

    def engine(setup):
        key = id(setup.spec), setup.reproducible, setup.decoded
        if key not in kept:
            decoder = {"decoder": lambda x: HALF * x[:, ::-1]} if setup.decoded else {}
            made = make(setup.spec, reproducible=setup.reproducible, **decoder)
            kept[key] = setup.spec, made  # the spec keeps its id
        return kept[key][1]

    return engine


def outcome(case, engine):
    """What of a run is hashed -> its hash; or the name of the error that refuses the run.

    ``previews`` are all that ``on_step`` got, in the order of the calls.
    """
    setup = case.setup()
    try:
        return _hashes(setup, engine(setup))
    except (revstep.errors.ProgramError, revstep.errors.NonFiniteError, ValueError) as error:
        known = isinstance(error, revstep.errors.RevstepError)  # else ValueError, or one of its own
        return {"refused": type(error).__name__ if known else "ValueError"}
    except Exception as error:
        error.add_note(f"in {case.group}: {case.name}")
        raise


def _hashes(setup, engine):
    if setup.method == "invert":
        return {"noise": _hash(engine.invert(**setup.arguments))}
    previews, done, arguments = hashlib.sha256(), [], dict(setup.arguments)
    watch = setup.watch
    if "previews" in watch:

        def on_step(preview):
            assert preview.x0.dtype == np.float32
            previews.update(
                f"{preview.step}/{preview.steps} {preview.first} {preview.x0.shape}".encode()
            )
            previews.update(preview.x0.tobytes())

        arguments["on_step"] = on_step
    if "trace" in watch:
        arguments["trace_x0"] = True
    if watch == "some":
        arguments["trace_x0"] = (1, -1)
    if watch == "progress":
        arguments["progress"] = lambda *steps: done.append(steps)
    samples = engine.sample(**arguments)
    found = {"x": _hash(samples.x)}
    if "on_step" in arguments:
        found["previews"] = previews.hexdigest()[:DIGITS]
    if samples.x0_trace is not None:
        found["trace"] = _hash(samples.x0_trace)
    if done:
        found["progress"] = hashlib.sha256(str(done).encode()).hexdigest()[:DIGITS]
    if samples.decoded is not None:
        found["decoded"] = _hash(samples.decoded)
    return found


def _hash(array):
    assert array.dtype == np.float32
    assert np.all(np.isfinite(array))
    return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).hexdigest()[:DIGITS]


def recorded():
    """group -> case -> hashes, of the file."""
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    return {group: runs for part in kept.values() for group, runs in part["runs"].items()}


def differences(group, want, make=host_engine):
    """What differs from the wanted hashes, one line per run."""
    cases, engine = all_cases()[group], engines(make)
    lines = [f"{group}: {name} is no case any more" for name in want if name not in cases]
    for name, case in cases.items():
        got, wanted = outcome(case, engine), want.get(name)
        if got != wanted:
            lines.append(
                f"{group}: {name}: {_difference(got, wanted)} [{_described(case.setup())}]"
            )
    return lines


def _difference(got, wanted):
    if wanted is None:
        return "not in the file"
    if "refused" in got or "refused" in wanted:
        return f"got {got}, recorded {wanted}"
    return ", ".join(k for k in {**wanted, **got} if got.get(k) != wanted.get(k)) + " differ"


def _described(setup):
    """A run in one line: shapes instead of arrays."""
    schedule = type(setup.spec.schedule).__name__
    parts = [f"{schedule} {setup.spec.prediction} {setup.spec.shape}", setup.watch]
    for name, value in setup.arguments.items():
        if isinstance(value, np.ndarray):
            value = f"array{value.shape}"
        if isinstance(value, dict):
            value = "/".join(value)
        if value is not None:
            parts.append(f"{name}={value}")
    return ", ".join(parts)


def written():
    """The file's text, of the runs of this revstep."""
    engine = engines(host_engine)
    found = {
        group: {name: outcome(case, engine) for name, case in cases.items()}
        for group, cases in all_cases().items()
    }
    apart = {g: found.pop(g) for g in CHANGED}
    parts = {"896003f": {"runs": found}, "618b508": {"reasons": CHANGED, "runs": apart}}
    text = json.dumps(parts, indent=1)
    for broken, joined in ((",\n     ", ", "), ("{\n     ", "{"), ("\n    }", "}")):
        text = text.replace(broken, joined)  # one line per run
    return text + "\n"


def main():
    """Compares, or with --write writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name} anew")
    logging.disable(logging.WARNING)
    options = parser.parse_args()
    if options.write:
        FILE.write_text(written(), encoding="utf-8")
        return 0
    lines = [line for group, runs in recorded().items() for line in differences(group, runs)]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
