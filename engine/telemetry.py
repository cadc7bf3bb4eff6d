"""What revstep's libraries would send home, turned off before any of them is imported.

``import revstep`` sets the variables of ``SWITCHES`` in this process's environment, where its user
has set none of them; ``REVSTEP_TELEMETRY=1`` leaves each library to its own default. revstep itself
sends nothing. docs/privacy.md says what each library does.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

__all__ = ["OPT_IN", "SWITCHES", "Switch", "keep_quiet", "telemetry"]

OPT_IN = "REVSTEP_TELEMETRY"
NO = ("", "0")  # of OPT_IN


@dataclass(frozen=True, slots=True)
class Switch:
    """One library's variable.

    Attributes:
        module: The module that reads it, when it is first imported.
        variable: The variable.
        off: Its values that send nothing, in lower case; the first is what is set.
        others: Further variables that turn the library off too, with the same values.
    """

    module: str
    variable: str
    off: tuple[str, ...]
    others: tuple[str, ...] = ()


SWITCHES = (
    # as onnxruntime 1.32 reads it: 2 or t leave it on
    Switch("onnxruntime", "ORT_DISABLE_TELEMETRY", ("1", "true", "yes", "y", "on")),
    Switch(  # diffusers and transformers ask it too
        "huggingface_hub",
        "HF_HUB_DISABLE_TELEMETRY",
        ("1", "true", "yes", "on"),
        ("DISABLE_TELEMETRY", "DO_NOT_TRACK"),
    ),
    Switch("ray", "RAY_USAGE_STATS_ENABLED", ("0",)),
)

_set_here: set[str] = set()  # variables, against a later change of the environment
_before: set[str] = set()  # modules that were imported before revstep


def keep_quiet() -> None:
    """Sets every switch that the user hasn't set; run by ``import revstep``."""
    _before.update(switch.module for switch in SWITCHES if switch.module in sys.modules)
    if os.environ.get(OPT_IN, "") not in NO:
        return
    for switch in SWITCHES:
        if switch.variable not in os.environ:
            os.environ[switch.variable] = switch.off[0]
            _set_here.add(switch.variable)


def telemetry() -> dict[str, str]:
    """What every library does, by module: ``off``, ``on`` or ``its default``, with the reason."""
    return {switch.module: _state(switch) for switch in SWITCHES}


def _state(switch: Switch) -> str:
    name = switch.variable
    if name in _set_here and switch.module in _before:
        return f"its default: it was imported before revstep, which set {name}"
    for variable in (name, *switch.others):
        value = os.environ.get(variable, "")
        if value.lower() in switch.off:
            return f"off: {variable}={value}"
    if name in os.environ:
        return f"on: {name}={os.environ[name]}"
    return f"its default: {OPT_IN}={os.environ.get(OPT_IN, '')}"
