"""Whole DDIM runs as others make them: diffusers' loop, or a plain one of the same operators.

Each contender is a call that samples a batch and leaves it on the host, as revstep's do.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.engine import Engine
from revstep.engine.program.samplers import DDIM
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.schedule import VPSchedule
from suites.gpu.context import Run
from suites.gpu.networks import Network, conditions_for

if TYPE_CHECKING:
    import torch


class SampleBatch(Protocol):
    """Samples a batch."""

    def __call__(
        self, noise: NDArray[np.float32] | None = None, *, steps: int | None = None
    ) -> NDArray[np.float32]:
        """From ``noise`` or fresh noise, in ``steps`` or the steps that it was made for."""
        ...


def torch_engine(
    run: Run,
    network: Network,
    precision: str,
    *,
    buckets: tuple[int, ...],
    compile: bool = False,
    graphs: bool = True,
    unroll: tuple[int, ...] = (),
) -> Engine:
    """``revstep.from_module`` on the run's device: on a CPU too, with graphs that are lists.

    float32 products may be TF32, as the peers' may.
    """
    from revstep.engine.backends.module.denoiser import TorchModuleDenoiser
    from revstep.engine.backends.module.reduced import live_module
    from suites.torch_host import runtime_on

    module = live_module(network.module, network.spec, precision, run.device)
    options: dict[str, Any] = {"precision": precision, "compile": compile, "tf32": True}
    denoiser = TorchModuleDenoiser(module, network.spec, device=run.device, **options)
    return Engine(runtime_on(denoiser, buckets=buckets, graphs=graphs, unroll=unroll))


def prepared(run: Run, network: Network, dtype: torch.dtype) -> torch.nn.Module:
    """A copy of the network on the device, of a dtype."""
    from revstep.engine.backends.module.denoiser import prepare_module

    return prepare_module(network.module, run.device, dtype)


def our_run(engine: Engine, batch: int, length: int) -> SampleBatch:
    """revstep: DDIM, eta 0, with diffusers' conventions, so that the samples are the same."""
    sampler, conditions = DDIM(epsilon="keep"), conditions_for(engine.spec, batch)

    def sample(
        noise: NDArray[np.float32] | None = None, *, steps: int | None = None
    ) -> NDArray[np.float32]:
        return engine.sample(
            batch,
            sampler=sampler,
            steps=steps or length,
            seed=0,
            noise=noise,
            compat="diffusers",
            conditions=conditions,
            batch_size=batch,
        ).x

    return sample


def peer_name(compiled: str | None = None) -> str:
    """What ``peer_run`` is, for the rows."""
    if importlib.util.find_spec("diffusers") is None:
        loop = "plain PyTorch loop with the operators of diffusers 0.42's DDIMScheduler.step"
    else:
        import diffusers

        loop = f"diffusers {diffusers.__version__} DDIMScheduler loop"
    return f"{loop}, network {'eager' if compiled is None else f'in torch.compile ({compiled})'}"


