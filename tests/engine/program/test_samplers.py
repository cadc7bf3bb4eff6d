"""Every sampler against its oracles: published schedulers, and the papers' formulas."""

import dataclasses
import logging
import math
import re
import sys
from pathlib import Path

import pytest

from proofs.oracles.case import EXACT, PREDICTIONS, Case, Formula, Scheduler, spec_for
from proofs.oracles.families import all_cases
from proofs.oracles.schedulers import Peer
from proofs.pages import samplers
from revstep.engine.program.samplers import SAMPLERS, make_sampler
from revstep.engine.spec.schedule import VPSchedule

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("scipy")  # LMSDiscreteScheduler's integrals

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

CASES = all_cases()
PAGE = Path(__file__).parents[3] / "docs" / "samplers.md"
ALL = {*PREDICTIONS, "edm"}
NO_EDM = {"lcm", "flow_euler", "flow_heun", "flow_euler_ancestral"}  # of VP, or of a flow
TWO_TIMES = {"average_velocity", "jump"}

logging.getLogger("diffusers").setLevel(logging.ERROR)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_case_is_its_oracles(name):
    cases = [case for case in CASES if case.sampler == name]
    errors = [(case.error(), case) for case in cases]
    bad = [f"{error:.1e}, not {c.limit:g}: {c}" for error, c in errors if not error <= c.limit]
    assert bad == []


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_compared_in_float64_for_every_prediction(name):
    cases = [case for case in CASES if case.sampler == name and case.limit <= 10 * EXACT]
    want = ALL - {"edm"} if name in NO_EDM else ALL
    want = want | TWO_TIMES if name == "flow_map" else want
    assert {case.spec.prediction for case in cases} == want
    assert len({(str(case.spec.grid), case.steps) for case in cases}) > 1


def test_every_option_is_compared_at_two_values():
    """Two have one value; the third order's exact weight is in the convergence proofs."""
    given = {}
    for case in CASES:
        options = dataclasses.asdict(make_sampler(case.sampler, **case.options))
        for option, value in options.items():
            for base in SAMPLERS[case.sampler].__mro__:
                given.setdefault((base, option), set()).add(value)
    for cls in SAMPLERS.values():
        own = next(base for base in reversed(cls.__mro__) if base.__module__ == cls.__module__)
        for field in dataclasses.fields(cls):
            if field.name not in ("norms", "skip_prk_steps", "third"):
                assert len(given[own, field.name]) > 1, (cls, field.name)


STEP = {"step": {"order": 3}}


@pytest.mark.parametrize(
    ("sampler", "options", "peer"),
    [
        ("ddim", {"eta": 0.2}, Peer("DDIMScheduler", settings={"clip_sample": False})),
        ("lms", {"order": 4}, Peer("LMSDiscreteScheduler", "scaled", **STEP)),
        ("unipc", {"order": 3}, Peer("UniPCMultistepScheduler", settings={"solver_order": 2})),
        ("heun", {}, Peer("EulerDiscreteScheduler", "scaled")),
        ("dpmpp_2m", {}, Peer("DPMSolverMultistepScheduler", settings={"solver_order": 3})),
        ("ddpm", {"variance": "large"}, Peer("DDPMScheduler", settings={"clip_sample": False})),
    ],
)
def test_comparisons_tell_one_solver_from_another(sampler, options, peer):
    case = Case(sampler, Scheduler(peer), spec_for(VPSchedule(), "epsilon"), 20, options)
    assert case.error() > 1e-4


def test_the_third_order_sde_of_diffusers_has_another_sign_than_its_ode():
    """Where this fails, diffusers has fixed it: the proofs need no ``right_sign`` any more."""
    own = {"solver_order": 3, "algorithm_type": "sde-dpmsolver++"}
    peer = Peer("DPMSolverMultistepScheduler", settings=own, step={"variance_noise": True})
    spec = spec_for(VPSchedule(), "epsilon")
    assert Case("dpmpp_3m_sde", Scheduler(peer), spec, 20).error() > 1e-2


def test_the_page_has_a_row_for_every_sampler_and_oracle():
    text = PAGE.read_text(encoding="utf-8")
    what, against = text.split("## Against published implementations")
    assert re.findall(r"^\| `(\w+)` \| .+\|$", what, re.MULTILINE) == list(SAMPLERS)
    assert samplers.page(CASES, {}).startswith(what)  # if not: python -m proofs.pages.samplers
    cells = rf"(?:\| (?:[0-9]e[-+][0-9]{{2}}|0|-) ){{{len(samplers.COLUMNS)}}}\|"
    rows = re.findall(rf"^\| `(\w+)` \| ([^|]+) {cells}$", against, re.MULTILINE)
    assert set(rows) == {(case.sampler, case.oracle.name) for case in CASES}
    assert len(rows) == len(set(rows))


def test_the_page_shows_the_largest_error_and_none_that_is_less():
    spec, oracle = spec_for(VPSchedule(), "epsilon"), Formula("a", lambda *_: None)
    other = spec_for(VPSchedule(), "score")
    cases = [Case("euler", oracle, s, 5) for s in (spec, spec, spec, other, other)]
    errors = (1.1e-12, 3e-12, 2e-12, 1e-12, math.nan)
    found = samplers.largest_errors(zip(cases, errors, strict=True))
    assert list(found) == [("euler", "a")]
    row = found["euler", "a"]
    assert row["epsilon"] == 3e-12
    assert math.isnan(row["score"])
    shown = [samplers.number(e) for e in (1.1e-12, 9.95e-11, 0.0, 1e-9, math.nan)]
    assert shown == ["2e-12", "1e-10", "0", "1e-09", "nan"]


def test_the_command_names_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert samplers.main(["--out", str(tmp_path / "page.md")]) == 2
    assert "pip install 'diffusers>=0.38' torch scipy" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
