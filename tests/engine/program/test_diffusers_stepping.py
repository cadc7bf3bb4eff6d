"""``compat="diffusers"``: start, ends, times and defaults of its schedulers, by their formulas.

tests/export/sources/test_scheduler_sweep.py compares whole runs with diffusers itself.
"""

import dataclasses
import math

import numpy as np
import pytest
from networks import NumpyDenoiser

from revstep import DenoiserSpec, Engine, TimeInput
from revstep.engine.program.samplers import DDIM, DDPM, SAMPLERS, UniPC
from revstep.engine.program.table import build_program
from revstep.engine.spec.grids import (
    ExponentialGrid,
    LeadingGrid,
    LinspaceGrid,
    LuGrid,
    TrailingGrid,
    grid_from_value,
)
from revstep.engine.spec.schedule.float32_levels import float32_levels
from revstep.grids import KarrasGrid
from revstep.kernels import columns as col
from revstep.schedules import VESchedule, VPSchedule

STABLE = VPSchedule(betas="scaled_linear", beta_start=0.00085, beta_end=0.012)
ZERO = dataclasses.replace(STABLE, zero_terminal_snr=True)
SCALED = ("euler", "euler_ancestral", "heun", "lms", "dpm2", "dpm2_ancestral")
OF_OTHERS = (
    "lcm", "langevin", "repaint", "flow_euler", "flow_heun", "flow_euler_ancestral", "flow_map",
)  # fmt: skip
TO_FIRST = ("deis", "sa_solver", "tcd")  # schedulers without another end
UNIT = ("ddim", "ddpm", "pndm", "dpmpp_2m", "dpmpp_2s", "unipc")


def spec_of(schedule=STABLE, prediction="epsilon", **fields):
    fields.setdefault("time", TimeInput(fractions=True))
    return DenoiserSpec(shape=(2,), schedule=schedule, prediction=prediction, **fields)


def program(spec, sampler, steps=10, **options):
    return build_program(spec, sampler, steps, compat="diffusers", **options)


