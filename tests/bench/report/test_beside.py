"""What a report says and draws of baselines."""

import pytest

from revstep.bench.report import others, tables
from revstep.bench.report.style import Palette, plotting

FOUND = {
    "title": "ONNX Runtime", "summary": {"median_s": 0.13}, "verdict": "faster",
    "ratio": {"ratio": 1.3, "low": 1.2, "high": 1.4}, "largest_difference": 2e-6,
    "differences": {"steps": [1e-6, 2e-6], "final": 1e-6},
}  # fmt: skip


def row(batch, **more):
    return {
        "bundle": {"name": f"a_name_of_many_letters_{batch}.revstep"},
        "engine": {"backend": "onnxruntime", "precision": "fp32"},
        "cell": {"sampler": "dpmpp_2m", "steps": 20, "guidance": 1.5, "batch": batch},
        "summary": {"median_s": 0.1}, "vs": {"onnxruntime": FOUND}, **more,
    }  # fmt: skip


def test_long_names_leave_the_intervals_room():
    pytest.importorskip("matplotlib")
    palette = Palette.light()
    with plotting(palette) as plt:
        (axes,) = next(others.baselines(plt, [row(1), row(2)], palette)).axes
        axes.figure.canvas.draw()
        assert axes.get_position().width > 0.8
        named = [text.get_text() for text in axes.texts]
    assert named == [f"onnxruntime, a_name_of_many_letters_{n}.revstep batch {n}" for n in (2, 1)]


def test_a_row_s_openings_are_said_and_an_old_row_has_one():
    text = tables.baselines([row(1, openings=[{"runs": 4}] * 4), row(2)])
    assert "<th>openings</th>" in text
    assert [text.count(f"<td>{count}</td>") for count in (4, 1)] == [1, 1]
