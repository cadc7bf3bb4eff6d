"""``compat="diffusers"``: the steps of a run as that library's schedulers (0.42) have them.

Each sampler has a ``Stepping``, that of the scheduler of its name; the spec's grid gives the
options of the config: its timestep spacing, kind of sigmas and ends.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from revstep.engine.log import log
from revstep.engine.program.points import Point, point
from revstep.engine.program.steps import Steps, call_points, check_falling, end_time, step_count
from revstep.engine.spec import grids
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import Grid, IndexGrid, LeadingGrid, LinspaceGrid, resolve_grid
from revstep.engine.spec.grids.base import Float64
from revstep.engine.spec.prediction import PRECONDITIONED
from revstep.engine.spec.schedule.vp import NearlyZeroSNR, VPSchedule

FIRST_FLOW_SIGMA = 1.0 - 1e-6  # UniPC's for 1, where alpha is 0


@dataclasses.dataclass(frozen=True)
class Stepping:
    """What a scheduler makes of a grid, and of the other defaults of a spec.

    Attributes:
        arrive: ``next``: a step arrives at the grid's next call; ``stride``: at index t - T // N.
        drop_last: Whether leading and linspace grids are those of N + 1 calls without the last.
        whole: Whether times are cut to whole ones; else the network is fed fractions, and noise
            levels between indices are linear in sigma / alpha.
        karras: Times of Karras' grid are rounded all the same; ``linear``: but for squared-cosine
            betas.
        first: Whether a run ends at training index 0, whatever the spec's ``final``.
        own_end: Whether ``final="first"`` over a noise grid, or a flow's, is its own last level.
        scaled: Whether the state is x / alpha: the start is its largest level, and 1 over leading
            grids; else it is 1.
        float32_steps: Whether steps are float32 differences of levels, which counts at 2^12.
        zero_snr: Whether alpha is 0 where the schedule has zero terminal SNR; else abar is 2^-24.
        clips: Whether the scheduler knows ``clip_sample``.
    """

    arrive: Literal["next", "stride"] = "next"
    drop_last: bool = False
    whole: bool = True
    karras: Literal["round", "linear", "exact"] = "round"
    first: bool = False
    own_end: bool = False
    scaled: bool = False
    float32_steps: bool = False
    zero_snr: bool = False
    clips: bool = False

    def spec(self, spec: DenoiserSpec) -> DenoiserSpec:
        """The spec with the scheduler's own ends: of zero terminal SNR, and of the run."""
        if self.first:
            spec = dataclasses.replace(spec, final="first")
        schedule = spec.schedule
        if self.zero_snr or not isinstance(schedule, VPSchedule) or not schedule.zero_terminal_snr:
            return spec
        fields = {f.name: getattr(schedule, f.name) for f in dataclasses.fields(schedule)}
        return dataclasses.replace(spec, schedule=NearlyZeroSNR(**fields))

    def start(self, spec: DenoiserSpec, grid: str | Grid | None, first: Point) -> float:
        """Deviation of the initial noise, in the state's coordinates."""
        if spec.schedule.kind == "ve":
            edm = spec.prediction in PRECONDITIONED
            return math.hypot(first.sigma, 1.0) if edm else first.sigma
        leading = isinstance(_index_grid(spec, grid), LeadingGrid)
        return first.sigma if self.scaled and spec.schedule.kind == "vp" and not leading else 1.0

    def steps_over(self, spec: DenoiserSpec, steps: int | None, grid: str | Grid | None) -> Steps:
        """The steps as the scheduler takes them.

        Raises:
            TypeError: ``steps`` is no whole number, or ``grid`` no grid.
            ValueError: Steps out of range, an unknown grid, or one that leaves the schedule.
        """
        grid = spec.grid_of(grid)
        steps = step_count(spec, steps, grid)
        if self.drop_last:
            grid = grid.without_last()
        points = self._points(spec, grid, steps)
        last = point(spec, end_time(spec, grid))
        own = isinstance(grid, grids.NoiseGrid | grids.ShiftedGrid)
        if self.own_end and own and spec.final != "clean":
            last = points[-1]
        check_falling(points, last, grid)
        if self.scaled and spec.schedule.kind == "vp" and grid.end(spec.schedule) is None:
            # what comes out is x / alpha
            last = dataclasses.replace(last, alpha=1.0, sigma=last.level)
        arrive = [*points[1:], last]
        if self.arrive == "stride" and isinstance(grid, IndexGrid):
            stride = spec.schedule.steps // steps
            ends = (p.index - stride for p in points)
            arrive = [_at_index(spec, i) if i >= 0 else last for i in ends]
        if self.float32_steps and isinstance(spec.schedule, NearlyZeroSNR):
            arrive = [_float32_step(*pair) for pair in zip(points, arrive, strict=True)]
        return tuple(zip(points, arrive, strict=True))

    def _points(self, spec: DenoiserSpec, grid: Grid, steps: int) -> list[Point]:
        if spec.schedule.kind == "flow" and self.drop_last and isinstance(grid, grids.ShiftedGrid):
            return _flow_points(spec, grid, steps)
        if isinstance(spec.schedule, VPSchedule):
            if isinstance(grid, grids.NoiseGrid) and self._knows(grid):
                return self._noise_points(spec, spec.schedule, grid, steps)
            if isinstance(grid, IndexGrid) and not getattr(grid, "last", None):
                return self._index_points(spec, grid, steps)
        return call_points(spec, grid, steps)

    def _knows(self, grid: grids.NoiseGrid) -> bool:
        """Whether the scheduler has such a grid: DDIM, DDPM and PNDM have none."""
        over_levels = not isinstance(grid, grids.BetaGrid) or grid.over == "sigma"
        return over_levels and (self.drop_last or self.scaled)

    def _index_points(self, spec: DenoiserSpec, grid: IndexGrid, steps: int) -> list[Point]:
        if isinstance(grid, LinspaceGrid | LeadingGrid) and steps == 1 and not grid.drop_last:
            indices = _one_step(spec, grid)
        elif self.whole or (isinstance(grid, LinspaceGrid) and grid.drop_last):
            return call_points(spec, grid, steps)
        else:
            indices = grid.indices(spec.schedule, spec.time, steps)
        return [_at_index(spec, float(i)) for i in indices]

    def _noise_points(
        self, spec: DenoiserSpec, schedule: VPSchedule, grid: grids.NoiseGrid, steps: int
    ) -> list[Point]:
        grid = (
            dataclasses.replace(grid, ends=None) if self.whole else self._ended(spec, grid, steps)
        )
        points = call_points(spec, grid, steps)
        squared = schedule.betas == "squaredcos_cap_v2" and self.karras == "linear"
        if (
            isinstance(grid, grids.KarrasGrid | grids.LuGrid)
            and self.karras != "exact"
            and not squared
        ):
            return [_fed(spec, p, float(np.round(p.index))) for p in points]
        if self.whole:
            from revstep.engine.spec.schedule.float32_levels import float32_levels

            cut = _cut_times(float32_levels(schedule), grid, steps)
            return [_fed(spec, p, float(i)) for p, i in zip(points, cut, strict=True)]
        return points

    def _ended(self, spec: DenoiserSpec, grid: grids.NoiseGrid, steps: int) -> grids.NoiseGrid:
        """The grid between the levels of the first and last call of its index grid."""
        ends = self._index_points(spec, grid.ends or LinspaceGrid(), steps)
        low = ends[-1].level if grid.sigma_min is None else grid.sigma_min
        high = ends[0].level if grid.sigma_max is None else grid.sigma_max
        low = low if steps > 1 else 0.5 * high  # one step: the first level alone
        return dataclasses.replace(grid, ends=None, sigma_min=low, sigma_max=high)


