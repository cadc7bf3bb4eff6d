"""Which scheduler of diffusers runs a sampler, and what our side then runs."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from revstep.bench.measure.cell import Cell
from revstep.engine.errors import ArgumentError
from revstep.engine.program.samplers.choice import choice_of
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import Grid
from revstep.engine.spec.sampler_choice import COMPAT, SamplerChoice
from revstep.export.sources.diffusers.config import read_config
from revstep.export.sources.diffusers.flux import Flux
from revstep.export.sources.diffusers.place import find_place
from revstep.export.sources.diffusers.table import adapter_for
from revstep.export.sources.diffusers_schedule import Sampling, read_scheduler

MULTI, SINGLE = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
ODE, SDE = {"algorithm_type": "dpmsolver++"}, {"algorithm_type": "sde-dpmsolver++"}
OF_VP: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "dpmpp_1s": (MULTI, {"solver_order": 1, **ODE}),
    "dpmpp_1s_sde": (MULTI, {"solver_order": 1, **SDE}),
    "dpmpp_2s": (SINGLE, {"solver_order": 2, **ODE}),
    "dpmpp_2m": (MULTI, {"solver_order": 2, **ODE}),
    "dpmpp_2m_sde": (MULTI, {"solver_order": 2, **SDE}),
    "dpmpp_3m": (MULTI, {"solver_order": 3, **ODE}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_ancestral": ("KDPM2AncestralDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "sa_solver": ("SASolverScheduler", {}),
}
OF_FLOW: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow_heun": ("FlowMatchHeunDiscreteScheduler", {}),
}
FIELDS = ("grid", "clip", "final")
"""Of a spec, which a run may change."""
SAME = ("schedule", "prediction", "grid_offset")
"""Of a spec, which it may not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scheduling:
    """A scheduler, and its run here.

    Attributes:
        name: Its class in diffusers.
        config: What it is made of.
        cell: The cell, as our side runs it.
        own_sigmas: Whether the pipeline gives it times of its own: 1, 1 - 1/N, ..., 1/N.
    """

    name: str
    config: dict[str, Any]
    cell: Cell
    own_sigmas: bool

    def make(self) -> Any:
        """The scheduler."""
        import diffusers

        return getattr(diffusers, self.name).from_config(self.config)


def scheduling(cell: Cell, spec: DenoiserSpec, folder: Path) -> Scheduling:
    """The scheduler of a cell's sampler, made from the folder's config: its own where that is it.

    Raises:
        ArgumentError: There is none, or not of the bundle's schedule.
        ExportError: The config says what no run here is.
    """
    import diffusers

    if cell.options:
        raise ArgumentError(
            "diffusers' schedulers have their options in a config: leave --set out, and set them "
            f"in {folder}'s scheduler_config.json",
            "sampler",
        )
    place = find_place(folder)
    config = read_config(place.scheduler)
    own = read_scheduler(config)
    name, settings = str(config["_class_name"]), dict[str, Any]()
    asked = spec.default_sampler if cell.sampler is None else SamplerChoice(cell.sampler)
    if own.sampler is None or choice_of(own.sampler, asked.compat) != asked:
        name, settings = _class_of(asked.name, spec)
    made = getattr(diffusers, name).from_config(config, **settings)
    found = {"_class_name": name, **_given(made)}
    read = own if not settings and name == config["_class_name"] else read_scheduler(found)
    if read.sampler is None:
        raise ArgumentError(
            f"{name} as {folder} has it is no sampler here, so that nothing does the same work: "
            "name a --sampler, or leave diffusers out of --vs",
            "sampler",
        )
    for field in SAME:
        if read.spec_fields[field] != getattr(spec, field):
            raise ArgumentError(
                f"{name} as {folder} has it means {field}={read.spec_fields[field]!r}, and the "
                f"bundle has {getattr(spec, field)!r}: name the folder that it was exported from",
                "diffusers",
            )
    choice = choice_of(read.sampler)
    more = {"compat": COMPAT[0], **_changed(read, spec)}
    where = place.denoiser / "config.json"
    is_flux = isinstance(adapter_for(where, read_config(where))[0], Flux)
    own_sigmas = is_flux and "sigmas" in inspect.signature(made.set_timesteps).parameters
    if own_sigmas:  # which the bundle's grid is of
        more.pop("grid", None)
    cell = dataclasses.replace(cell, sampler=choice.name, options=dict(choice.options), more=more)
    return Scheduling(name, {**config, **settings}, cell, own_sigmas)


def _class_of(sampler: str, spec: DenoiserSpec) -> tuple[str, dict[str, Any]]:
    table = {"vp": OF_VP, "flow": OF_FLOW}.get(spec.schedule.kind, {})
    if sampler not in table:
        known = ", ".join(table) or "the folder's own scheduler alone"
        raise ArgumentError(
            f"the baseline 'diffusers' has no scheduler for the sampler {sampler!r} on this "
            f"schedule; it has {known}: name one of them, or leave diffusers out of --vs",
            "sampler",
        )
    return table[sampler]


def _given(scheduler: Any) -> dict[str, Any]:
    """Its config, without what diffusers keeps in it for itself."""
    return {k: v for k, v in scheduler.config.items() if not k.startswith("_")}


def _changed(read: Sampling, spec: DenoiserSpec) -> dict[str, Any]:
    """Arguments of ``sample`` where the scheduler says another thing than the spec."""
    more = {}
    for name in FIELDS:
        value = read.spec_fields[name]
        if value == getattr(spec, name):
            continue
        if name == "final" and value == "first_ddim":
            assert read.sampler is not None
            value = "first" if read.sampler.like_ddim else "clean"
        more[name] = value.to_dict() if isinstance(value, Grid) else value
    return more
