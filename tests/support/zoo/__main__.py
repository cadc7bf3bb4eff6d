"""Judges the zoo, and writes bench/results/zoo.json and docs/zoo.md in the current checkout."""

import argparse
import json
import logging
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

from zoo import PRECISIONS, ZOO
from zoo.judge import judge
from zoo.page import COMMAND, page, plain, rounded

TOOLS = ("torch", "onnx", "onnxruntime")
RESULTS, PAGE = Path("bench/results/zoo.json"), Path("docs/zoo.md")


def _outcomes(animal):
    try:
        return {precision: rounded(one) for precision, one in judge(animal).items()}
    except Exception as error:  # what no animal may do; the page shows it
        words = plain(f"{type(error).__name__}: {error}")
        return {precision: {"failure": words} for precision in PRECISIONS}


def main():
    """Writes both files; with --only, judges some animals anew and keeps the others' outcomes."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--only", default="", help="judge the animals whose name holds this")
    parser.add_argument("--page", action="store_true", help="write the page of what was judged")
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page(json.loads(RESULTS.read_text())), encoding="utf-8")
        return
    only = options.only
    warnings.simplefilter("ignore")  # the exporter's own, about its internals
    logging.disable(logging.WARNING)
    old = json.loads(RESULTS.read_text())["outcomes"] if only else {}
    outcomes = {}
    for name, animal in ZOO.items():
        if only in name:
            sys.stderr.write(f"{name}\n")
            outcomes[name] = _outcomes(animal)
        elif name in old:
            outcomes[name] = old[name]
    tools = ", ".join(f"{name} {version(name)}" for name in TOOLS)
    results = {"tools": tools, "outcomes": outcomes}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


main()
