"""What is said of an unknown name: the nearest that exists, then all that are allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable

MEANT = {  # what other libraries call it
    "gpu": "cuda", "ort": "onnxruntime", "trt": "tensorrt",
    "float32": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16",
}  # fmt: skip
ALIKE = 0.6  # difflib's own cutoff: below it, a suggestion is a guess
WORD = 4  # letters from which on one name inside another is no coincidence


def nearest(name: object, allowed: Iterable[str]) -> str | None:
    """The allowed name that is spelt nearest to ``name``, or None where none is near.

    Case and punctuation don't count, and + is p: ``DPM++ 2M`` is near ``dpmpp_2m``.
    """
    if not isinstance(name, str):
        return None
    import difflib

    plain = {_plain(other): other for other in allowed}
    given = _plain(MEANT.get(name.lower(), name))
    if found := difflib.get_close_matches(given, plain, 1, ALIKE):
        return plain[found[0]]
    longer = [p for p in plain if len(given) >= WORD and p.startswith(given)]
    inside = [p for p in plain if len(p) >= WORD and p in given]
    found = sorted(longer, key=len)[:1] or sorted(inside, key=len)[-1:]
    return plain[found[0]] if found else None


def unknown(what: str, name: object, allowed: Iterable[str], more: str = "") -> str:
    """``unknown sampler 'ddin'; did you mean 'ddim'? allowed: ddim, ddpm``.

    Args:
        what: What is named so.
        name: What was given, of any type.
        allowed: The names that exist.
        more: Put after them.
    """
    return f"unknown {what} {name!r}{_choice([name], allowed)}{more}"


def unknown_names(what: str, names: Iterable[object], allowed: Iterable[str]) -> str:
    """The same for several: ``sampler 'ddim' has no option ita; did you mean 'eta'? allowed: eta``.

    Args:
        what: The words before the names.
        names: What was given.
        allowed: The names that exist.
    """
    names = sorted(map(str, names))
    return f"{what} {', '.join(names)}{_choice(names, allowed)}"


def _choice(names: Iterable[object], allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    found = [near for name in names if (near := nearest(name, allowed)) is not None]
    hint = f"did you mean {', '.join(map(repr, dict.fromkeys(found)))}? " if found else ""
    return f"; {hint}allowed: {', '.join(allowed) or 'none'}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "p"))
