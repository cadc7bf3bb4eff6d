"""What a run costs beside its network: against bare calls, a run's fixed cost, a step's."""

from __future__ import annotations

from functools import partial
from typing import Any

from suites.cpu.context import BASELINE, BOUNDS, EAGER, Measurement, figures, times_as_fast
from suites.cpu.turns import OURS, Contender, Tree

PACE = {"starts": 4, "minimum": 12, "maximum": 12}
STEPS = 50


def measure(run: Measurement) -> None:
    """A row of the MLP's runs, and one of a network that does nothing."""
    run.case("loop", f"mlp, batch 1, DDIM-{STEPS}", partial(_against_bare_calls, run))
    run.case("loop", "a network that does nothing", partial(_of_nothing, run))


def _sides(run: Measurement) -> list[tuple[str, Tree]]:
    """What a contender's name begins with, and its build."""
    return [("", OURS), *([] if run.baseline is None else [(f"{BASELINE}, ", run.baseline)])]


def _against_bare_calls(run: Measurement) -> dict[str, Any]:
    plain, chosen = str(run.bundle("mlp")), str(run.compiled("mlp"))
    size = {"batch": 1, "steps": STEPS}
    contenders = []
    for side, tree in _sides(run):
        asked = {"bundle": plain if side else chosen, **size}
        contenders += [
            Contender(f"{side}sample", "sample", asked, tree, bound=BOUNDS["fp32"]),
            Contender(f"{side}bare calls", "bare", {"bundle": plain, **size}, tree),
        ]
        if not side:
            prepared = {**asked, "prepared": True}
            contenders.append(Contender("prepared", "sample", prepared, bound=BOUNDS["fp32"]))
    peer = {"network": "mlp", "tiny": run.quick, **size}
    contenders.append(
        Contender(EAGER, "peer", peer, process=EAGER, lasting=True, bound=BOUNDS["fp32"])
    )
    found = run.turns(contenders, **PACE)
    over_bare = {  # times as long as the bare calls of its own process
        name: times_as_fast(found, f"{side}bare calls", {"ratio": name}).get("ratio")
        for side, _ in _sides(run)
        for name in (f"{side}sample", *(() if side else ("prepared",)))
    }
    others = {name: name for name in (f"{BASELINE}, sample", EAGER)}
    ratios = {name: times_as_fast(found, name, others) for name in ("sample", "prepared")}
    return {**figures(found), **size, "network": "mlp", "over_bare": over_bare, "ratios": ratios}


def _of_nothing(run: Measurement) -> dict[str, Any]:
    contenders = []
    for side, tree in _sides(run):
        for what, fixed in (("fixed", True), ("a step", False)):
            contenders.append(Contender(f"{side}{what}", "loop", {"fixed": fixed}, tree))
            if not side:
                asked = {"fixed": fixed, "prepared": True}
                contenders.append(Contender(f"prepared, {what}", "loop", asked))
    found = run.turns(contenders, **PACE)
    ratios = {
        what: times_as_fast(found, what, {BASELINE: f"{BASELINE}, {what}"})
        for what in ("fixed", "a step")
    }
    return {**figures(found), "ratios": ratios}
