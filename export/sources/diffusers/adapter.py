"""``Adapter``: how one class of diffusers' denoisers becomes a module and a spec's inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition

if TYPE_CHECKING:
    import torch

    from revstep.export.sources.diffusers_schedule import Sampling

FACTORY = "write a factory for it: revstep export package.module:factory"
PIXELS = 8  # rows of pixels for a row of latents, where no VAE says


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What an adapter is given.

    Attributes:
        where: The config's file, for errors.
        scheduler: The scheduler's, for errors.
        values: The config, over the class's defaults.
        pipeline: What ``model_index.json`` holds; empty where there is none.
        size: The state's axes after the channels that the caller asks for, or None.
        text: Length of the text that the caller asks for, or None.
        null_class: The caller's, or None.
        pixels: Pixels along a side of a latent.
    """

    where: Path
    scheduler: Path
    values: Mapping[str, Any]
    pipeline: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    size: tuple[int, ...] | None = None
    text: int | None = None
    null_class: int | None = None
    pixels: int = PIXELS

    def refuse(self, *fields: str, allowed: object = None) -> None:
        """Refuses fields whose value isn't the allowed one.

        Raises:
            ExportError: It names the field.
        """
        for name in fields:
            if self.values[name] != allowed:
                raise ExportError(
                    f"{self.where}: {name}={self.values[name]!r} is not carried, only {allowed!r}; "
                    f"{FACTORY}"
                )


class Adapter:
    """How a class is carried; what most classes share is here, and a subclass changes it.

    Attributes:
        name: The class in diffusers.
        state: What its forward calls the state.
        axes: Axes of the state after the channels.
        length: Length of the text where neither the caller nor the pipeline says.
        added: Conditions that forward takes together, as ``added_cond_kwargs``.
        pixel_data: Whether data of 1 or 3 channels are pixels in [-1, 1].
    """

    name: ClassVar[str]
    state: ClassVar[str] = "hidden_states"
    axes: ClassVar[int] = 2
    length: ClassVar[int] = 77
    added: ClassVar[tuple[str, ...]] = ()
    pixel_data: ClassVar[bool] = False

    def check(self, given: Given) -> None:
        """Refuses what the class may say and a bundle doesn't carry.

        Raises:
            ExportError: It names the field.
        """

    def channels(self, given: Given) -> tuple[int, int]:
        """(in, out) of the state."""
        inner = given.values["in_channels"]
        return inner, given.values["out_channels"] or inner

    def size(self, given: Given) -> tuple[int, ...]:
        """The state's axes after the channels: the caller's, or else the config's."""
        if given.size is not None:
            return given.size
        found = given.values.get("sample_size")
        if found is None:
            raise ExportError(
                f"{given.where} has no sample_size; name the size with --size, or add it "
                '("sample_size": 32)'
            )
        return (found,) * self.axes if isinstance(found, int) else tuple(found)

    def tokens(self, given: Given) -> int | None:
        """Patches of the state, which a scheduler's shift may depend on; None: there are none."""
        return None

    def sampling(self, config: dict[str, Any], given: Given) -> Sampling:
        """The meaning of the scheduler's config beside this network."""
        from revstep.export.sources.diffusers_schedule import read_scheduler

        tokens = self.tokens(given)
        try:
            return read_scheduler(config, tokens=tokens)
        except ExportError as error:
            raise ExportError(f"{given.scheduler}: ", *error.args) from error

    def fractions(self, given: Given) -> bool:
        """Whether the network takes times between training indices."""
        return True

    def conditions(self, given: Given) -> tuple[Condition, ...]:
        """The conditions, in the order in which the module takes them."""
        return ()

    def module(
        self, network: Any, given: Given, conditions: tuple[Condition, ...]
    ) -> torch.nn.Module:
        """The network as a module of (x, t, *conditions)."""
        from revstep.export.sources.diffusers.modules import NetworkModule

        names = [c.name for c in conditions]
        return NetworkModule(network, self.state, names, [n for n in self.added if n in names])

    def text_length(self, given: Given) -> int:
        """The text's length where the caller doesn't say."""
        return self.length

    def mask(self, text: Condition) -> Condition:
        """``encoder_attention_mask`` of that text."""
        return Condition(
            name="encoder_attention_mask", shape=text.shape[:1], dtype="int64", limits=(0, 1),
            example=[1] * text.shape[0],
        )  # fmt: skip

    def text(self, given: Given, width: int, null: float | None = None) -> Condition:
        """``encoder_hidden_states``, of that width."""
        length = self.text_length(given) if given.text is None else given.text
        return Condition(name="encoder_hidden_states", shape=(length, width), null=null)
