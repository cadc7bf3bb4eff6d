"""One network call in every form, for every network and batch, and what compile chose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from revstep.bench.compare import ratio_interval
from revstep.engine.bundle.entry import CPU, CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.system.machine import package_version
from suites.cpu.context import Measurement, figures, times_as_fast
from suites.cpu.networks import NETWORKS
from suites.cpu.turns import Contender, Failed, Found

BATCHES = (1, 16)
EXPORTED = "ONNX Runtime"  # the form that today's build runs
TITLES = {"onnxruntime": EXPORTED, "openvino": "OpenVINO"}
FORMS = {
    (runtime, precision, rewritten): f"{title}{', rewritten' if rewritten else ''}"
    for runtime, precision, title in (
        ("onnxruntime", "fp32", "ONNX Runtime"),
        ("openvino", "fp32", "OpenVINO"),
        ("openvino", "bf16", "OpenVINO bf16"),
    )
    for rewritten in (False, True)
}
"""Columns and bars: runtime, precision, and whether any rewrite was applied."""
PACE = {"starts": 1, "minimum": 7, "maximum": 30, "seconds": 6.0}


def measure(run: Measurement) -> None:
    """A row a network and batch."""
    for network in NETWORKS:
        for batch in BATCHES:
            run.case("grid", f"{network}, batch {batch}", partial(_measured, run, network, batch))


def _measured(run: Measurement, network: str, batch: int) -> dict[str, Any]:
    bundle = Bundle.open(run.bundle(network))
    try:
        winners, reason = winners_of(Bundle.open(run.compiled(network)), batch), None
    except Failed as error:
        winners, reason = {}, str(error)
    forms = list(_forms(run, bundle, winners))
    options = {"bundle": str(bundle.path), "rows": batch}
    contenders = [
        Contender(form_name(*form), "form", {**options, **_asked(*form)}, process=form_name(*form))
        for form in forms
    ]
    found = run.turns(contenders, **PACE)
    others = {name: name for name in found.times}
    return {
        **figures(found),
        "network": network,
        "batch": batch,
        "ratios": {name: times_as_fast(found, name, {EXPORTED: EXPORTED}) for name in others},
        "forms": {form_name(*form): _asked(*form) for form in forms},
        "choice": {name: _judged(found, forms, winner) for name, winner in winners.items()},
        "no_choice": reason,
    }


Form = tuple[str, str, tuple[str, ...]]
"""Runtime, precision, rewrites."""


def _asked(runtime: str, precision: str, rewrites: Sequence[str]) -> dict[str, Any]:
    return {"runtime": runtime, "precision": precision, "rewrites": list(rewrites)}


def form_name(runtime: str, precision: str, rewrites: Sequence[str]) -> str:
    """As the rows have it."""
    title = TITLES[runtime] + ("" if precision == "fp32" else f" {precision}")
    return f"{title}, {' + '.join(rewrites)}" if rewrites else title


def _forms(run: Measurement, bundle: Bundle, winners: dict[str, CompiledEntry]) -> Iterator[Form]:
    """Every runtime and precision, as exported and with all its rewrites; then the choice."""
    from revstep.export.rewrite.apply import applicable

    graph, seen = bundle.graph("fp32"), set()
    runtimes = [("onnxruntime", "fp32")]
    if package_version("openvino"):
        runtimes += [("openvino", precision) for precision in run.precisions]
    forms = [
        (*kind, rewrites) for kind in runtimes for rewrites in ((), applicable(graph, kind[0]))
    ]
    for form in [*forms, *(_form_of(winner) for winner in winners.values())]:
        if form not in seen:
            seen.add(form)
            yield form


def _form_of(entry: CompiledEntry) -> Form:
    assert entry.choice is not None
    return (entry.runtime, entry.precision, entry.choice.rewrites)


def winners_of(bundle: Bundle, rows: int) -> dict[str, CompiledEntry]:
    """What compile chose for this many rows: ``fp32``, and ``auto`` among all precisions."""
    entries = [e for e in bundle.compiled if e.target == CPU and e.batch == (rows, rows)]
    found = {e.precision: e for e in entries if e.precision == "fp32"}
    if entries:
        found["auto"] = min(entries, key=lambda e: e.choice.seconds if e.choice else 0.0)
    return found


def _judged(found: Found, forms: Sequence[Form], winner: CompiledEntry) -> dict[str, Any]:
    """The choice beside the fastest form that it could have been: how many times as long it took.

    1 where it is the fastest.
    """
    chosen = form_name(*_form_of(winner))
    allowed = [
        name
        for form in forms
        if (name := form_name(*form)) in found.times
        and (winner.precision != "fp32" or form[1] == "fp32")
    ]
    judged: dict[str, Any] = {"form": chosen}
    if chosen in found.times:
        over = {n: ratio_interval(found.times[n], found.times[chosen]) for n in allowed}
        best = max(allowed, key=lambda name: over[name]["ratio"])
        judged |= {"best": best, "over_best": over[best]}
    assert winner.choice is not None
    return {**judged, "seconds": winner.choice.seconds, "candidates": len(winner.choice.candidates)}


def form_seconds(row: Mapping[str, Any]) -> dict[str, float]:
    """A grid row's median seconds by the titles of ``FORMS``; of several rewritten the fastest."""
    found: dict[str, float] = {}
    for name, seconds in row["seconds"].items():
        title = title_of(row["forms"][name])
        found[title] = min(seconds["p50"], found.get(title, seconds["p50"]))
    return found


def title_of(form: Mapping[str, Any]) -> str:
    """The title of a form, in ``FORMS``."""
    return FORMS[form["runtime"], form["precision"], bool(form["rewrites"])]
