"""``suggest_specs``: the specs that fit a network best, of those that people train with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from revstep.engine.backends.protocol import Denoiser
from revstep.engine.checks import check_sequence, check_type, wrong_type
from revstep.engine.errors import ArgumentError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.schedule import Schedule
from revstep.export.fit.score import SpecScore, far_from
from revstep.export.fit.trial import FEWEST, LEVELS, trial_of
from revstep.export.fit.ways import usual_schedules, ways

if TYPE_CHECKING:
    import torch

SEVERAL = "a list of schedules, as [VPSchedule(), FlowSchedule()]"
ALIKE = 0.01  # scores that differ by less say nothing of each other
SCREEN_LEVELS = range(1, len(LEVELS), 3)
SCREEN_NUMBERS = 1024  # numbers of the data at each level, of 4 samples at least
KEPT = 10  # ways that are tried on all


def suggest_specs(
    network: torch.nn.Module | Denoiser | str | Path,
    spec: DenoiserSpec,
    data: ArrayLike,
    *,
    conditions: Mapping[str, ArrayLike] | None = None,
    schedules: Sequence[Schedule] | None = None,
    output: str | int | None = None,
    seed: int = 0,
) -> list[SpecScore]:
    """Tries predictions, schedules and kinds of time on true samples; the best fit comes first.

    All that are usual are tried on few samples, the ten best ways of asking the network and the
    given spec's on all of them. Scores that differ by less than a hundredth say nothing of each
    other: the given spec comes first among them, then what is more usual.

    Args:
        network: The module, as ``export_module`` takes it; any ``Denoiser``; or a bundle's path,
            such as that of an ONNX file that was exported with a guess.
        spec: A first guess. Shape, names, conditions, steps and sigma_data are taken from it, and
            its own schedule is tried too.
        data: True samples (n, *shape), scaled as in training; 16 or more.
        conditions: Their conditions, name -> (n, *shape) or one for all; null values by default.
        schedules: Tried in place of the usual ones.
        output: As in ``export_module``.
        seed: Of the noise.

    Returns:
        What was tried on all samples. Where ``reverse_span`` is set, the module is to be wrapped
        in a ``reversed_flow``.

    Raises:
        TypeError: No network, or values of a wrong type.
        ValueError: Data or conditions of a wrong shape, name or range; a second time.
        BundleError: A bundle that can't be read.
        ExportError: The module can't be called at all.
    """
    check_type(spec, "spec", DenoiserSpec, "a DenoiserSpec")
    if spec.second_time is not None:
        raise ArgumentError(
            "spec has a second time, and what is tried are networks of one; ask score_spec of the "
            "specs that you have in mind",
            "spec",
        )
    given = check_sequence(schedules or (), "schedules", SEVERAL)
    for schedule in given:
        if not isinstance(schedule, Schedule):
            raise wrong_type(schedule, "each of schedules", "a schedule, as VPSchedule()")
    trial = trial_of(network, spec, data, conditions, output, seed)
    few = trial.first(max(4, SCREEN_NUMBERS // spec.elements))
    tried = dict.fromkeys([spec.schedule, *(given or usual_schedules(spec))])
    screened = []
    for way in (way for schedule in tried for way in ways(spec, schedule)):
        best = min((s.score for s in way.scores(few, SCREEN_LEVELS)), default=math.inf)
        screened.append((spec not in way.specs, best, way))
    if all(best == math.inf for _, best, _ in screened):
        raise far_from(trial.spread, spec.schedule)
    limit = sorted(best for _, best, _ in screened)[:KEPT][-1]
    kept = [way for other, best, way in screened if not other or best <= limit < math.inf]
    shared = set.intersection(*(set(trial.levels(way.specs[0])) for way in kept))
    levels = shared if len(shared) >= FEWEST else range(len(LEVELS))
    scores = [score for way in kept for score in way.scores(trial, levels)]
    alike = (1.0 + ALIKE) * min(s.score for s in scores)
    return sorted(scores, key=lambda s: (max(s.score, alike), s.spec != spec))
