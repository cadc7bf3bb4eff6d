"""docs/proofs.md and its plots come from the committed results, and the results hold."""

import json
from pathlib import Path

import pytest

from proofs.__main__ import main, rounded
from proofs.pages.proofs import page
from proofs.quality import REPEATED, REPEATS, SAMPLERS, SEED, STEPS
from proofs.theory import convergence, sampler_laws
from revstep.bench.rows import read_rows

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "bench" / "results"


@pytest.fixture(scope="module")
def results():
    return json.loads((RESULTS / "proofs.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows():
    return read_rows(RESULTS / "quality_steps.jsonl")


def test_the_page_is_rendered_from_the_committed_results(results, rows):
    text = (ROOT / "docs" / "proofs.md").read_text(encoding="utf-8")
    assert text == page(results, rows)
    for name in ("convergence", "laws", "training_set", "quality_steps"):
        assert f"images/{name}.png" in text
        picture = (ROOT / "docs" / "images" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 200_000


def test_the_committed_slopes_reach_the_orders(results):
    found = results["convergence"]["rows"]
    assert [row["solver"] for row in found] == [case.label for case in convergence.CASES]
    for row in found:
        assert row["own"]["slope"] >= row["own_order"] - convergence.SLACK
        if "exact" in row:
            assert row["exact"]["slope"] >= row["order"] - convergence.SLACK


def test_the_committed_errors_are_what_the_solvers_give(results):
    """The quick ones again; the reference is one for all."""
    picked = {"dpmpp_2m", "dpmpp_3m(third=taylor)", "flow_heun"}
    cases = [case for case in convergence.CASES if case.label in picked]
    again = convergence.convergence(cases, results["convergence"]["steps"][:2])
    for row in again["rows"]:
        [known] = [r for r in results["convergence"]["rows"] if r["solver"] == row["solver"]]
        assert rounded(row["own"]["errors"]) == pytest.approx(known["own"]["errors"][:2], rel=2e-3)


def test_the_committed_laws_pass_and_the_controls_fail(results):
    found = results["laws"]["rows"]
    assert [row["sampler"] for row in found] == [
        case.label for case in (*sampler_laws.CASES, *sampler_laws.CONTROLS)
    ]
    for row in found:
        mixture = row["mixture"]
        assert mixture["rejected"] == row["control"]
        assert (max(mixture["mean"][-1], mixture["covariance"][-1]) > 4.0) == row["control"]


def test_quality_rows_cover_eight_samplers_at_four_counts(rows):
    assert len(SAMPLERS) == 8
    found = [(r["sampler"], r["steps"]) for r in rows if r["seed"] == SEED]
    assert sorted(found) == sorted((n, s) for n in SAMPLERS for s in STEPS)
    assert len({(r["images"], r["guidance"]) for r in rows}) == 1
    assert {r["seed"] for r in rows if (r["sampler"], r["steps"]) == REPEATED} == {SEED, *REPEATS}
    for row in rows:
        assert row["machine"]["versions"]["onnxruntime"]
        assert row["calls"] == (2 * row["steps"] - 1 if row["sampler"] == "heun" else row["steps"])


def test_the_command_renders_the_page_again(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(ROOT)
    main(["--only", "page", "--docs", str(tmp_path)])
    assert (tmp_path / "proofs.md").read_text(encoding="utf-8") == (
        ROOT / "docs" / "proofs.md"
    ).read_text(encoding="utf-8")
    assert len(list((tmp_path / "images").glob("*.png"))) == 4
