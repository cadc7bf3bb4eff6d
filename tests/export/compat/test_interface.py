"""RevstepScheduler is the original scheduler to whoever asks: config, files, copies, signatures."""

import copy
import inspect
import json
import pickle
import sys

import diffusers
import pytest
import torch
from compat_runs import SD, error, outputs, run
from diffusers.configuration_utils import FrozenDict

from revstep.compat import RevstepScheduler
from revstep.errors import ArgumentError, ProgramError
from revstep.export.compat.family import FAMILIES, NOT_FUSED
from revstep.export.sources.diffusers_sampler import SAMPLERS


def fused(name="DPMSolverMultistepScheduler", **options):
    return RevstepScheduler.from_scheduler(getattr(diffusers, name)(**options))


def settings(scheduler):
    return {k: v for k, v in scheduler.config.items() if not k.startswith("_")}


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_the_original_class_with_its_signatures(name):
    options = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
    theirs = getattr(diffusers, name)(**options)
    ours = RevstepScheduler.from_scheduler(theirs)
    assert isinstance(ours, type(theirs))
    assert isinstance(ours, RevstepScheduler)
    for method in ("step", "set_timesteps"):
        assert inspect.signature(getattr(ours, method)) == inspect.signature(
            getattr(theirs, method)
        )
    for attribute in ("scale_model_input", "set_begin_index", "scale_noise", "get_velocity"):
        assert hasattr(ours, attribute) == hasattr(theirs, attribute)
    assert settings(ours) == settings(theirs)
    assert (ours.order, len(ours)) == (theirs.order, len(theirs))
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(7)
    assert torch.equal(ours.timesteps, theirs.timesteps)
    if hasattr(theirs, "init_noise_sigma"):
        assert float(ours.init_noise_sigma) == float(theirs.init_noise_sigma)


def test_noise_is_added_as_by_the_original():
    theirs = diffusers.UniPCMultistepScheduler(**SD)
    ours = RevstepScheduler.from_scheduler(theirs)
    x, z = outputs(2)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(10)
        scheduler.set_begin_index(4)
    t = theirs.timesteps[4:5]
    assert torch.equal(ours.add_noise(x, z, t), theirs.add_noise(x, z, t))
    assert (ours.begin_index, ours.step_index) == (4, None)


def test_it_is_saved_as_the_original(tmp_path):
    ours = fused("EulerDiscreteScheduler", **SD)
    ours.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert saved["_class_name"] == "EulerDiscreteScheduler"
    theirs = diffusers.EulerDiscreteScheduler.from_pretrained(tmp_path)
    assert type(theirs) is diffusers.EulerDiscreteScheduler
    again = RevstepScheduler.from_pretrained(tmp_path)
    third = RevstepScheduler.from_config(theirs.config)
    fourth = type(again).from_pretrained(tmp_path)
    want = run(theirs, 5)
    for scheduler in (again, third, fourth):
        assert isinstance(scheduler, RevstepScheduler)
        assert error(run(scheduler, 5), want) < 1e-5


def test_settings_are_changed_as_by_from_config(tmp_path):
    diffusers.DPMSolverMultistepScheduler(**SD).save_pretrained(tmp_path)
    config = diffusers.DPMSolverMultistepScheduler.load_config(tmp_path)
    ours = RevstepScheduler.from_config(config, solver_order=3)
    theirs = diffusers.DPMSolverMultistepScheduler.from_config(config, solver_order=3)
    assert error(run(ours, 9), run(theirs, 9)) < 1e-5
    _, unused = RevstepScheduler.from_config(config, return_unused_kwargs=True, other=1)
    assert unused["other"] == 1


