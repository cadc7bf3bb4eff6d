"""The networks beside the denoiser: what runs each the fastest, checked to the end of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.layout import part_keys
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import CompileError, ParityError
from revstep.export.targets.cpu.candidate import BAD, DEFAULT, WRONG, Refused, Trial
from revstep.export.targets.cpu.choose import relative, status_of
from revstep.export.targets.cpu.entries import choice_entry
from revstep.export.targets.cpu.plan import part_plan, passed_over
from revstep.export.targets.cpu.process import never
from revstep.export.targets.cpu.protocol import Plan, Report
from revstep.export.targets.cpu.search import Search
from revstep.export.targets.cpu.track import PartTrack, ProcessTrack
from revstep.export.targets.target import CompileArguments

ROWS = 1  # of what is timed
ENCODER = "encoder."


class _Part:
    """A network beside the denoiser, and what was found of it.

    Attributes:
        plain: What runs it in fp32.
        best: What runs it where bf16 may be taken.
        whole: The figures of a run with what it gives.
    """

    def __init__(self, key: str, search: Search, track: PartTrack) -> None:
        self.key, self.track = key, track
        self.trials = list(search.trials.values())
        best = search.winner(ROWS, "fp32", "bf16")
        if best is None:
            raise _failure(self.trials)
        self.best: Trial = best
        self.plain: Trial = search.winner(ROWS, "fp32") or best
        self.whole: dict[str, Any] = {}

    @property
    def default(self) -> Trial | None:
        """ONNX Runtime, if it has passed the checks."""
        ours = (t for t in self.trials if t.candidate.runtime == DEFAULT and t.proven)
        return next(ours, None)


class Beside:
    """The networks beside a bundle's denoiser, each searched for by itself.

    Args:
        bundle: The bundle.
        arguments: Of the compile.
        folder: For files.
        seconds: Of timing all of them.

    Attributes:
        keys: What they are called.
    """

    def __init__(
        self, bundle: Bundle, arguments: CompileArguments, folder: Path, seconds: float
    ) -> None:
        self.keys = part_keys(bundle.spec)
        self._bundle, self._folder = bundle, folder
        self._cancelled = arguments.cancelled or never
        self._plan = part_plan(arguments, seconds / max(1, len(self.keys)))
        self._others = passed_over(arguments, self._plan)
        self._parts: dict[str, _Part] = {}

    def search(self, report: Report) -> None:
        """Finds the fastest of each; raises ``CompileError`` where nothing runs one as it should.

        Raises:
            ParityError: All that was tried differs from PyTorch's.
            CompileError: It fails.
        """
        for number, key in enumerate(self.keys):

            def told(text: str, share: float, key: str = key, number: int = number) -> None:
                report(f"{key}: {text}", (number + share) / len(self.keys))

            cache = self._folder / "cache"
            track = PartTrack(self._bundle.path, key, self._folder, self._cancelled, cache)
            search = Search(self._plan, track, told)
            try:
                search.run()
            finally:
                track.close_all()
            self._parts[key] = _Part(key, search, track)

    def check_whole_way(
        self, track: ProcessTrack, search: Search, plan: Plan, precisions: Sequence[str]
    ) -> None:
        """Checks runs of what won with conditions as the encoders that won give them.

        Where that is not enough, encoders stay in fp32, or in ONNX Runtime.

        Raises:
            ParityError: Neither is.
        """
        encoders = [part for part in self._parts.values() if part.key.startswith(ENCODER)]
        for trial in _denoisers(search, plan, precisions) if encoders else ():
            track.open(trial.candidate)
            try:
                self._check_plain(track, trial, encoders)
                self._check_best(track, trial, encoders)
            except Refused as refused:
                raise _error(refused.status, f"with its encoders, {refused.reason}") from refused
            finally:
                track.close(trial.candidate)

    def entries(self) -> list[CompiledEntry]:
        """What won of each: in fp32, and in bf16 where that is faster."""
        found = []
        for part in self._parts.values():
            winners = [part.plain] if part.best is part.plain else [part.plain, part.best]
            for trial in winners:
                trial.parity = {**trial.parity, **part.whole}
                listed = tuple(
                    t.to_dict(ROWS, status_of(t, trial, ROWS), relative(t, trial, ROWS))
                    for t in (*part.trials, *self._others)
                )
                most = part.track.rows[trial.candidate]
                found.append(
                    choice_entry(self._bundle, trial, ROWS, None, listed, part=part.key, most=most)
                )
        return found

    def default_figures(self) -> dict[str, Any] | None:
        """ONNX Runtime's figures by key; None where it doesn't run all of them."""
        trials = {key: part.default for key, part in self._parts.items()}
        if any(trial is None for trial in trials.values()):
            return None
        return {key: trial.parity["forward"] for key, trial in trials.items() if trial is not None}

    def _check_plain(self, track: ProcessTrack, trial: Trial, encoders: Sequence[_Part]) -> None:
        try:
            self._prove(track, trial, encoders, {part.key: part.plain for part in encoders})
        except Refused as refused:
            defaults = {part.key: part.default for part in encoders}
            if refused.status != WRONG or all(p.plain is defaults[p.key] for p in encoders):
                raise
            for part in encoders:
                if (default := defaults[part.key]) is not None:
                    part.plain = part.best = default
            self._prove(track, trial, encoders, {part.key: part.plain for part in encoders})

    def _check_best(self, track: ProcessTrack, trial: Trial, encoders: Sequence[_Part]) -> None:
        if all(part.best is part.plain for part in encoders):
            return
        try:
            self._prove(track, trial, encoders, {part.key: part.best for part in encoders})
        except Refused as refused:
            if refused.status != WRONG:
                raise
            for part in encoders:
                part.best = part.plain

    def _prove(
        self,
        track: ProcessTrack,
        trial: Trial,
        encoders: Sequence[_Part],
        chosen: Mapping[str, Trial],
    ) -> None:
        files = {
            p.key.removeprefix(ENCODER): p.track.given(chosen[p.key].candidate) for p in encoders
        }
        half = any(one.candidate.precision != "fp32" for one in chosen.values())
        figures = track.prove_encoded(trial.candidate, files, half)
        for part in encoders:
            if figures["ddim20"]["error"] >= part.whole.get("ddim20", {"error": 0.0})["error"]:
                part.whole = figures


def _denoisers(search: Search, plan: Plan, precisions: Sequence[str]) -> Iterator[Trial]:
    """What won for some number of rows, each once."""
    found = {}
    for rows in plan.rows:
        for trial in (search.winner(rows, precisions[0]), search.winner(rows, *precisions)):
            if trial is not None:
                found[trial.candidate] = trial
    yield from found.values()


def _failure(trials: Sequence[Trial]) -> CompileError:
    """Why nothing runs a network."""
    bad = [t for t in trials if t.status in BAD]
    wrong = [t for t in bad if t.status == WRONG] or bad
    return _error(str(wrong[0].status), wrong[0].reason)


def _error(status: str, reason: str) -> CompileError:
    kind = ParityError if status == WRONG else CompileError
    return kind(f"a network beside the denoiser: {reason}; the bundle is unchanged")
