"""diffusers' own loop: the scheduler of each sampler, and the same work."""

import pytest

from revstep.bench.baselines.diffusers import SchedulerLoop
from revstep.bench.baselines.protocol import Given
from revstep.bench.baselines.same_work import OurRun
from revstep.bench.baselines.schedulers import OF_FLOW, OF_VP, scheduling
from revstep.bench.baselines.source import Source
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.measure import Work
from revstep.engine.bundle.reader import Bundle
from revstep.errors import ArgumentError

pytest.importorskip("diffusers")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function: (folder, bundle) of a network of ``diffusers_folders``, by its name."""
    from diffusers_folders import FOLDERS

    from revstep.export import export_diffusers

    made = {}

    def folder(name):
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            FOLDERS[name].save(root / "model")
            bundle = root / "x.revstep"
            export_diffusers(root / "model", bundle, **FOLDERS[name].arguments)
            made[name] = root / "model", bundle
        return made[name]

    return folder


@pytest.fixture
def checked(saved, engine_of):
    """A function: the baseline of a folder and a cell, and its differences from the engine."""

    def check(name, **fields):
        folder, path = saved(name)
        engine = engine_of(path)
        found = scheduling(Cell(**{"batch": 2, "steps": 6, **fields}), engine.spec, folder)
        source = Source(engine.spec, folder=folder)
        given = Given.of(Work.of(Bundle.open(path), found.cell, engine), source)
        loop = SchedulerLoop(given, found)
        return loop, OurRun(given).check("diffusers", loop)

    return check


@pytest.mark.parametrize("sampler", OF_VP)
def test_every_sampler_has_its_scheduler_which_does_the_same_work(checked, sampler):
    loop, found = checked("unet_2d", sampler=sampler)
    assert OF_VP[sampler][0] in loop.title
    assert found.largest < 1e-3


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("unet_2d", {"guidance": 2.0}),
        ("consistency", {"steps": 2}),
        ("stable_diffusion", {}),
        ("stable_diffusion_v", {}),
        ("sdxl", {}),
        ("latent_consistency", {}),
        ("flux", {}),
    ],
)
def test_a_folders_own_scheduler_does_the_same_work(checked, name, fields):
    _, found = checked(name, **fields)
    assert found.largest < 1e-3


def test_a_sampler_without_a_scheduler_is_refused_by_name(saved, engine_of):
    folder, path = saved("unet_2d")
    with pytest.raises(
        ArgumentError, match=r"no scheduler for the sampler 'langevin'.*it has ddim"
    ):
        scheduling(Cell(sampler="langevin"), engine_of(path).spec, folder)
    cell = Cell(sampler="ddim", options={"eta": 1.0})
    with pytest.raises(ArgumentError, match="leave --set out"):
        scheduling(cell, engine_of(path).spec, folder)


def test_another_folders_schedule_is_refused(saved, engine_of):
    folder, _ = saved("stable_diffusion")
    _, path = saved("unet_2d")
    with pytest.raises(ArgumentError, match=r"means schedule=.*folder that it was exported from"):
        scheduling(Cell(sampler="ddim"), engine_of(path).spec, folder)


def test_another_folders_module_is_refused(saved, engine_of):
    folder, _ = saved("stable_diffusion")
    _, path = saved("unet_2d")
    with pytest.raises((ArgumentError, ValueError)):
        _ = Source(engine_of(path).spec, folder=folder).module


@pytest.mark.parametrize("sampler", OF_FLOW)
def test_flows_have_their_own_schedulers(checked, sampler):
    loop, found = checked("sd3", sampler=sampler)
    assert OF_FLOW[sampler][0] in loop.title
    assert found.largest < 1e-3
