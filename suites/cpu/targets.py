"""What was to be reached, and whether the rows say that it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from revstep.bench.compare import meets
from suites.cpu.context import BASELINE, COMPILED, EAGER

Row = Mapping[str, Any]
LIMIT = 1.05  # how many times as long as the best form a choice may take


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure of a row, and its limit.

    Attributes:
        what: In words.
        part: Of the row.
        row: The row's name, or what stands before a comma in it.
        figure: Keys that lead to the figure in the row.
        at_least: More is better.
        at_most: Less is better.
        unit: Of the figure as it is shown; empty: times.
        scale: From the row's unit to that.
    """

    what: str
    part: str
    row: str
    figure: tuple[str, ...]
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    scale: float = 1.0

    @property
    def limit(self) -> str:
        """For people: the sign, the number, the unit."""
        value = self.at_most if self.at_least is None else self.at_least
        return f"{'≤' if self.at_least is None else '≥'} {self.shown(float(value or 0.0))}"

    def shown(self, value: float) -> str:
        """A figure with its unit."""
        return f"{value:.3g} {self.unit}" if self.unit else f"{value:.2f}x"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A target beside what was measured.

    Attributes:
        target: The target.
        value: In the target's unit; None: there is none.
        interval: Its 95 % interval, where the row has one.
        reason: Why there is no value.
    """

    target: Target
    value: float | None
    interval: tuple[float, float] | None = None
    reason: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the figure as it is shown meets the target; None without one."""
        return meets(self.value, at_least=self.target.at_least, at_most=self.target.at_most)


def _fast(case: str, row: str, precision: str, **least: float) -> list[Target]:
    others = {"build": BASELINE, "eager": EAGER, "compiled": COMPILED}
    return [
        Target(
            f"{case}, {precision}: as fast as {'the ' if key == 'build' else ''}{others[key]}",
            "runs", row, ("ratios", precision, others[key], "ratio"), at_least=limit,
        )
        for key, limit in least.items()
    ]  # fmt: skip


TARGETS = (
    *_fast("policy U-Net, batch 16", "policy, batch 16", "fp32", build=3.5, eager=2, compiled=2),
    *_fast("policy U-Net, batch 16", "policy, batch 16", "bf16", build=5),
    *_fast("policy U-Net, batch 1", "policy, batch 1", "fp32", build=1.7),
    *_fast("policy U-Net, batch 1", "policy, batch 1", "bf16", build=2.1),
    *_fast("bundled U-Net, guided, batch 16", "unet, batch 16", "bf16", build=1.6),
    Target(
        "bundled U-Net, 1,000 images: Fréchet distance of bf16 from fp32's", "quality", "unet",
        ("apart",), at_most=0.1, unit="apart",
    ),
    Target(
        "MLP, batch 1, 50 steps: `sample` over bare calls", "loop", "mlp",
        ("over_bare", "sample", "ratio"), at_most=1.15,
    ),
    Target(
        "MLP, batch 1, 50 steps: a prepared run over bare calls", "loop", "mlp",
        ("over_bare", "prepared", "ratio"), at_most=1.08,
    ),
    Target(
        "fixed cost of `sample`", "loop", "a network that does nothing",
        ("seconds", "fixed", "p50"), at_most=40, unit="µs", scale=1e6,
    ),
    Target(
        "fixed cost of a prepared run", "loop", "a network that does nothing",
        ("seconds", "prepared, fixed", "p50"), at_most=40, unit="µs", scale=1e6,
    ),
    Target(
        "cost of a step outside the network", "loop", "a network that does nothing",
        ("seconds", "a step", "p50"), at_most=1.5, unit="µs", scale=1e6,
    ),
    Target(
        "peak memory over the last landed build's, as exported", "memory", "unet",
        ("ratios", "as exported"), at_most=1.01,
    ),
    Target(
        "peak memory over the last landed build's, chosen in fp32", "memory", "unet",
        ("ratios", "chosen, fp32"), at_most=1.01,
    ),
    Target(
        "peak memory over the last landed build's, chosen in bf16", "memory", "unet",
        ("ratios", "chosen, bf16"), at_most=1.01,
    ),
    *(
        Target(
            f"tracing {sampler}, {steps} steps", "tracing", f"{sampler}, {steps} steps",
            ("seconds", "revstep", "p50"), at_most=100, unit="ms", scale=1e3,
        )
        for sampler, steps in (("heun", 1000), ("dpmpp_3m", 1000), ("unipc", 300))
    ),
    Target(
        "import over the last landed build's", "import", "import revstep",
        ("over", "ratio"), at_most=1.05,
    ),
    *(
        Target(
            f"choice for {network}, batch {batch}, {name}: over the best form", "grid",
            f"{network}, batch {batch}", ("choice", name, "over_best", "ratio"), at_most=LIMIT,
        )
        for network in ("mlp", "dit", "policy", "unet")
        for batch in (1, 16)
        for name in ("fp32", "auto")
    ),
)  # fmt: skip


def outcomes(rows: Sequence[Row]) -> Iterator[Outcome]:
    """Every target beside the last row that is about it."""
    for target in TARGETS:
        own = [r for r in rows if r["part"] == target.part and _is_of(target.row, r["name"])]
        if not own:
            yield Outcome(target, None, reason="not measured")
            continue
        yield _outcome(target, own[-1])


def _is_of(row: str, name: str) -> bool:
    """Whether ``name`` is that row's: "batch 1" begins "batch 16" too."""
    return name == row or name.startswith(f"{row},")


def _outcome(target: Target, row: Row) -> Outcome:
    value: Any = row
    around: Any = None
    for key in target.figure:
        around, value = value, value.get(key) if isinstance(value, Mapping) else None
    if value is None:
        failed = row.get("failed", {})
        own = {name: why for name, why in failed.items() if name in target.figure} or failed
        why = "; ".join(f"{name}: {reason}" for name, reason in own.items())
        return Outcome(target, None, reason=row.get("reason") or why or "no figure")
    interval = None
    if isinstance(around, Mapping) and "low" in around:
        interval = (around["low"] * target.scale, around["high"] * target.scale)
    return Outcome(target, value * target.scale, interval)


def summary(rows: Sequence[Row]) -> str:
    """A line a target, for a terminal; those that nothing was measured for are counted."""
    found = [o for o in outcomes(rows) if o.reason != "not measured"]
    lines = [_line(outcome) for outcome in found]
    met = [outcome.met for outcome in found if outcome.met is not None]
    rest = len(TARGETS) - len(found)
    lines.append(f"{sum(met)} of {len(met)} targets met; {len(found) - len(met)} without a figure")
    if rest:
        lines[-1] += f"; {rest} not measured"
    return "\n".join(lines)


def _line(outcome: Outcome) -> str:
    target = outcome.target
    if outcome.value is None:
        return f"{'no figure':8s} {target.what} ({outcome.reason})"
    low_high = ""
    if outcome.interval is not None:
        low_high = f" [{outcome.interval[0]:.2f}, {outcome.interval[1]:.2f}]"
    word = "met" if outcome.met else "NOT met"
    return f"{word:8s} {target.what}: {target.shown(outcome.value)}{low_high} ({target.limit})"
