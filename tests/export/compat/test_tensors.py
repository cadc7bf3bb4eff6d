"""What tensors a step takes: dtypes, layouts, gradients, shapes, and without native kernels."""

import inspect

import diffusers
import pytest
import torch
from compat_runs import SD, error, outputs, run, takes

from revstep.compat import RevstepScheduler
from revstep.export.compat import rows
from revstep.export.compat.family import FAMILIES

FLOAT32 = 1e-5
HALVES = {torch.float16: 2**-11, torch.bfloat16: 2**-8}


def both(name, **options):
    known = inspect.signature(getattr(diffusers, name).__init__).parameters
    options = {k: v for k, v in {**SD, "skip_prk_steps": True, **options}.items() if k in known}
    theirs = getattr(diffusers, name)(**options)
    return theirs, RevstepScheduler.from_scheduler(theirs)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", FAMILIES)
def test_halves_are_rounded_where_diffusers_rounds_them_or_less(name, dtype):
    theirs, ours = both(name, clip_sample=False)
    exact = run(theirs, 5, rounded=dtype)
    want, got = run(theirs, 5, dtype=dtype), run(ours, 5, dtype=dtype)
    assert [g.dtype for g in got] == [w.dtype for w in want]
    off, allowed = ([x.float() for x in found] for found in (got, want))
    assert error(off, exact) < 1.2 * error(allowed, exact) + HALVES[dtype]
    for m in (torch.float32, dtype):  # an output of another dtype than the sample's
        x = outputs(1)[0].to(dtype if m is torch.float32 else torch.float32)
        found = []
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(5)
            generator = torch.Generator().manual_seed(1)
            options = {"generator": generator} if takes(scheduler, "generator") else {}
            out = scheduler.step(outputs(2)[1].to(m), scheduler.timesteps[0], x, **options)
            found.append(list(out.values()))
        assert error(*found) < 8 * HALVES[dtype]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FAMILIES)
def test_without_native_kernels_torch_does_the_same(name, monkeypatch):
    theirs, ours = both(name)
    want = run(theirs, 6)
    monkeypatch.setattr(rows, "backend", lambda: "reference")
    assert error(run(RevstepScheduler.from_scheduler(theirs), 6), want) < FLOAT32
    assert error(run(ours, 6), want) < FLOAT32


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["DDIMScheduler", "UniPCMultistepScheduler", "PNDMScheduler"])
def test_float64_stays_float64(name):
    theirs, ours = both(name)
    got, want = run(ours, 6, dtype=torch.float64), run(theirs, 6, dtype=torch.float64)
    assert {x.dtype for x in got} == {torch.float64}
    assert error(got, want) < FLOAT32


@pytest.mark.parametrize("name", ["DDIMScheduler", "DPMSolverMultistepScheduler"])
def test_gradients_go_through_a_run_as_through_diffusers_own(name):
    found = []
    for scheduler in both(name, clip_sample=False):
        scheduler.set_timesteps(4)
        x, *ms = outputs(5)
        x.requires_grad_()
        y = x
        for m, t in zip(ms, scheduler.timesteps, strict=True):
            y = scheduler.step(m + 0.1 * y.tanh(), t, y).prev_sample
        y.square().sum().backward()
        found.append([x.grad, y.detach()])
    assert error(*found) < FLOAT32


def test_a_run_goes_between_kernels_and_operations_with_its_history():
    theirs, ours = both("UniPCMultistepScheduler", solver_order=3)
    found = []
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(8)
        y, *ms = outputs(9)
        got = []
        for number, (m, t) in enumerate(zip(ms, scheduler.timesteps, strict=True)):
            with torch.enable_grad():
                y = scheduler.step(m.requires_grad_(number in (2, 3, 6)), t, y).prev_sample.detach()
            got.append(y)
        found.append(got)
    assert error(found[1], found[0]) < FLOAT32


@pytest.mark.parametrize("name", ["DDIMScheduler", "DPMSolverMultistepScheduler"])
def test_other_layouts_are_the_same_numbers(name):
    theirs, ours = both(name)
    x, *ms = outputs(5)
    found = []
    for scheduler, last in ((theirs, False), (ours, True), (ours, False)):
        scheduler.set_timesteps(4)
        y = x.to(memory_format=torch.channels_last) if last else x
        got = []
        for m, t in zip(ms, scheduler.timesteps, strict=True):
            given = torch.stack([m, m], 1)[:, 0] if not last else m
            y = scheduler.step(given, t, y).prev_sample
            got.append(y)
        found.append(got)
    assert error(found[1], found[0]) < FLOAT32
    assert error(found[2], found[0]) < FLOAT32


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 4, 3, 6, 5), (1, 4, 64, 64)])
def test_shapes_of_any_rank_run(shape):
    theirs, ours = both("DDIMScheduler")
    x, *ms = outputs(4, shape)
    found = []
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(3)
        y = x
        for m, t in zip(ms, scheduler.timesteps, strict=True):
            y = scheduler.step(m, t, y).prev_sample
        found.append([y])
    assert error(*found) < FLOAT32


def test_a_non_finite_output_comes_out():
    _, ours = both("DDIMScheduler")
    ours.set_timesteps(3)
    x, m = outputs(2)
    m[0, 0, 0, 0] = float("inf")
    out = ours.step(m, ours.timesteps[0], x).prev_sample
    assert not out[0, 0, 0, 0].isfinite()
    assert int(out.isfinite().logical_not().sum()) == 1
