"""Runs of a diffusers scheduler, its own or with the fused step, on the same random outputs."""

import inspect

import torch

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (2, 4, 6, 5)


def outputs(count, shape=SHAPE, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float32).to(dtype) for _ in range(count)
    ]


def takes(scheduler, name):
    return name in inspect.signature(scheduler.step).parameters


def run(
    scheduler,
    steps,
    *,
    begin=0,
    change=None,
    dtype=torch.float32,
    rounded=None,
    given=None,
    **options,
):
    """The first sample, and after every call the next one and what else it gave.

    Args:
        scheduler: Its timesteps are set here.
        steps: Or None, with ``given``.
        begin: The first step, as img2img has it.
        change: What the caller does to a sample before the next call.
        dtype: Of samples and outputs.
        rounded: What their numbers are rounded to before.
        given: More for ``set_timesteps``.
        options: For ``step``.
    """
    if steps is None:
        scheduler.set_timesteps(**given)
    else:
        scheduler.set_timesteps(steps, **(given or {}))
    first = begin * scheduler.order
    if begin and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    if takes(scheduler, "generator"):
        options["generator"] = torch.Generator().manual_seed(1)
    timesteps = scheduler.timesteps[first:]
    x, *ms = outputs(len(timesteps) + 1)
    x = x * float(getattr(scheduler, "init_noise_sigma", 1.0))
    x, *ms = (v.to(rounded or dtype).to(dtype) for v in (x, *ms))
    found = [x]
    for m, t in zip(ms, timesteps, strict=True):
        if hasattr(scheduler, "scale_model_input"):
            found.append(scheduler.scale_model_input(x, t).clone())
        out = scheduler.step(m, t, x, **options)
        found += [value.clone() for value in out.values()]
        x = out.prev_sample if change is None else change(out.prev_sample, m)
    return found


def error(got, want):
    """The largest difference, in parts of the largest number of the run."""
    assert [g.dtype for g in got] == [w.dtype for w in want]
    assert [g.shape for g in got] == [w.shape for w in want]
    size = max(float(w.abs().max()) for w in want)
    return (
        max(float((g.double() - w.double()).abs().max()) for g, w in zip(got, want, strict=True))
        / size
    )
