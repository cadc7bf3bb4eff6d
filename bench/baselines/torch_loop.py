"""The loop by hand in torch, over a module or whatever is called as one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.bench.baselines.loop import run_steps
from revstep.bench.baselines.protocol import Feed, Given
from revstep.bench.baselines.steps import steps_of
from revstep.kernels import columns as col

if TYPE_CHECKING:
    import torch


class TorchLoop:
    """Draws in torch, the state in float32 on the network's device.

    Args:
        given: What to draw.
        network: Takes (x, t, *conditions).
        title: What runs.
        before: Called before every network call.
    """

    def __init__(
        self,
        given: Given,
        network: Callable[..., torch.Tensor],
        title: str,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        import torch

        self.title = title
        self._given, self._network, self._before = given, network, before
        self._steps = steps_of(given.program)
        device = torch.device(given.device)
        times = torch.from_numpy(given.program.table[:-1].copy()).to(device)
        columns = (col.TIME, col.TIME_2)[: len(given.spec.times)]
        self._times = [[row[c].repeat(given.rows) for c in columns] for row in times]
        self._conditions = tensors_of(given, device)

    def sample(self, seed: int, feed: Feed | None = None) -> NDArray[np.float32]:
        """As ``Baseline.sample``."""
        import torch

        given = self._given
        device = torch.device(given.device)
        generator = torch.Generator(device).manual_seed(seed)
        shape = (given.n, *given.spec.shape)

        def draw(number: int) -> torch.Tensor:
            if feed is not None:
                return torch.from_numpy(feed.noise if number < 0 else feed.step(number)).to(device)
            return torch.randn(shape, generator=generator, device=device)

        def network(fed: torch.Tensor, number: int) -> torch.Tensor:
            both = fed if given.guidance is None else torch.cat([fed, fed])
            self._before()
            out: torch.Tensor = self._network(both, *self._times[number], *self._conditions)
            return out.float()

        with torch.inference_mode(), threads_of(given):
            x = run_steps(
                self._steps, network, given.program.start[1] * draw(-1), guidance=given.guidance,
                noise=draw, exp=torch.exp, learned_variance=given.spec.learned_variance,
                look=None if feed is None else feed.look,
            )  # fmt: skip
            found: NDArray[np.float32] = x.cpu().numpy()
        return found


def tensors_of(given: Given, device: torch.device) -> list[torch.Tensor]:
    """The conditions on a device, in the module's order."""
    import torch

    return [torch.from_numpy(given.conditions[c.name]).to(device) for c in given.spec.conditions]


@contextlib.contextmanager
def threads_of(given: Given) -> Iterator[None]:
    """As many threads of torch's as the engine has, on a CPU."""
    import torch

    before = torch.get_num_threads()
    if given.device != "cpu" or before == given.threads:
        yield
        return
    torch.set_num_threads(given.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def network_of(given: Given, module: Any = None) -> torch.nn.Module:
    """The source's module, or another, in the engine's precision on its device, in eval mode.

    Its weights get new memory, as ``move_weights`` says.
    """
    import torch

    from revstep.engine.backends.module.reduced import live_module

    assert given.source is not None
    chosen = given.source.module if module is None else module
    network = live_module(chosen, given.spec, given.precision, torch.device(given.device)).eval()
    move_weights(network)
    return network


def move_weights(network: torch.nn.Module) -> None:
    """Moves a network's weights on the CPU, one after the other, to new memory.

    One that is opened again would be where it was: its module is read once. Those on a GPU stay,
    where recurrent layers and recorded graphs need them to.
    """
    for held in (*network.parameters(), *network.buffers()):
        if held.device.type == "cpu":
            held.data = held.data.clone()