def test_a_setting_that_a_pipeline_changed_counts():
    theirs = diffusers.DDIMScheduler(**SD)  # as StableDiffusionPipeline does with steps_offset
    theirs._internal_dict = FrozenDict({**theirs.config, "steps_offset": 1})
    ours = RevstepScheduler.from_scheduler(theirs)
    again = RevstepScheduler.from_config({**theirs.config, "_class_name": "DDIMScheduler"})
    assert error(run(ours, 6), run(theirs, 6)) < 1e-5
    assert ours.config.steps_offset == again.config.steps_offset == 1
    other = diffusers.PNDMScheduler.from_config(ours.config)
    assert other.config.timestep_spacing == "leading"
    assert "timestep_spacing" in ours.config._use_default_values


def test_copies_go_on_from_where_they_were_made():
    ours = fused(**SD)
    x, *ms = outputs(7)
    ours.set_timesteps(6)
    for number in (0, 1, 2):
        x = ours.step(ms[number], ours.timesteps[number], x).prev_sample
    copies = [copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))]
    found = []
    for scheduler in (ours, *copies):
        y = x
        for number in (3, 4, 5):
            y = scheduler.step(ms[number], scheduler.timesteps[number], y).prev_sample
        found.append(y)
    assert all(torch.equal(y, found[0]) for y in found)
    assert all(isinstance(c, RevstepScheduler) for c in copies)


def test_results_stay_when_later_steps_run():
    for name in ("DDIMScheduler", "UniPCMultistepScheduler", "HeunDiscreteScheduler"):
        ours = fused(name, **SD)
        x, *ms = outputs(40)
        given = x.clone()
        ours.set_timesteps(6)
        kept = []
        for m, t in zip(ms, ours.timesteps, strict=False):
            x = ours.step(m, t, x, return_dict=False)[0]
            kept.append((x, x.clone()))
        assert all(torch.equal(a, b) for a, b in kept)
        assert len({a.data_ptr() for a, _ in kept}) == len(kept)
        assert torch.equal(given, outputs(1)[0])


def test_a_new_run_lets_the_tensors_of_the_last_one_go():
    ours = fused("UniPCMultistepScheduler", **SD)
    for dtype in (torch.float32, torch.float64):
        run(ours, 3, dtype=dtype)
        over = ours._run
        ours.set_timesteps(5)
        assert over._last is over._state is None
        assert over.rows._history == [None] * 3
        assert over.rows._bound == []


def test_positions_and_names_of_options_are_the_originals():
    theirs, ours = diffusers.DDIMScheduler(**SD), fused("DDIMScheduler", **SD)
    x, m, z = outputs(3)
    both = []
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(5)
        both.append(scheduler.step(m, scheduler.timesteps[1], x, 0.7, True, None, z, False))
    assert error(both[1], both[0]) < 1e-5
    with pytest.raises(TypeError, match="unexpected keyword argument 'eta'"):
        run(fused(**SD), 3, eta=0.5)
    with pytest.raises(TypeError, match="multiple values for argument 'eta'"):
        ours.step(m, ours.timesteps[1], x, 0.7, eta=0.3)


def test_noise_may_be_given_or_come_from_a_list_of_generators():
    options = {**SD, "algorithm_type": "sde-dpmsolver++"}
    theirs, ours = diffusers.DPMSolverMultistepScheduler(**options), fused(**options)
    x, m, z = outputs(3)
    both = []
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(5)
        y = scheduler.step(m, scheduler.timesteps[0], x, variance_noise=z).prev_sample
        generators = [torch.Generator().manual_seed(k) for k in range(len(x))]
        both.append([scheduler.step(m, scheduler.timesteps[1], y, generator=generators)[0]])
    assert error(both[1], both[0]) < 1e-5


def test_each_scheduler_with_a_sampler_is_fused_or_says_why_not():
    assert {*FAMILIES, *NOT_FUSED} == {*SAMPLERS}
    assert not {*FAMILIES} & {*NOT_FUSED}


