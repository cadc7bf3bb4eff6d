"""The floors of the house, drawn from the imports: `python -m suites.house.floors`.

A room is a package (of `engine` and `export` every package of its own; the modules at the root of
`engine` are two: `engine.engine`, and what everything stands on). A room's floor is one above the
highest room that it imports, so every arrow points down; a circle of rooms has no floors and is an
error. It writes docs/images/floors.svg.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import grimp

PICTURE = Path("docs") / "images" / "floors.svg"
PACKAGE = "revstep"
SPLIT = ("revstep.engine", "revstep.export", "revstep.kernels")  # whose packages are rooms
TOP = ("revstep.engine.engine",)  # a module that is a room of its own
ENTRY = ("revstep.cli", "revstep.__main__")  # they start the commands
WIDTH, ROW, BOX_HEIGHT, GAP = 980, 84, 40, 14


@dataclasses.dataclass(frozen=True)
class House:
    """Rooms, and which of them each imports.

    Attributes:
        files: room -> how many modules it has.
        imports: room -> the rooms that it imports.
        floors: Rooms by floor, the lowest first.
    """

    files: Mapping[str, int]
    imports: Mapping[str, frozenset[str]]
    floors: Sequence[Sequence[str]]

    @property
    def arrows(self) -> int:
        """Imports between rooms."""
        return sum(map(len, self.imports.values()))


def room_of(module: str, packages: frozenset[str]) -> str:
    """The room of a module, without the package's name."""
    if module in TOP:
        return module.removeprefix(f"{PACKAGE}.")
    if module in ENTRY:
        return "commands"
    home = module if module in packages else module.rpartition(".")[0]
    for split in SPLIT:
        if home == split:
            return split.removeprefix(f"{PACKAGE}.") + (" (base)" if split in _parents(TOP) else "")
        if home.startswith(f"{split}."):
            return ".".join(home.split(".")[1:3])
    parts = home.split(".")
    return PACKAGE if len(parts) == 1 else parts[1]


def _parents(modules: Sequence[str]) -> set[str]:
    return {module.rpartition(".")[0] for module in modules}


def read_house() -> House:
    """The rooms of the package that is importable, and their floors.

    Raises:
        ValueError: Rooms that import each other in a circle.
    """
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    packages = frozenset(m for m in graph.modules if graph.find_children(m))
    # the fronts of packages re-export what lies in many rooms: they are not of the house itself
    modules = {m for m in graph.modules if m not in packages}
    files: dict[str, int] = defaultdict(int)
    imports: dict[str, set[str]] = {}
    for module in sorted(modules):
        room = room_of(module, packages)
        files[room] += 1
        used = imports.setdefault(room, set())
        for other in graph.find_modules_directly_imported_by(module):
            if other in modules or other in packages:
                used.add(room_of(other, packages))
        used.discard(room)
    known = {room: frozenset(used & set(imports)) for room, used in imports.items()}
    return House(dict(files), known, floors_of(known))


def floors_of(imports: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Rooms by floor, the lowest first: each one above all that it imports.

    Raises:
        ValueError: Rooms that import each other in a circle.
    """
    floors: list[list[str]] = []
    placed: set[str] = set()
    while len(placed) < len(imports):
        floor = sorted(r for r in imports if r not in placed and imports[r] <= placed)
        if not floor:
            circle = sorted(set(imports) - placed)
            raise ValueError(f"rooms that stand on each other: {', '.join(circle)}")
        floors.append(floor)
        placed.update(floor)
    return floors


def nearest_only(imports: Mapping[str, frozenset[str]]) -> dict[str, set[str]]:
    """The imports that no chain of others implies: the arrows that are drawn."""

    def below(room: str) -> set[str]:
        return {room}.union(*(below(used) for used in imports[room]))

    return {
        room: {
            used
            for used in direct
            if not any(used in below(other) for other in direct if other != used)
        }
        for room, direct in imports.items()
    }


def draw(house: House) -> str:
    """The picture, as SVG that follows the reader's light or dark theme."""
    height = ROW * len(house.floors) + 20
    boxes = _boxes(house, height)
    lines = []
    for room, below in sorted(nearest_only(house.imports).items()):
        x, y, width = boxes[room]
        for other in sorted(below):
            ox, oy, owidth = boxes[other]
            begin, end = (x + width / 2, y + BOX_HEIGHT), (ox + owidth / 2, oy)
            middle = (begin[1] + end[1]) / 2
            lines.append(
                f'<path d="M{begin[0]:.0f} {begin[1]:.0f} C{begin[0]:.0f} {middle:.0f} '
                f'{end[0]:.0f} {middle:.0f} {end[0]:.0f} {end[1]:.0f}"/>'
            )
    rooms = [
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{BOX_HEIGHT}" rx="5"/>'
        f'<text x="{x + width / 2:.0f}" y="{y + 17:.0f}">{escape(room)}</text>'
        f'<text class="n" x="{x + width / 2:.0f}" y="{y + 32:.0f}">{_files(house, room)}</text>'
        for room, (x, y, width) in sorted(boxes.items())
    ]
    style = (
        "text{font:13px sans-serif;text-anchor:middle;fill:#1b1f24}.n{font-size:10px;fill:#59636e}"
        "rect{fill:#eef3fa;stroke:#4a6d9c}path{fill:none;stroke:#8a97a8}svg{background:#fff}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9aa5b1}"
        "rect{fill:#1c2733;stroke:#6d93c4}path{stroke:#66717e}svg{background:#0d1117}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="Rooms by floor; arrows point to what a room imports">\n'
        f"<style>{style}</style>\n" + "\n".join([*lines, *rooms]) + "\n</svg>\n"
    )


def _files(house: House, room: str) -> str:
    count = house.files[room]
    return "1 file" if count == 1 else f"{count} files"


def _boxes(house: House, height: int) -> dict[str, tuple[float, float, float]]:
    """Room -> (left, top, width), the top floor first; rooms stand near what they stand on."""
    boxes: dict[str, tuple[float, float, float]] = {}
    for number, floor in enumerate(house.floors):
        order = sorted(floor, key=lambda room: _centre(house, room, boxes))
        widths = [max(92.0, 8.0 * len(room) + 18) for room in order]
        left = (WIDTH - sum(widths) - GAP * (len(order) - 1)) / 2
        for room, width in zip(order, widths, strict=True):
            boxes[room] = (left, height - ROW * (number + 1) + 12, width)
            left += width + GAP
    return boxes


def _centre(house: House, room: str, boxes: Mapping[str, tuple[float, float, float]]) -> float:
    under = [boxes[used] for used in house.imports[room] if used in boxes]
    return sum(x + width / 2 for x, _, width in under) / len(under) if under else WIDTH / 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description="Draw the floors of the house as SVG.")
    parser.add_argument("--out", type=Path, default=PICTURE, help=f"default: {PICTURE}")
    options = parser.parse_args(arguments)
    house = read_house()
    options.out.write_text(draw(house), encoding="utf-8")
    print(f"{len(house.files)} rooms on {len(house.floors)} floors, {house.arrows} arrows")


if __name__ == "__main__":
    main()
