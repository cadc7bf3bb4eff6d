"""A text without the folders of the machine that it comes from: the names of files stay."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

HERE = "\0"  # stands for a folder of this machine while the rest of its path is read
QUOTED = re.compile(r"([\"'])(?:\0|[A-Za-z]:)?[\\/](?:[^\"'\n]*[\\/])?([^\"'\\/\n]+)\1")
INNER = r"[^\s\\/\"'<>|:;,()]+[\\/]"
PATH = re.compile(rf"\0[\\/](?:{INNER})*|(?<![\w.~/\\])(?:[A-Za-z]:)?[\\/](?:{INNER})+")


def without_folders(text: str, *known: Path) -> str:
    """A text in which paths have no folders.

    ``known`` are folders whose names may hold anything, spaces too, as this machine's own are: the
    home, the current and the temporary one, and Python's.
    """
    own = {Path.home(), Path.cwd(), Path(tempfile.gettempdir()), Path(sys.prefix), *known}
    for folder in sorted((f for f in own if f != Path(f.anchor)), key=lambda f: -len(str(f))):
        text = text.replace(f"{folder}{os.sep}", f"{HERE}{os.sep}")
        text = re.sub(re.escape(str(folder)) + r"(?![\w.-])", "...", text)
    text = QUOTED.sub(r"\1\2\1", text)
    return PATH.sub(lambda m: "" if _is_folder(m[0]) else m[0], text)


def _is_folder(path: str) -> bool:
    """Whether a path begins with a folder, as the name of a node may look."""
    return path[0] not in "/\\" or os.path.isdir(os.sep + re.split(r"[\\/]", path)[1])
