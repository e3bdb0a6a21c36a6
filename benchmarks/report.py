"""What a benchmark has found: as a table for a terminal, for a page, and with every sample as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Spread


@dataclass(frozen=True, slots=True)
class Result:
    """One question, and what was measured to answer it."""

    name: str
    question: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    remarks: Sequence[str] = ()
    samples: Mapping[str, Any] = field(default_factory=dict)
    """Everything that was measured."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What the table of targets picks out."""


# What speed is judged by: label, least that is aimed at, best that is hoped for, figure, how to write it.
TARGETS = (
    ("1000 empty Python tasks, independent: wall ÷ floor", "1.12", "1.06", "wide-1000", "{:.3f}"),
    ("1000 empty Python tasks, in layers: wall ÷ floor", "1.12", "1.06", "layered-1000", "{:.3f}"),
    ("100 empty Python tasks, the whole command: wall ÷ floor", "1.30", "1.20", "small-100", "{:.3f}"),
    ("CPU per task beyond the floor's, 10,000 times `true`, µs", "300", "180", "spawn-10000", "{:.0f}"),
    ("8 tasks that print lines of 100 bytes: million lines a second", "1.5", "3", "logs-1000000", "{:.2f}"),
    ("the same on a terminal, with what runs drawn below: wall ÷ without", "1.05", "1.02", "drawing", "{:.3f}"),
    ("the same, all in colours", "1.05", "1.02", "drawing in colours", "{:.3f}"),
    ("memory of MiniFlow itself at 10,000 tasks, MB", "60", "45", "memory-10000", "{:.0f}"),
    ("memory of MiniFlow itself at 100,000 tasks, MB", "200", "120", "memory-100000", "{:.0f}"),
    ("load, check and plan 100,000 tasks with 300,000 dependencies, s", "1.0", "0.5", "load-100000", "{:.2f}"),
    ("`miniflow --version` ÷ `python -c pass`", "2", "1.4", "version", "{:.2f}"),
    ("`miniflow list` ÷ `python -c pass`", "3", "2", "list", "{:.2f}"),
    ("scheduling decision per task at 1,000 tasks, µs", "4", "1.5", "scheduler-1000", "{:.2f}"),
    ("scheduling decision per task at 1,000,000 tasks, µs", "4", "1.5", "scheduler-1000000", "{:.2f}"),
)


def targets(results: Sequence[Result]) -> Result:
    """Return the targets beside what was measured of them."""
    figures = {name: figure for result in results for name, figure in result.figures.items()}
    rows = [
        (label, must, stretch, form.format(figures[name])) for label, must, stretch, name, form in TARGETS if name in figures
    ]
    return Result("targets", "What is aimed at, and what is there?", ("", "must", "stretch", "measured"), rows)


def seconds(figures: Spread) -> str:
    """Return the median of some times."""
    return f"{figures.median:.3f}" if figures.median < 10 else f"{figures.median:.1f}"


def with_ends(figures: Spread, digits: int = 2) -> tuple[str, str]:
    """Return a median, and between what the figures lie."""
    return f"{figures.median:.{digits}f}", f"{figures.least:.{digits}f}–{figures.most:.{digits}f}"


def as_text(result: Result) -> str:
    """Return the table for a terminal."""
    table = [result.columns, *result.rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(result.columns))]
    lines = [f"{result.name}: {result.question}"]
    for row in table:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(("", first, *others)).rstrip())
    return "\n".join([*lines, *(f"  {remark}" for remark in result.remarks)])


def as_markdown(result: Result, made: str) -> str:
    """Return the table for a page; `made` says when and how."""
    lines = [
        "| " + " | ".join(result.columns) + " |",
        "|" + "|".join("---" if column == 0 else "--:" for column in range(len(result.columns))) + "|",
        *("| " + " | ".join(row) + " |" for row in result.rows),
    ]
    return "\n".join([*lines, "", *result.remarks, *([""] if result.remarks else []), f"*{made}*"])


def write_page(path: Path, tables: Mapping[str, str]) -> None:
    """Put tables into a page, each between its marks.

    Raises:
        ValueError: The page has no place for one.
    """
    page = path.read_text()
    for name, table in tables.items():
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->\n")
        if not end:
            raise ValueError(f"{path} has no place for {name}")
        page = "".join((before, begin, "\n", table, "\n\n", end, after))
    path.write_text(page)
