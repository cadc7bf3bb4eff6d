"""`python -m suites.regressions`: measures every figure, and fails where one has grown.

Run in a checkout: `make bench-check` does, with a wheel that it builds. docs/regressions.md says
what each figure is.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic

from suites.regressions import committed
from suites.regressions.check import compare
from suites.regressions.figure import CannotMeasure, Group, Place
from suites.regressions.registry import GROUPS
from suites.regressions.report import TABLES, failure, lines_of
from suites.tables import write

CHECKOUT = Path(__file__).resolve().parents[2]


def check(groups: Iterable[Group], place: Place) -> int:
    """Measures, compares and prints; gives 1 where something failed, else 0."""
    failures: list[str] = []
    for group in groups:
        begun = monotonic()
        print(f"{group.name}: {group.about}", flush=True)
        try:
            records = committed.records_of(group, place.checkout)  # refused before minutes of work
            found, versions = group.measure(place), group.versions(place)
            record = committed.nearest(records, versions)
            told = compare(group, found, versions, record)
            lines = lines_of(told, record, versions)
            failures += [failure(t) for t in told if t.verdict.fails]
        except CannotMeasure as reason:
            lines = [f"  skipped: {reason}"]
        except (RuntimeError, OSError, ValueError) as error:
            lines = ["  failed, see below"]
            failures.append(f"{group.name}: {error}")
        print("\n".join(lines), f"  {monotonic() - begun:.0f} s", sep="\n", flush=True)
    if failures:
        print(f"\n{len(failures)} failed:\n", *failures, sep="\n")
    return int(bool(failures))


def record(groups: Iterable[Group], place: Place) -> int:
    """Measures, and commits what was found to the checkout's file and page; 1: not all of it."""
    missed = 0
    try:
        for group in groups:
            try:
                found = group.measure(place)
                committed.write(group, place.checkout, group.versions(place), found)
                print(f"{group.name}: recorded {len(found.values)} figures", flush=True)
            except (CannotMeasure, RuntimeError, OSError, ValueError) as error:
                missed = 1
                print(f"{group.name}: not recorded: {error}", flush=True)
    finally:  # interrupted, too: what was recorded is on the page
        list(write(TABLES, place.checkout))
    return missed


def main(arguments: Sequence[str] | None = None) -> int:
    """Check or record; gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.regressions",
        description="Figures that no machine's speed changes, against the committed ones.",
    )
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), metavar="GROUP",
                        help=f"of {', '.join(GROUPS)}")  # fmt: skip
    parser.add_argument("--wheel", type=Path, help="a built wheel, for its size")
    parser.add_argument("--record", action="store_true",
                        help="commit what is found, on purpose, instead of comparing")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.wheel is not None and not zipfile.is_zipfile(options.wheel):
        parser.error(f"--wheel: {options.wheel} is no wheel; `make wheel` builds one in dist/")
    import revstep

    place = Place(CHECKOUT, Path(revstep.__file__).resolve().parents[1], options.wheel)
    chosen = [group for name, group in GROUPS.items() if name in (options.only or GROUPS)]
    try:
        if not options.record:
            return check(chosen, place)
        ours = [group for group in chosen if group.committed is None or options.only]
        return record(ours, place)
    except KeyboardInterrupt:
        print("interrupted: the groups above were measured", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