def levels(schedule):
    return np.sqrt((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize(
    ("grid", "unit"),
    [
        ("leading", True),
        ("trailing", False),
        ("linspace", False),
        ("karras", False),
        (KarrasGrid(ends=LeadingGrid()), True),
    ],
)
def test_solvers_over_x_by_alpha_start_at_the_grids_largest_level(name, grid, unit):
    built = program(spec_of(), name, grid=grid)
    first = built.points[0]
    assert built.start[1] == (1.0 if unit else first.sigma)


@pytest.mark.parametrize("name", UNIT)
@pytest.mark.parametrize("grid", ["leading", "trailing"])
def test_other_solvers_start_from_unit_noise(name, grid):
    assert program(spec_of(), name, grid=grid).start[1] == 1.0


def test_edm_starts_from_both_variances():
    spec = spec_of(VESchedule.edm(), "edm", time=TimeInput(kind="log_sigma", fractions=True))
    assert program(spec, "euler").start[1] == math.hypot(80.0, 1.0)
    assert program(spec, "euler", from_noise=False).start == (1.0, 80.0)


def test_a_linspace_of_fractions_is_linear_in_the_level():
    points = program(spec_of(grid="linspace"), "euler", 8).points[:-1]
    table = levels(STABLE)
    for point, index in zip(points, np.linspace(999, 0, 8), strict=True):
        assert point.time == pytest.approx(index, abs=1e-9)
        low = min(int(index), 998)
        want = table[low] + (index - low) * (table[low + 1] - table[low])
        assert point.sigma / point.alpha == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc", "euler"])
def test_zero_terminal_snr_is_a_level_of_4096(name):
    spec = spec_of(ZERO, "v_prediction", grid="karras")
    first = program(spec, name).points[0]
    assert first.sigma / first.alpha == pytest.approx(4096.0, rel=1e-9)
    assert first.time == 999.0


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_zero_terminal_snr_is_exact_for_ddim_and_ddpm(name):
    assert program(spec_of(ZERO, "v_prediction"), name).points[0].alpha == 0.0


def test_only_schedulers_that_know_clip_sample_clip():
    spec = spec_of(clip=True, value_range=(-1.0, 1.0))
    for name in ("ddim", "ddpm", "heun"):
        assert program(spec, name).rows[0, col.HI] == 1.0
    for name in ("pndm", "euler", "lms", "dpm2", "dpmpp_2m", "dpmpp_2s", "unipc"):
        assert program(spec, name).rows[0, col.HI] == math.inf
        assert program(spec, name, clip=True).rows[0, col.HI] == 1.0
        assert build_program(spec, name, 10).rows[0, col.HI] == 1.0


def test_ddim_keeps_the_unclipped_noise_by_default_and_an_option_still_wins():
    spec = spec_of(clip=True, value_range=(-1.0, 1.0))
    keep, rederive = DDIM(epsilon="keep"), DDIM(epsilon="rederive")
    same = np.testing.assert_array_equal
    same(program(spec, "ddim").rows, program(spec, keep).rows)
    same(build_program(spec, "ddim", 10).rows, build_program(spec, rederive, 10).rows)
    assert not np.array_equal(program(spec, rederive).rows, program(spec, "ddim").rows)


@pytest.mark.parametrize("compat", [None, "diffusers"])
@pytest.mark.parametrize("name", [n for n in SAMPLERS if n not in OF_OTHERS])
def test_first_ddim_ends_at_index_0_for_ddim_and_pndm_only(name, compat):
    spec = spec_of(final="first_ddim", prediction="v_prediction")
    index = build_program(spec, name, 10, compat=compat).points[-1].index
    first = name in ("ddim", "pndm") or (compat and name in TO_FIRST)
    assert index == (0.0 if first else -1.0)
    clean = build_program(spec, name, 10, compat=compat, final="clean").points[-1].index
    assert clean == -1.0


@pytest.mark.parametrize("own", ["clean", "first", "first_ddim"])
def test_final_of_a_run_is_the_runs_own(own):
    for final, index in (("clean", -1.0), ("first", 0.0)):
        for name in ("ddim", "euler", "unipc"):
            built = build_program(spec_of(final=own), name, 10, final=final)
            assert built.points[-1].index == index


def test_an_unknown_final_is_refused():
    with pytest.raises(ValueError, match="unknown final 'last'; allowed: clean, first or None"):
        build_program(spec_of(), "ddim", 10, final="last")


@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc"])
@pytest.mark.parametrize("grid", ["exponential", "beta"])
def test_multistep_solvers_cut_the_times_of_noise_grids(name, grid):
    points = program(spec_of(grid=grid), name, 9).points[:-1]
    for point in points[1:-1]:
        assert point.time == math.floor(point.index)
    assert points[0].time in (998.0, 999.0)  # as the last bit of a float32 has it


def test_karras_times_are_rounded_but_for_squared_cosine_betas_of_the_multistep_solver():
    cosine = spec_of(VPSchedule(betas="squaredcos_cap_v2"), "v_prediction", grid="karras")
    for spec, name, rounds in (
        (spec_of(grid="karras"), "dpmpp_2m", np.round),
        (cosine, "dpmpp_2m", np.floor),
        (cosine, "dpmpp_2s", np.round),
        (cosine, "unipc", np.round),
    ):
        for point in program(spec, name, 7).points[1:-2]:
            assert point.time == rounds(point.index)


def test_lu_is_exponential_but_rounds():
    grids = ExponentialGrid(), LuGrid()
    spec = spec_of()
    a, b = (build_program(spec, "dpmpp_2m", 9, grid=grid) for grid in grids)
    np.testing.assert_array_equal(a.rows, b.rows)
    for point in program(spec, "dpmpp_2m", 9, grid=LuGrid()).points[:-1]:
        assert point.time == np.round(point.index)


@pytest.mark.parametrize("grid", ["leading", "linspace"])
def test_one_step_is_at_the_end_of_the_spacing_and_warns(grid, caplog):
    spec = spec_of(grid=grid, grid_offset=0)
    assert program(spec, "ddim", 1).points[0].time == 0.0
    assert "samples are noise" in caplog.text


@pytest.mark.parametrize(
    ("grid", "want"),
    [
        (TrailingGrid(first=994), [994, 894, 794]),
        (LeadingGrid(first=994), [891, 792, 693]),
        (LinspaceGrid(first=994), [994, 884, 773]),
    ],
)
def test_a_grid_may_begin_later(grid, want):
    grid = grid_from_value(grid.to_dict())
    points = build_program(spec_of(grid=grid), "ddim", 10).points
    assert [p.index for p in points[:3]] == want


def test_a_trailing_grid_that_begins_too_late_is_refused():
    with pytest.raises(ValueError, match="from index 9 has 1 strides"):
        build_program(spec_of(grid=TrailingGrid(first=9)), "ddim", 10)


def test_the_ends_of_a_noise_grid_survive_a_manifest_and_are_of_indices():
    grid = KarrasGrid(ends=LeadingGrid(offset=1))
    assert grid_from_value(grid.to_dict()) == grid
    spec = spec_of(grid=grid)
    assert DenoiserSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(TypeError, match="a grid's ends are those of a grid of training indices"):
        KarrasGrid(ends="karras")


@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero", [False, True])
def test_float32_levels_are_diffusers_to_a_bit_of_a_square_root(betas, zero):
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    settings = {"beta_schedule": betas, "rescale_betas_zero_snr": zero}
    abar = diffusers.DPMSolverMultistepScheduler(**settings).alphas_cumprod
    want = torch.sqrt((1 - abar) / abar).numpy()
    got = float32_levels(VPSchedule(betas=betas, zero_terminal_snr=zero))
    assert got.dtype == np.float32
    assert got[-1] == pytest.approx(want[-1], rel=2.5e-7)
    few = 990 if zero else 1000  # rescaling in float32 loses digits at both ends
    np.testing.assert_allclose(got[:few], want[:few], rtol=5e-3 if zero else 2.5e-7)


def test_a_corrector_may_be_left_out_of_some_steps():
    spec = spec_of()
    every = build_program(spec, UniPC(disable_corrector=tuple(range(10))), 10).rows
    np.testing.assert_array_equal(every, build_program(spec, UniPC(corrector=False), 10).rows)
    some = build_program(spec, UniPC(disable_corrector=(0,)), 10).rows
    both = build_program(spec, UniPC(), 10).rows
    assert not np.array_equal(some, both)
    with pytest.raises(ValueError, match=r"disable_corrector=-1 is out of range.* 0 or more"):
        UniPC(disable_corrector=(-1,))


def test_pndm_over_uneven_strides_calls_the_grids_own_times_twice():
    times = [p.time for p in program(spec_of(grid="linspace"), "pndm", 4).points[:-1]]
    assert times == [999.0, 666.0, 666.0, 333.0, 0.0]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_pndm_clips_where_it_is_asked_to(prediction):
    spec = spec_of(prediction=prediction, value_range=(-1.0, 1.0))
    rows = program(spec, "pndm", clip=True).rows[:-1]
    assert np.all(rows[:, col.HI] == 1.0)
    assert np.all((rows[:, col.C_0] != 0.0) | (rows[:, col.K_0] != 0.0))


def test_an_engines_run_may_end_elsewhere_than_its_spec():
    spec = spec_of(final="first")
    engine = Engine(NumpyDenoiser(spec, lambda x, t, conditions: 0.5 * x))
    ends = [engine.sample(seed=0, steps=5, final=final).x for final in (None, "first", "clean")]
    np.testing.assert_array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


def test_ddpm_draws_its_last_noise_where_the_time_is_not_0():
    rows = program(spec_of(grid="trailing"), DDPM(), 10).rows
    assert rows[-2, col.S] > 0.0


def test_a_last_step_that_ends_a_rounding_below_zero_adds_no_noise():
    """float32 steps from 2^12 down: the sum of differences need not be 0."""
    spec = spec_of(VPSchedule(zero_terminal_snr=True), grid="trailing")
    walked = program(spec, "euler_ancestral", steps=2)
    assert walked.points[-1].sigma < 0.0
    assert walked.rows[1, col.S] == 0.0 < walked.rows[0, col.S]
