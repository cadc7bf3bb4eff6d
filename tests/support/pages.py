"""The Python blocks of a Markdown page, run as one program in a fresh process."""

import dataclasses
import os
import subprocess
import sys

FENCE = "```"
MARK = "\x1e"  # printed between blocks


@dataclasses.dataclass
class Block:
    """A Python block of a page, and the text block right below it: what it prints."""

    line: int
    code: str
    prints: str | None = None


def python_blocks(text):
    """The blocks in order; a ``text`` block that follows one is its output."""
    blocks, lines, at, after = [], text.splitlines(), 0, None
    while at < len(lines):
        if not lines[at].startswith(FENCE):
            after = after if not lines[at].strip() else None
            at += 1
            continue
        language = lines[at].removeprefix(FENCE).strip()
        end = lines.index(FENCE, at + 1)
        body = "".join(f"{line}\n" for line in lines[at + 1 : end])
        if language == "text" and after is not None:
            after.prints = body
        after = None
        if language == "python":
            blocks.append(after := Block(at + 2, body))
        at = end + 1
    return blocks


def program_of(blocks):
    """One program whose lines stand where they stand in the page."""
    out = []
    for block in blocks:
        out += [""] * (block.line - 1 - len(out))
        out += [*block.code.splitlines(), f"print({MARK!r})"]
    return "\n".join(out) + "\n"


def run_page(page, folder, timeout=120):
    """Runs the page's blocks in ``folder`` and compares what they print with the page.

    Raises:
        AssertionError: A block failed, or printed something else.
    """
    blocks = python_blocks(page.read_text(encoding="utf-8"))
    script = folder / f"{page.stem}.py"
    script.write_text(program_of(blocks), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-P", script.name],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, f"{page.name}:\n{result.stderr}"
    printed = result.stdout.split(f"{MARK}\n")
    assert len(printed) == len(blocks) + 1
    for block, got in zip(blocks, printed, strict=False):
        assert got == (block.prints or ""), f"{page.name}, line {block.line}, prints:\n{got}"
    return len(blocks)
