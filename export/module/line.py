"""The line of the caller's module that an error of the exporter, or of a runtime, comes from."""

from __future__ import annotations

import functools
import linecache
import os
import re
import sys
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PureWindowsPath

import onnx

STACK = "pkg.torch.onnx.stack_trace"  # of a node's metadata, as torch.onnx writes it
LINE = "revstep.line"  # of a node's metadata in a bundle: "models/net.py:12"
FRAME = re.compile(r'File "([^"\n]+)", line (\d+)(?:, in |$)', re.MULTILINE)  # or a script's
CALL = re.compile(r"^(\S.*\.py)\((\d+)\): ", re.MULTILINE)  # without dynamo; the last call first
NAME = re.compile(r"[\w./:]+")
LIBRARIES = ("torch", "onnxscript", "onnx_ir", "onnx", "revstep.engine", "revstep.export")
INSTALLED = re.compile(
    r"(?:^|[/\\](?:site|dist)-packages[/\\])(?:torch|onnxscript|onnx_ir|onnx)[/\\]"
)  # files of a library elsewhere, or as torch names some of its own

_files: dict[str, str] = {}  # the short names of this process's files; "" where two have one name


def line_of_node(path: Path, text: str) -> str:
    """Of the node of a graph that a message of ONNX or of a runtime names, as ``line_of_error``."""
    named = set(NAME.findall(text))
    for node in _nodes(onnx.load(str(path), load_external_data=False).graph):
        if node.name in named or named.intersection(node.output):
            found = {prop.key: prop.value for prop in node.metadata_props}
            return _of_short(found.get(LINE, "")) or line_of_stack(found.get(STACK, ""))
    return ""


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Those of a graph, and of the branches and bodies in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def short_line(stack: str, *, here: bool) -> str:
    """``line_of_stack`` for others to read: ``models/net.py:12``, or "".

    The file's path is the one below the folder that Python imported it from, and its name alone
    where it is no module of this process. Where the stack is of this process (``here``), so are its
    files: ``line_of_node`` then finds them again, to show the source.
    """
    place = _place(stack)
    if place is None:
        return ""
    file, number = place
    short = _short(file)
    if here and _files.setdefault(short, file) != file:
        _files[short] = ""
    return f"{short}:{number}"


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
    place = _place(stack)
    return "" if place is None else _located(*place)


def _place(stack: str) -> tuple[str, int] | None:
    for file, number in FRAME.findall(stack)[::-1] or CALL.findall(stack):
        if file.startswith(_folders("revstep.engine", "revstep.export")):
            break
        if not _in_library(file):
            return file, int(number)
    return None


@functools.cache
def _short(file: str) -> str:
    """A file as a module's name says it; no folder above it, which may be named after a person."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__dict__", {}).get("__file__") == file:
            inner = name.replace(".", "/")
            for path in (f"{inner}.py", f"{inner}/__init__.py"):
                if file.replace(os.sep, "/").endswith(f"/{path}"):
                    return path
    return PureWindowsPath(file).name  # of a graph from anywhere: it takes both separators


def _of_short(line: str) -> str:
    """Of a short line; with the source where this process wrote it."""
    short, _, number = line.rpartition(":")
    if not number.isdecimal():
        return ""
    file = _files.get(short)
    return _located(file, int(number)) if file else f" ({short}, line {number})"


def _located(file: str, number: int) -> str:
    source = linecache.getline(file, number).strip()
    return f" ({file}, line {number}{': ' if source else ''}{source})"


def _in_library(file: str) -> bool:
    if file.startswith("<") or file.startswith(_folders(*LIBRARIES)):
        return True
    return INSTALLED.search(file) is not None


@functools.cache
def _folders(*names: str) -> tuple[str, ...]:
    found = [find_spec(name) for name in names]
    origins = [spec.origin for spec in found if spec is not None and spec.origin is not None]
    return tuple(os.path.dirname(origin) + os.sep for origin in origins)