def peer_run(
    run: Run,
    network: Network,
    precision: str,
    batch: int,
    length: int,
    *,
    compiled: str | None = None,
) -> SampleBatch:
    """The loop of a diffusers pipeline: the state in the network's precision, times on the device.

    Args:
        run: The section's run.
        network: The denoiser.
        precision: Of weights and state.
        batch: Samples.
        length: Steps.
        compiled: ``torch.compile``'s mode, as ``default``; None runs the network eagerly.
    """
    import torch

    from revstep.engine.backends.module.denoiser import DTYPES

    dtype, spec = DTYPES[precision], network.spec
    module: Any = prepared(run, network, dtype)
    if compiled is not None:
        module = torch.compile(module, mode=compiled, dynamic=False)
    scheduler = scheduler_for(spec)
    buffers = NetworkBuffers.allocate(spec, batch, dtype, run.device).conditions
    for name, array in conditions_for(spec, batch).items():
        buffers[name].copy_(torch.from_numpy(array))
    conditions = [c.to(dtype) if c.is_floating_point() else c for c in buffers.values()]
    generator = torch.Generator(run.device).manual_seed(0)
    shape = (batch, *spec.shape)
    new_step: Callable[[], None] = torch.compiler.cudagraph_mark_step_begin

    def sample(
        noise: NDArray[np.float32] | None = None, *, steps: int | None = None
    ) -> NDArray[np.float32]:
        scheduler.set_timesteps(steps or length, device=run.device)
        if noise is None:
            x = torch.randn(shape, generator=generator, device=run.device, dtype=dtype)
        else:
            x = torch.from_numpy(noise).to(run.device, dtype)
        with torch.no_grad(), _tf32():
            for t in scheduler.timesteps:
                if compiled == "reduce-overhead":
                    new_step()
                out = module(x, t.expand(batch), *conditions)
                x = scheduler.step(out, t, x).prev_sample
        return np.asarray(x.float().cpu().numpy())

    return sample


@contextlib.contextmanager
def _tf32() -> Iterator[None]:
    """TF32 allowed in float32 products: torch's own default for convolutions."""
    import torch

    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, conv.allow_tf32
    matmul.allow_tf32 = conv.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32, conv.allow_tf32 = before


def scheduler_for(spec: DenoiserSpec) -> Any:
    """The DDIMScheduler of diffusers for a spec, or its plain twin."""
    schedule = spec.schedule
    assert isinstance(schedule, VPSchedule)
    if importlib.util.find_spec("diffusers") is None:
        return PlainDdim(schedule, spec.prediction)
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=schedule.steps,
        beta_schedule=schedule.betas,
        prediction_type=spec.prediction,
        timestep_spacing="trailing",
        clip_sample=True,
    )


class PlainDdim:
    """``DDIMScheduler.step`` of diffusers 0.42 (eta 0, clipping), operator for operator.

    The times lie on the device and the table of alphas on the host, so every step reads times
    back, as diffusers does.
    """

    def __init__(self, schedule: VPSchedule, prediction: str) -> None:
        import torch

        self.steps, self.prediction = schedule.steps, prediction
        self.alphas_cumprod = torch.from_numpy(schedule.alphas_cumprod).float()
        self.final_alpha_cumprod = torch.tensor(1.0)

    def set_timesteps(self, count: int, device: torch.device) -> None:
        """The trailing timestep spacing."""
        import torch

        times = np.round(np.arange(self.steps, 0, -self.steps / count)).astype(np.int64) - 1
        self.stride = self.steps // count
        self.timesteps = torch.from_numpy(times).to(device)

    def step(self, output: torch.Tensor, t: torch.Tensor, x: torch.Tensor) -> PlainDdim:
        """One step; the result is ``prev_sample``, as diffusers returns it."""
        before = t - self.stride
        alpha = self.alphas_cumprod[t]
        alpha_before = self._alpha(before)
        beta = 1 - alpha
        if self.prediction == "epsilon":
            x0 = (x - beta ** (0.5) * output) / alpha ** (0.5)
            eps = output
        else:
            x0 = (alpha**0.5) * x - (beta**0.5) * output
            eps = (alpha**0.5) * output + (beta**0.5) * x
        x0 = x0.clamp(-1.0, 1.0)
        # the variance, which diffusers works out and multiplies by eta
        alpha_now, then = self.alphas_cumprod[t], self._alpha(before)
        variance = (1 - then) / (1 - alpha_now) * (1 - alpha_now / then)
        deviation = 0.0 * variance ** (0.5)
        direction = (1 - alpha_before - deviation**2) ** (0.5) * eps
        self.prev_sample = alpha_before ** (0.5) * x0 + direction
        return self

    def _alpha(self, t: torch.Tensor) -> torch.Tensor:
        return self.alphas_cumprod[t] if t >= 0 else self.final_alpha_cumprod