def test_what_has_no_row_is_refused_when_it_is_made():
    with pytest.raises(ProgramError, match="thresholding=True"):
        fused("DDIMScheduler", thresholding=True)
    with pytest.raises(ProgramError, match="skip_prk_steps=False"):
        fused("PNDMScheduler")
    with pytest.raises(ProgramError, match="solver_order=3"):
        fused("DPMSolverSinglestepScheduler", solver_order=3)
    with pytest.raises(ProgramError, match="RePaintScheduler has no fused step; those that have"):
        fused("RePaintScheduler")
    with pytest.raises(ProgramError, match=r"UnCLIPScheduler has no fused step: its step is told"):
        fused("UnCLIPScheduler")
    with pytest.raises(ProgramError, match=r"IPNDMScheduler has no fused step: its rows find"):
        fused("IPNDMScheduler")
    with pytest.raises(ProgramError, match="this DDPMScheduler: the scheduler has variance_type"):
        fused("DDPMScheduler", variance_type="none")
    with pytest.raises(TypeError, match=r"made from a scheduler: RevstepScheduler.from_scheduler"):
        RevstepScheduler(diffusers.DDIMScheduler())
    with pytest.raises(TypeError, match=r"takes a scheduler of diffusers.*got dict"):
        RevstepScheduler.from_scheduler({})
    with pytest.raises(ArgumentError, match="doesn't say of which scheduler it is"):
        RevstepScheduler.from_config({"num_train_timesteps": 1000})


def test_what_a_step_can_not_do_is_refused_by_name():
    x, m = outputs(2)
    euler = fused("EulerDiscreteScheduler", **SD)
    euler.set_timesteps(5)
    with pytest.raises(ArgumentError, match=r"s_churn=0.5 is refused: it adds noise"):
        euler.step(m, euler.timesteps[0], x, s_churn=0.5)
    assert euler.step(m, euler.timesteps[0], x, s_churn=0.0, s_noise=1.1)
    flow = fused("FlowMatchEulerDiscreteScheduler")
    flow.set_timesteps(5)
    with pytest.raises(ArgumentError, match=r"per_token_timesteps=a tensor is refused"):
        flow.step(m, flow.timesteps[0], x, per_token_timesteps=x)
    lms = fused("LMSDiscreteScheduler", **SD)
    lms.set_timesteps(5)
    with pytest.raises(ArgumentError, match="order=5 is refused"):
        lms.step(m, lms.timesteps[0], x, order=5)


def test_calls_out_of_order_are_refused_where_history_counts():
    ours, (x, m) = fused(**SD), outputs(2)
    with pytest.raises(ProgramError, match=r"set_timesteps\(steps\) comes before the first step"):
        ours.step(m, 999, x)
    ours.set_timesteps(4)
    for t in ours.timesteps:
        x = ours.step(m, t, x).prev_sample
    with pytest.raises(ProgramError, match="call 4 of a run whose next one is 4, of 0 to 3"):
        ours.step(m, t, x)
    ours.set_timesteps(4)
    ours.step(m, ours.timesteps[0], x)
    with pytest.raises(ArgumentError, match=r"shape \[1, 4, 6, 5\]; the run began with \[2, 4"):
        ours.step(m[:1], ours.timesteps[1], x[:1])
    heun = fused("HeunDiscreteScheduler", **SD)
    heun.set_timesteps(4)
    heun.set_begin_index(1)
    with pytest.raises(ProgramError, match="the second call of a step"):
        heun.step(m, heun.timesteps[1], x)


def test_a_step_before_set_timesteps_is_as_in_ddpm():
    theirs, ours = diffusers.DDPMScheduler(**SD), fused("DDPMScheduler", **SD)
    x, m = outputs(2)
    both = [
        [s.step(m, 17, x, generator=torch.Generator().manual_seed(0))[0]] for s in (ours, theirs)
    ]
    assert error(*both) < 1e-5


def test_without_diffusers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"needs diffusers.*pip install 'revstep\[export\]'"):
        RevstepScheduler.from_pretrained("somewhere")
