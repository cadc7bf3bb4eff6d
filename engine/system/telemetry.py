"""What revstep's libraries would send home, turned off before any of them is imported.

``import revstep`` sets the variables of ``SWITCHES`` in this process's environment, where its user
has set none of them; ``REVSTEP_TELEMETRY=1`` leaves each library to its own default. revstep itself
sends nothing. docs/privacy.md says what each library does.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

OPT_IN = "REVSTEP_TELEMETRY"
SENDER = "openvino_telemetry"


class Switch:
    """One library's variable: a plain class, as ``import revstep`` makes it first of all.

    Attributes:
        module: The module that reads it.
        variable: The variable.
        off: Its values that send nothing, in lower case; the first is what is set.
        others: Further variables that turn the library off too, with the same values.
        at_import: Whether it is read once, when the module is first imported.
    """

    def __init__(
        self,
        module: str,
        variable: str,
        off: tuple[str, ...],
        others: tuple[str, ...] = (),
        at_import: bool = True,
    ) -> None:
        self.module = module
        self.variable = variable
        self.off = off
        self.others = others
        self.at_import = at_import


SWITCHES = (
    # as onnxruntime 1.32 reads it: 2 or t leave it on
    Switch("onnxruntime", "ORT_DISABLE_TELEMETRY", ("1", "true", "yes", "y", "on")),
    Switch(  # diffusers and transformers ask it too
        "huggingface_hub",
        "HF_HUB_DISABLE_TELEMETRY",
        ("1", "true", "yes", "on"),
        ("DISABLE_TELEMETRY", "DO_NOT_TRACK"),
    ),
    Switch("ray", "RAY_USAGE_STATS_ENABLED", ("0",), at_import=False),  # when a cluster starts
)

_set_here: set[str] = set()  # variables, against a later change of the environment
_before: set[str] = set()  # modules that were imported before revstep


def keep_quiet() -> None:
    """Sets every switch that the user hasn't set; run by ``import revstep``."""
    _before.update(s.module for s in SWITCHES if s.at_import and s.module in sys.modules)
    if _opted_in():
        return
    for switch in SWITCHES:
        if switch.variable not in os.environ:
            os.environ[switch.variable] = switch.off[0]
            _set_here.add(switch.variable)


@contextlib.contextmanager
def quiet_openvino() -> Iterator[None]:
    """For ``import openvino``, which no variable keeps from reporting that it was imported.

    It does without ``openvino_telemetry``, the package that sends, where that can't be imported.
    """
    if _opted_in() or SENDER in sys.modules:
        yield
        return
    sys.modules[SENDER] = None  # type: ignore[assignment]  # how the import system knows "none"
    try:
        yield
    finally:
        sys.modules.pop(SENDER, None)  # another thread may have


def telemetry() -> dict[str, str]:
    """What every library does, by module: ``off``, ``on`` or ``its default``, with the reason."""
    openvino = f"its default: {OPT_IN}={os.environ.get(OPT_IN, '')}"
    if not _opted_in():
        openvino = f"off: where revstep imports it, it does without {SENDER}"
    return {**{switch.module: _state(switch) for switch in SWITCHES}, "openvino": openvino}


def _opted_in() -> bool:
    return os.environ.get(OPT_IN, "") not in ("", "0")


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
