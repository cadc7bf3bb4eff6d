"""A live module beside the denoiser: an encoder, on numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from revstep.engine.backends.module.eval_form import EvalForm
from revstep.engine.errors import BackendError
from revstep.engine.spec.encoder import Encoder


class ModulePart:
    """Runs an encoder's module, in eval mode whatever mode its owner has it in.

    Its weights stay where they are, and are the module's own.

    Args:
        module: Takes the encoder's inputs in their order, (rows, *shape) each; returns a tensor or
            a tuple of tensors.
        encoder: Its spec.
    """

    def __init__(self, module: torch.nn.Module, encoder: Encoder) -> None:
        self._encoder = encoder
        self._run = EvalForm(module)
        self._device = next((t.device for t in module.parameters()), torch.device("cpu"))

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """The outputs, (rows, *shape) each.

        Raises:
            BackendError: Another number of outputs than the encoder has conditions.
        """
        self._run.refresh()
        names = [c.name for c in self._encoder.inputs]
        tensors = [torch.from_numpy(inputs[name].copy()).to(self._device) for name in names]
        with torch.inference_mode(False), torch.no_grad():
            found: Any = self._run(*tensors)
        outputs = (found,) if isinstance(found, torch.Tensor) else tuple(found)
        if len(outputs) != len(self._encoder.conditions):
            raise BackendError(
                f"the encoder {self._encoder.name!r} returned {len(outputs)} outputs; its spec "
                f"names {', '.join(self._encoder.conditions)}"
            )
        floats = [o.float() if o.is_floating_point() else o for o in outputs]
        return [o.cpu().numpy() for o in floats]