DDIM = Stepping(arrive="stride", zero_snr=True, clips=True)
PNDM = Stepping(arrive="stride", zero_snr=True)
DDPM = Stepping(zero_snr=True, clips=True)
LMS = Stepping(whole=False, karras="exact", scaled=True)
EULER = dataclasses.replace(LMS, float32_steps=True)
HEUN = dataclasses.replace(LMS, clips=True)
KDPM2 = dataclasses.replace(LMS, karras="round")
MULTISTEP = Stepping(drop_last=True, karras="linear")
SINGLESTEP = Stepping(drop_last=True)
UNIPC = Stepping(drop_last=True, own_end=True)
DEIS = dataclasses.replace(UNIPC, first=True)
TCD = Stepping(zero_snr=True, first=True)
COGVIDEOX_DPM = Stepping(arrive="stride", zero_snr=True)


def _index_grid(spec: DenoiserSpec, grid: str | Grid | None) -> Grid:
    """The grid of training indices under a grid; the spec's own under a given one."""
    for chosen in map(resolve_grid, (spec.grid if grid is None else grid, spec.grid)):
        found = (chosen.ends or LinspaceGrid()) if isinstance(chosen, grids.NoiseGrid) else chosen
        if isinstance(found, IndexGrid):
            return found
    return LinspaceGrid()


