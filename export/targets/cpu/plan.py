"""What is tried on this machine for this bundle: runtimes, precisions, forms, threads, rows."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence

from revstep.engine.checks import check_number, check_whole
from revstep.engine.errors import ArgumentError, BackendError, CompileError
from revstep.engine.message import Argument, Message
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.system.cores import usable_threads
from revstep.engine.system.machine import has_bf16, memory_bytes
from revstep.export.targets.cpu.candidate import DEFAULT, MISSING, NOT_TRIED, Candidate, Trial
from revstep.export.targets.cpu.graphs import Graphs
from revstep.export.targets.cpu.protocol import Plan
from revstep.export.targets.options import Profile
from revstep.export.targets.target import CompileArguments

RUNTIMES = {DEFAULT: "cpu", "openvino": "openvino"}  # and the extra that brings each
HALF = "openvino"  # the runtime that has bf16 products
ROWS = (1, 16)
SECONDS = 30.0
FEWEST, MOST = 2, 8  # candidates that are open at once
FOOTPRINT = 200 << 20  # bytes of a process beside its weights


def make_plan(arguments: CompileArguments, spec: DenoiserSpec, graphs: Graphs) -> Plan:
    """The plan of a search; ``check_plan`` has passed."""
    threads = arguments.threads
    return Plan(
        families=tuple(_families(installed(), precisions_of(arguments.precision), graphs.all)),
        threads=_thread_counts() if threads is None else (threads,),
        rows=rows_of(spec, arguments.batch),
        seconds=SECONDS if arguments.seconds is None else arguments.seconds,
        alive=_alive(graphs.bytes),
    )


def part_plan(arguments: CompileArguments, seconds: float) -> Plan:
    """The plan of a network beside the denoiser: one row, as it was exported, all threads."""
    threads = arguments.threads or usable_threads()
    return Plan(
        families=tuple(_families(installed(), ("fp32", *precisions_of(arguments.precision)), {})),
        threads=(threads,), rows=(1,), seconds=seconds, alive=FEWEST,
    )  # fmt: skip


def check_plan(arguments: CompileArguments, spec: DenoiserSpec) -> None:
    """Refuses what this machine or bundle can't do, before any work.

    Raises:
        ValueError: Rows outside the spec's, or threads or seconds out of range.
        CompileError: bf16 on a processor that has none.
        BackendError: No runtime is installed, or not the one that is needed; it names the extras.
    """
    if arguments.threads is not None:
        more = ", what this process may use: load would pass over a choice of more"
        check_whole(arguments.threads, "threads", 1, usable_threads(), more=more)
    if arguments.seconds is not None:
        check_number(arguments.seconds, "seconds", 0.0, above=True, finite=True)
    rows_of(spec, arguments.batch)
    _check_installed(installed(), precisions_of(arguments.precision))


def installed() -> list[str]:
    """The runtimes that are there."""
    return [name for name in RUNTIMES if importlib.util.find_spec(name) is not None]


def rows_of(spec: DenoiserSpec, asked: int | Profile | Sequence[int] | None) -> tuple[int, ...]:
    """The numbers of rows to measure.

    Raises:
        ValueError: Outside the spec's, or a range.
    """
    low, high = spec.batch
    if asked is None:
        return tuple(dict.fromkeys(min(max(rows, low), high) for rows in ROWS))
    if isinstance(asked, Profile):
        if not asked.static:
            text = Message(
                Argument("batch"), " names the rows to measure, as 1,16; a range is for TensorRT"
            )
            raise ArgumentError(text, "batch")
        asked = asked.max
    listed = (asked,) if isinstance(asked, int) else tuple(asked)
    for rows in listed:
        Profile.of(rows).check(spec)
    return tuple(sorted(set(listed)))


def precisions_of(asked: str) -> tuple[str, ...]:
    """Those whose winners are kept.

    Raises:
        CompileError: bf16 was asked for, and the processor has none.
    """
    if asked == "bf16" and not has_bf16():
        raise CompileError(
            "this processor multiplies no bf16, or the system doesn't say so, and without that it "
            "is slower than fp32; use ",
            *(Argument("precision", "fp32"), ", or ", Argument("precision", "auto")),
            ", which measures bf16 where there is any",
        )
    if asked != "auto":
        return (asked,)
    return ("fp32", "bf16") if has_bf16() else ("fp32",)


def _check_installed(installed: Sequence[str], precisions: Sequence[str]) -> None:
    """Refuses a machine without any runtime, or without the one that was asked for.

    Raises:
        BackendError: It names the extras.
    """
    if not installed:
        extras = " or ".join(f"'revstep[{extra}]'" for extra in RUNTIMES.values())
        raise BackendError(f"no runtime for CPUs is installed; pip install {extras}")
    if precisions == ("bf16",) and HALF not in installed:
        raise BackendError(
            "bf16 on a CPU needs OpenVINO, which is not installed; "
            f"pip install 'revstep[{RUNTIMES[HALF]}]'"
        )


def _families(
    installed: Sequence[str],
    precisions: Sequence[str],
    rewrites: Mapping[str, tuple[str, ...]],
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The default first, whatever the precision: the others are compared with it."""
    first = (installed[0], "fp32", ())
    yield first
    for precision in dict.fromkeys(precisions):
        able = [r for r in installed if precision == "fp32" or r == HALF]
        plain = [(runtime, precision, ()) for runtime in able]
        changed = [
            (runtime, precision, rewrites[runtime]) for runtime in able if rewrites.get(runtime)
        ]
        yield from (family for family in (*plain, *changed) if family != first)


def _thread_counts() -> tuple[int, ...]:
    """All, and the powers of two below, falling."""
    most = usable_threads()
    powers = [2**n for n in range(most.bit_length()) if 2**n < most]
    return (most, *reversed(powers))


def _alive(weights: int) -> int:
    """Candidates that may be open at once: a quarter of the memory, three copies of the weights."""
    memory = memory_bytes()
    if memory is None:
        return FEWEST
    return max(FEWEST, min(MOST, memory // 4 // (FOOTPRINT + 3 * weights)))


def passed_over(arguments: CompileArguments, plan: Plan, reason: str = "") -> list[Trial]:
    """What would have been tried if this machine, or this graph, had been another.

    ``reason`` is why the graph is not rewritten; empty: it is, or needs no word.
    """
    threads = plan.threads[0]
    found = [
        Trial(
            Candidate(runtime=name, threads=threads),
            MISSING,
            f"not installed: pip install 'revstep[{extra}]'",
        )
        for name, extra in RUNTIMES.items()
        if name not in installed()
    ]
    if reason:
        rewritten = Candidate(rewrites=("any",), threads=threads)
        found.append(Trial(rewritten, NOT_TRIED, reason))
    if arguments.precision == "auto" and not has_bf16():
        half = Candidate(runtime=HALF, precision="bf16", threads=threads)
        found.append(Trial(half, NOT_TRIED, "this processor multiplies no bf16"))
    return found
