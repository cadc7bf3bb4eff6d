"""What a network's failure on an index may come from: conditions that nobody could check."""

from __future__ import annotations

from revstep.engine.spec.denoiser import DenoiserSpec

__all__ = ["index_hint"]


def index_hint(spec: DenoiserSpec) -> str:
    """For the end of an error's message; empty where every integer condition has its limits."""
    open_ended = [f"{c.name!r}" for c in spec.conditions if "int" in c.dtype and c.allowed is None]
    if not open_ended:
        return ""
    return (
        f". Does a value of the condition {', '.join(open_ended)} lie beyond one of the network's "
        "tables? Condition(limits=(least, most)) has values checked before a run"
    )
