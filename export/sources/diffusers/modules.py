"""Networks of diffusers as modules of (x, t, *conditions) that return a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


class UNetModule(torch.nn.Module):
    """A ``UNet2DModel``, called positionally.

    Args:
        network: The network.
        whole_times: Times are int64, as of learned embeddings.
    """

    def __init__(self, network: Any, *, whole_times: bool = False) -> None:
        super().__init__()
        self.network = network
        self.whole_times = whole_times

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, class_labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The network's output for x (B, C, H, W), t (B,) and int64 class labels (B,)."""
        if self.whole_times:
            t = t.round().to(torch.int64)
        out: torch.Tensor = self.network(x, t, class_labels, return_dict=False)[0]
        return out


class ScaledTime(torch.nn.Module):
    """A module that is fed so many times t, as consistency models of diffusers are."""

    def __init__(self, module: torch.nn.Module, scale: float) -> None:
        super().__init__()
        self.module = module
        self.scale = scale

    def forward(self, x: torch.Tensor, t: torch.Tensor, *conditions: torch.Tensor) -> torch.Tensor:
        """The module's output."""
        out: torch.Tensor = self.module(x, self.scale * t, *conditions)
        return out


class NetworkModule(torch.nn.Module):
    """A network that takes its state, ``timestep`` and conditions by name.

    Args:
        network: The network.
        state: The state's name.
        conditions: The conditions' names, in order.
        added: Those of them that it takes together, as ``added_cond_kwargs``.
    """

    def __init__(
        self,
        network: Any,
        state: str,
        conditions: Sequence[str],
        added: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.state = state
        self.conditions = tuple(conditions)
        self.added = tuple(added)

    def forward(self, x: torch.Tensor, t: torch.Tensor, *conditions: torch.Tensor) -> torch.Tensor:
        """The network's output for x (B, *shape), t (B,) and a tensor for each condition."""
        named: dict[str, Any] = dict(zip(self.conditions, conditions, strict=True))
        if self.added:
            named["added_cond_kwargs"] = {name: named.pop(name) for name in self.added}
        return self.call(x, t, named)

    def call(self, x: torch.Tensor, t: torch.Tensor, named: Mapping[str, Any]) -> torch.Tensor:
        """The network's output, where conditions are what it takes by name."""
        inputs = {self.state: x, "timestep": t, **named}
        out: torch.Tensor = self.network(**inputs, return_dict=False)[0]
        return out


class GuidedModule(NetworkModule):
    """A latent consistency model, which takes guidance as an embedding, ``timestep_cond``.

    Args:
        network: The network.
        conditions: The conditions' names, with ``guidance``.
        added: As ``NetworkModule``.
        width: Of the embedding.
    """

    def __init__(
        self, network: Any, conditions: Sequence[str], added: Sequence[str], width: int
    ) -> None:
        super().__init__(network, "sample", conditions, added)
        half = width // 2
        rates = torch.exp(torch.arange(half) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
        self.register_buffer("rates", rates, persistent=False)
        self.odd = width % 2

    def call(self, x: torch.Tensor, t: torch.Tensor, named: Mapping[str, Any]) -> torch.Tensor:
        """Embeds w = guidance - 1 (Kingma et al. 2021, "Variational diffusion models")."""
        named = dict(named)
        angles = (1000.0 * (named.pop("guidance") - 1.0))[:, None] * self.get_buffer("rates")[
            None, :
        ]
        parts = [torch.sin(angles), torch.cos(angles)]
        if self.odd:
            parts.append(torch.zeros_like(angles[:, :1]))
        return super().call(x, t, {**named, "timestep_cond": torch.cat(parts, dim=1)})


class SprintModule(NetworkModule):
    """A flow's network on TrigFlow's state and angle, as SANA-Sprint's (Chen et al. 2025).

    Args:
        network: The network.
        conditions: The conditions' names, with ``guidance``.
        scale: What the guidance is multiplied by.
    """

    def __init__(self, network: Any, conditions: Sequence[str], scale: float) -> None:
        super().__init__(network, "hidden_states", conditions)
        self.scale = scale

    def call(self, x: torch.Tensor, t: torch.Tensor, named: Mapping[str, Any]) -> torch.Tensor:
        """TrigFlow's velocity, from that of the flow at sin t / (cos t + sin t)."""
        named = {**named, "guidance": self.scale * named["guidance"]}
        time = torch.sin(t) / (torch.cos(t) + torch.sin(t))
        s = time[:, None, None, None]
        norm = torch.sqrt(s**2 + (1.0 - s) ** 2)
        y = x * norm
        out = super().call(y, time, named)
        return ((1.0 - 2.0 * s) * y + norm**2 * out) / norm


class FluxModule(NetworkModule):
    """A ``FluxTransformer2DModel`` on latents (B, C, H, W), which it sees in patches of 2 x 2.

    Args:
        network: The network; its rotary embedding is replaced by that of this size.
        conditions: The conditions' names.
        size: (H, W).
        text: Length of the text.
    """

    def __init__(
        self, network: Any, conditions: Sequence[str], size: tuple[int, int], text: int
    ) -> None:
        super().__init__(network, "hidden_states", conditions)
        rows, columns = size[0] // 2, size[1] // 2
        places = torch.zeros(rows, columns, 3)
        places[..., 1] += torch.arange(rows)[:, None]
        places[..., 2] += torch.arange(columns)[None, :]
        ids = torch.cat([torch.zeros(text, 3), places.reshape(-1, 3)])
        network.pos_embed = FixedEmbedding(*network.pos_embed(ids))
        self.rows, self.columns, self.text = rows, columns, text

    def call(self, x: torch.Tensor, t: torch.Tensor, named: Mapping[str, Any]) -> torch.Tensor:
        """Packs, calls the network with t in [0, 1], and unpacks."""
        b, c = x.shape[0], x.shape[1]
        patches = x.reshape(b, c, self.rows, 2, self.columns, 2).permute(0, 2, 4, 1, 3, 5)
        # places and length of the text lie in the fixed embedding
        ids = {"img_ids": x.new_zeros(1, 3), "txt_ids": x.new_zeros(1, 3)}
        out = super().call(
            patches.reshape(b, self.rows * self.columns, 4 * c), t / 1000.0, {**named, **ids}
        )
        out = out.reshape(b, self.rows, self.columns, c, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return out.reshape(b, c, 2 * self.rows, 2 * self.columns)


class AnyFlowModule(torch.nn.Module):
    """An ``AnyFlowTransformer3DModel`` on latents (B, C, frames, rows, columns).

    Args:
        network: The network; its rotary table, whose making has no form in ONNX, is replaced by
            that of this size.
        conditions: The conditions' names, in order.
        size: (frames, rows, columns).
    """

    def __init__(self, network: Any, conditions: Sequence[str], size: Sequence[int]) -> None:
        super().__init__()
        frames, *places = size
        patches = zip(places, network.config.patch_size[1:], strict=True)
        layout = {"total_frames": frames, "full_frame_shape": tuple(n // p for n, p in patches)}
        network.rope = FixedRotation(network.rope(layout, torch.device("cpu"))["query"])
        self.network = network
        self.conditions = tuple(conditions)

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, r: torch.Tensor, *conditions: torch.Tensor
    ) -> torch.Tensor:
        """The network's output, with t and r (B,) of all frames."""
        frames = x.transpose(1, 2)
        times = [time[:, None].expand(-1, frames.shape[1]) for time in (t, r)]
        named = dict(zip(self.conditions, conditions, strict=True))
        out: torch.Tensor = self.network(frames, *times, **named, return_dict=False)[0]
        return out.transpose(1, 2)


class FixedRotation(torch.nn.Module):
    """Complex rotations of places that don't change."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table, persistent=False)

    def forward(self, layout_cfg: object, device: object) -> dict[str, torch.Tensor]:
        """The table, for queries and keys."""
        del layout_cfg, device
        table = self.get_buffer("table")
        return {"query": table, "key": table}


class FixedEmbedding(torch.nn.Module):
    """Cosines and sines of places that don't change, in place of the network that gives them."""

    def __init__(self, cos: torch.Tensor, sin: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(cos, sin), whatever the ids are."""
        del ids
        return self.get_buffer("cos"), self.get_buffer("sin")
