"""The line of the caller's module that an error of the exporter, or of a runtime, comes from."""

from __future__ import annotations

import functools
import linecache
import os
import re
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import onnx

STACK = "pkg.torch.onnx.stack_trace"  # of a node's metadata
FRAME = re.compile(r'File "([^"\n]+)", line (\d+), in ')
NAME = re.compile(r"[\w./:]+")
LIBRARIES = ("torch", "onnxscript", "onnx_ir", "onnx", "revstep.engine", "revstep.export")


def line_of_node(path: Path, text: str) -> str:
    """Of the node of a graph that a message of ONNX or of a runtime names, as ``line_of_error``."""
    named = set(NAME.findall(text))
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        if node.name in named or named.intersection(node.output):
            stacks = [prop.value for prop in node.metadata_props if prop.key == STACK]
            return line_of_stack(stacks[0] if stacks else "")
    return ""


def line_of_error(error: BaseException) -> str:
    """Of the last line of the module that an error passed: ``(file, line n: source)``, or ""."""
    for cause in reversed(list(causes(error))):
        frames = list(traceback.walk_tb(cause.__traceback__))
        for frame, _ in reversed(frames):  # the exporter's own, at the node that it can't translate
            node = frame.f_locals.get("node")
            stack = getattr(node, "meta", {}).get("stack_trace") if node is not None else None
            if isinstance(stack, str) and (found := line_of_stack(stack)):
                return found
        for frame, number in reversed(frames):
            if not _in_library(frame.f_code.co_filename):
                return _located(frame.f_code.co_filename, number)
    return ""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, the first cause last."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def line_of_stack(stack: str) -> str:
    """Of the last line of a printed stack outside the libraries, and inside of our call."""
    lines = [(file, int(number)) for file, number in FRAME.findall(stack)]
    for file, number in reversed(lines):
        if file.startswith(_folders("revstep.engine", "revstep.export")):
            break
        if not _in_library(file):
            return _located(file, number)
    return ""


def _located(file: str, number: int) -> str:
    source = linecache.getline(file, number).strip()
    return f" ({file}, line {number}{': ' if source else ''}{source})"


def _in_library(file: str) -> bool:
    return file.startswith("<") or file.startswith(_folders(*LIBRARIES))


@functools.cache
def _folders(*names: str) -> tuple[str, ...]:
    found = [find_spec(name) for name in names]
    origins = [spec.origin for spec in found if spec is not None and spec.origin is not None]
    return tuple(os.path.dirname(origin) + os.sep for origin in origins)
