"""The bearer token in a file."""

from __future__ import annotations

from pathlib import Path

MIN_TOKEN = 16
ONE_TOKEN = (
    f"one token of at least {MIN_TOKEN} ASCII characters without spaces, such as "
    "`openssl rand -hex 32` prints"
)


def read_token(file: Path) -> str:
    """The token in a file, without the line's end.

    Raises:
        OSError: It can't be read.
        ValueError: It is empty, short, or no plain text.
    """
    try:
        text = file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} holds no text: it must hold {ONE_TOKEN}") from error
    if len(text) < MIN_TOKEN or not text.isascii() or any(c.isspace() for c in text):
        raise ValueError(f"{file} must hold {ONE_TOKEN}; got {len(text)} characters")
    return text