def _one_step(spec: DenoiserSpec, grid: LinspaceGrid | LeadingGrid) -> Float64:
    """The last index of the grid, where diffusers has the one call: not the first."""
    index = (
        grid.indices(spec.schedule, spec.time, 1)[0]
        if isinstance(grid, LeadingGrid)
        else grid.last or 0.0
    )
    log.warning(
        "one step over grid %r calls the network at training index %g, as in diffusers: on next "
        "to no noise, so that samples are noise. Use grid='trailing'",
        grid.kind,
        index,
    )
    return np.array([index])


def _at_index(spec: DenoiserSpec, index: float) -> Point:
    """The point at a fraction of an index, between two of them linear in sigma / alpha."""
    schedule = spec.schedule
    low = math.floor(index)
    if index == low:
        return point(spec, float(schedule.from_index(index)))
    before, after = schedule.level(schedule.from_index([low, low + 1]))
    level = before + (index - low) * (after - before)
    return _fed(spec, point(spec, float(schedule.from_level(level))), index)


def _float32_step(now: Point, then: Point) -> Point:
    """Where a step arrives whose length in sigma / alpha is a float32 difference."""
    level = now.level + float(np.float32(then.level) - np.float32(now.level))
    alpha = then.alpha if level == 0.0 or then.alpha == 1.0 else 1.0 / math.hypot(1.0, level)
    return dataclasses.replace(then, alpha=alpha, sigma=level * alpha)


def _fed(spec: DenoiserSpec, at: Point, index: float) -> Point:
    """The point, with the network fed a training index that is not quite its own."""
    if spec.time.kind in ("sigma", "log_sigma"):
        return at
    fed = point(spec, float(spec.schedule.from_index(index)))
    return dataclasses.replace(at, time=fed.time, second=fed.second)


def _cut_times(table: NDArray[np.float32], grid: grids.NoiseGrid, steps: int) -> Float64:
    """The indices of a grid's levels in diffusers' float32 table, cut to whole ones."""
    low = float(table[0]) if grid.sigma_min is None else grid.sigma_min
    high = float(table[-1]) if grid.sigma_max is None else grid.sigma_max
    logs, levels = np.log(table), np.log(grid.levels(high, low, steps))
    below = np.searchsorted(logs, levels, side="right") - 1
    below = np.clip(below, 0, len(logs) - 2)
    share = (logs[below] - levels) / (logs[below] - logs[below + 1])
    share = np.clip(share, 0.0, 1.0)
    return np.asarray(np.trunc((1.0 - share) * below + share * (below + 1)), dtype=np.float64)


def _flow_points(spec: DenoiserSpec, grid: grids.ShiftedGrid, steps: int) -> list[Point]:
    """A flow's points, with the network's times cut to whole steps of training."""
    times = np.minimum(grid.natural_times(spec.schedule, spec.time, steps), FIRST_FLOW_SIGMA)
    cut = np.trunc(_flow_sigmas(spec, grid, times) * spec.schedule.steps) / spec.schedule.steps
    points = (point(spec, float(t)) for t in times)
    return [_of_thousand(spec, p, float(c)) for p, c in zip(points, cut, strict=True)]


def _flow_sigmas(spec: DenoiserSpec, grid: grids.ShiftedGrid, times: Float64) -> Float64:
    """The times in diffusers' own order of operations: a cut depends on the last bit."""
    inner = resolve_grid(grid.grid)
    if grid.terminal is not None or not (isinstance(inner, LinspaceGrid) and inner.drop_last):
        return times
    even = np.linspace(1.0, 1.0 / spec.schedule.steps, len(times) + 1)
    even = even[:-1] if inner.first is None else (1.0 - even)[:0:-1]
    shifted = grid.shift * even / (1.0 + (grid.shift - 1.0) * even)
    return np.minimum(shifted, FIRST_FLOW_SIGMA)


def _of_thousand(spec: DenoiserSpec, at: Point, t: float) -> Point:
    if spec.time.kind in ("sigma", "log_sigma"):
        return at
    fed = point(spec, t)
    return dataclasses.replace(at, time=fed.time, second=fed.second)
