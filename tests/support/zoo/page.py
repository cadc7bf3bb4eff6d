"""docs/zoo.md: the table of outcomes, from the committed results."""

import re
import textwrap
from pathlib import Path

from zoo import GROUPS, PRECISIONS, ZOO
from zoo.animal import BOUNDS

COMMAND = "PYTHONPATH=tests/support python -m zoo"
WORDS = 150  # of a refusal, in the table
KINDS = {"refusal": "refused", "failure": "failed"}
HEAD = """Written by `{command}`, with {tools}. Each row is one small module of a kind that people
export, exported in each precision. A number is the largest error of the graph against the module
itself, computed in float64 on the CPU, over the RMS of the module's output; the bounds are
{bounds}. fp32 and fp16 graphs run in ONNX Runtime on the CPU; bf16 graphs run there in float32 with
every operator's result rounded to bf16. *Refused* is what export says instead of writing anything.
"""


def rounded(outcome):
    """An outcome as it is kept: the error in one digit, a refusal without paths."""
    if outcome.refusal is None:
        return {"error": float(f"{outcome.error:.0e}")}
    return {"refusal": plain(outcome.refusal)}


def plain(words):
    """A refusal's words on one line, without what is this machine's."""
    words = re.sub(rf"{re.escape(str(Path.cwd()))}/", "", words)
    return " ".join(words.split())


def page(results):
    """The page of the results: ``{"tools": ..., "outcomes": {name: {precision: ...}}}``."""
    bounds = ", ".join(f"{bound:g} in {precision}" for precision, bound in BOUNDS.items())
    head = HEAD.format(command=COMMAND, tools=results["tools"], bounds=bounds)
    lines = ["# The zoo", "", textwrap.fill(head, 100, break_on_hyphens=False), ""]
    for title, animals in GROUPS.items():
        lines += [f"## {title}", "", f"| module | {' | '.join(PRECISIONS)} |"]
        lines.append(f"|---|{'---|' * len(PRECISIONS)}")
        lines += [_row(a.name, results["outcomes"][a.name]) for a in animals]
        lines.append("")
    return "\n".join(lines)


def _row(name, outcomes):
    cells = [_cell(ZOO[name], precision, outcomes[precision]) for precision in PRECISIONS]
    if len(set(cells)) == 1 and cells[0].startswith("refused"):
        cells = [cells[0], *["refused"] * (len(PRECISIONS) - 1)]
    bounds = ZOO[name].bounds
    mark = "".join(f" (bound {bound:g} in {p})" for p, bound in bounds.items())
    return f"| {name}{mark} | {' | '.join(cells)} |"


def _cell(animal, precision, outcome):
    if "error" in outcome:
        text = f"{outcome['error']:.0e}"
        right = animal.refusal(precision) is None and outcome["error"] < animal.bound(precision)
    else:
        kind, words = next(iter(outcome.items()))
        words = words.replace("|", "\\|").replace("<", "&lt;")
        text = f"{KINDS[kind]}: {words if len(words) <= WORDS else words[: WORDS - 3] + '...'}"
        wanted = animal.refusal(precision)
        right = kind == "refusal" and wanted is not None and bool(re.search(wanted, outcome[kind]))
    return text if right else f"**wrong**: {text}"
