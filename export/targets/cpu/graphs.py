"""Rewritten forms of a bundle's graph, made in a folder as they are asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from revstep.export.rewrite.rewrite import RUNTIMES
from revstep.export.targets.cpu.candidate import FAILED, Refused

LARGEST = 2_000_000_000  # bytes: protobuf's own limit is just above


class Graphs:
    """The forms of one graph.

    Args:
        graph: The bundle's graph.
        folder: Where the rewritten ones go.

    Attributes:
        all: Runtime -> the names of all its rewrites that change the graph, in their order.
        reason: Why none is tried, though some might; empty otherwise.
        bytes: The size of the bundle's graph, with its weights.
    """

    def __init__(self, graph: Path, folder: Path) -> None:
        self.all: dict[str, tuple[str, ...]] = {}
        self.reason = _reason(graph)
        self.bytes = sum(file.stat().st_size for file in _files(graph))
        self._graph = graph
        self._folder = folder
        self._made: dict[tuple[str, ...], Path | None] = {(): None}
        self._forms: dict[tuple[str, ...], tuple[str, ...]] = {(): ()}
        if not self.reason:
            self._find()

    def file(self, rewrites: Sequence[str]) -> Path | None:
        """The graph with those rewrites; None: the bundle's own.

        Raises:
            Refused: They can't be applied.
        """
        return self._made[self.form(rewrites)]

    def form(self, rewrites: Sequence[str]) -> tuple[str, ...]:
        """Those of the rewrites that change the graph; some need others before them.

        Raises:
            Refused: They can't be applied.
        """
        names = tuple(rewrites)
        if names not in self._forms:
            self._forms[names] = self._make(names)
        return self._forms[names]

    def _find(self) -> None:
        try:
            from revstep.export.rewrite.apply import applicable

            for runtime in RUNTIMES:
                self.all[runtime] = self.form(applicable(self._graph, runtime))
        except Refused as refused:
            self.reason = refused.reason
        except Exception as error:  # whatever a graph raises that onnx can't take
            self.reason = f"the graph can't be rewritten: {error}"

    def _make(self, names: tuple[str, ...]) -> tuple[str, ...]:
        from revstep.export.rewrite.apply import rewrite_graph

        out = self._folder / f"{len(self._made)}.onnx"
        try:
            changed: tuple[str, ...] = rewrite_graph(self._graph, out, names)
        except Exception as error:  # its own checks, or onnx's
            raise Refused(FAILED, f"the graph can't be rewritten: {error}") from error
        self._made.setdefault(changed, out)
        return changed


def _files(graph: Path) -> list[Path]:
    """The graph's file, and that of its weights where they have one."""
    weights = graph.with_name(f"{graph.name}.data")
    return [graph, weights] if weights.exists() else [graph]


def _reason(graph: Path) -> str:
    if importlib.util.find_spec("onnx") is None:
        return "rewriting graphs needs onnx: pip install 'revstep[export]'"
    if len(_files(graph)) > 1 or graph.stat().st_size > LARGEST:
        return "graphs of more than 2 GB, or with weights in files of their own, aren't rewritten"
    return ""
