"""Merge the measures of several groups of standard library modules into one report, and print them side by side.

Fan-in task of the flow measure_stdlib. Reads the JSON files of measure_modules, in whatever order they are given; they
must come from one version of Python and no two may cover the same letter. The report holds the totals, each group's
counts and the largest modules.
"""

import argparse
import itertools
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

# ruff: noqa: T201 - what a task prints is its log

LARGEST = 10
SHOWN = ("modules", "files", "lines", "functions", "classes", "branches", "bytecode")


def fail(reason: str) -> NoReturn:
    """End the task with a line on standard error and exit status 1."""
    sys.exit(f"compare_groups: error: {reason}")


@dataclass(frozen=True, slots=True)
class Group:
    """One file of measures: the modules from letter `first` to letter `last`."""

    python: str
    first: str
    last: str
    unparsed: list[str]
    modules: dict[str, Counter[str]]

    @property
    def letters(self) -> str:
        return f"{self.first}-{self.last}"

    def totals(self) -> dict[str, int]:
        """Return the counts of the group as a whole, the number of its modules first."""
        counts: Counter[str] = Counter(modules=len(self.modules))
        for module in self.modules.values():
            counts.update(module)
        return dict(counts)


def read_group(path: Path) -> Group:
    """Return what measure_modules wrote to a file."""
    try:
        content = json.loads(path.read_bytes())
        return Group(
            python=content["python"],
            first=content["first"],
            last=content["last"],
            unparsed=content["unparsed"],
            modules={name: Counter(counts) for name, counts in content["modules"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        fail(f"{path} is no result of measure_modules")


def check(groups: list[Group]) -> None:
    """Fail if the groups, which are in order of letters, do not belong together."""
    versions = sorted({group.python for group in groups})
    if len(versions) > 1:
        fail(f"the groups come from different versions of Python: {', '.join(versions)}")
    for one, other in itertools.pairwise(groups):
        if other.first <= one.last:
            fail(f"the groups {one.letters} and {other.letters} overlap")


def build_report(groups: list[Group]) -> dict[str, object]:
    """Return the report; modules of equal size are in order of name."""
    totals: Counter[str] = Counter()
    for group in groups:
        totals.update(group.totals())
    modules = {name: counts for group in groups for name, counts in group.modules.items()}
    largest = sorted(modules, key=lambda name: (-modules[name]["bytecode"], name))[:LARGEST]
    return {
        "python": groups[0].python,
        "totals": dict(totals),
        "groups": [{"letters": group.letters, **group.totals()} for group in groups],
        "largest_modules": [{"module": name, **modules[name]} for name in largest],
        "unparsed": [path for group in groups for path in group.unparsed],
    }


def print_table(groups: list[Group]) -> None:
    """Print one line a group, and the totals."""
    rows = [(group.letters, group.totals()) for group in groups]
    rows.append(("all", {name: sum(counts.get(name, 0) for _, counts in rows) for name in SHOWN}))
    print("group" + "".join(f"{name:>11}" for name in SHOWN))
    for letters, counts in rows:
        print(f"{letters:<5}" + "".join(f"{counts.get(name, 0):>11,}" for name in SHOWN))


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees either all of it or what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Merge the results of measure_modules into one report.")
    parser.add_argument("groups", type=Path, nargs="+", metavar="GROUP", help="a JSON file of measure_modules")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("reports/stdlib_measures.json"),
        help="the report (default: %(default)s)",
    )
    options = parser.parse_args()

    groups = sorted(map(read_group, options.groups), key=lambda group: (group.first, group.last))
    check(groups)
    write_atomically(options.output, json.dumps(build_report(groups), indent=2) + "\n")
    print_table(groups)
    unparsed = sum(len(group.unparsed) for group in groups)
    print(f"Python {groups[0].python}; {unparsed} source files do not parse")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        fail(str(error))
