"""The class of a scheduler with the fused step: the original one, with other methods in front."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any

from revstep.engine.errors import ProgramError
from revstep.export.compat.family import FAMILIES, NOT_FUSED, output_class

METHODS = ("step", "set_timesteps")


def diffusers_library() -> Any:
    """The package.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise ImportError(
            "RevstepScheduler is a diffusers scheduler with another step, and needs diffusers "
            "0.38 or newer: pip install 'revstep[export]'"
        ) from error
    return diffusers


@functools.cache
def class_of(base: type[Any], name: str) -> type[Any]:
    """The class that has both ``base`` and diffusers' class ``name`` under it.

    It has the original's name and module, by which pipelines and configs say what to load.

    Raises:
        ProgramError: No class with rows.
    """
    original = getattr(diffusers_library(), name, None)
    family = FAMILIES.get(name)
    if name in NOT_FUSED:
        raise ProgramError(f"{name} has no fused step: {NOT_FUSED[name]}. Keep diffusers' own")
    if original is None or family is None:
        raise ProgramError(
            f"{name} has no fused step; those that have are {', '.join(FAMILIES)}. Keep diffusers' "
            "own, or make one of these from its config, as "
            "DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)"
        )
    output, beside = output_class(original.step)
    beyond = list(inspect.signature(original.step).parameters.values())[4:]
    namespace: dict[str, Any] = {
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
        "_family": family,
        "_output": output,
        "_beside": beside,
        "_defaults": {parameter.name: parameter.default for parameter in beyond},
        "_follows": family.kind == "plms",
        "_counts": family.kind in ("indices", "levels", "pairs"),
    }
    for method in METHODS:
        namespace[method] = _signed(getattr(base, method), getattr(original, method))
    if family.scales_input:
        namespace["scale_model_input"] = base._scale_model_input
    if hasattr(original, "state_in_first_order"):
        namespace["state_in_first_order"] = property(lambda self: self._first_of_pair())
    return type(name, (base, original), namespace)


def as_it_is(config: Any, of: type[Any]) -> dict[str, Any]:
    """A scheduler's config, for ``from_config`` of the same class.

    That takes the class's default for all that was one once (``_use_default_values``): also where
    a pipeline has changed it since, as Stable Diffusion's do with ``steps_offset``.
    """
    parameters = inspect.signature(of.__init__).parameters
    values = dict(config)
    kept = [
        key
        for key in values.get("_use_default_values", ())
        if key in parameters and values.get(key) == parameters[key].default
    ]
    return values | {"_use_default_values": kept}


def _signed(method: Any, original: Any) -> Any:
    """A copy of a method with the signature that pipelines look for options in."""
    copied = types.FunctionType(
        method.__code__, method.__globals__, method.__name__, method.__defaults__,
        method.__closure__,
    )  # fmt: skip
    copied.__kwdefaults__ = method.__kwdefaults__
    copied.__doc__ = original.__doc__
    copied.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    return copied
