"""Rows of words → lines of a table, in colours or without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from miniflow.sinks.console import harmless

STATE_COLORS: Mapping[str, str] = {
    "succeeded": "32",
    "failed": "31",
    "interrupted": "31",
    "cancelled": "33",
    "skipped": "33",
    "running": "36",
    "retrying": "36",
    "pending": "2",
}
"""The states of runs and tasks, by the codes that a terminal takes for their colours."""
HEADING = "1"


def colored(text: str, code: str | None, *, colors: bool) -> str:
    """Return the text in a colour."""
    return f"\x1b[{code}m{text}\x1b[0m" if colors and code and text else text


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, colors: bool = False, right: Sequence[str] = ()
) -> list[str]:
    """Return the lines of a table, its columns as wide as their longest word.

    Args:
        headings: Above the columns.
        rows: What stands in them; made harmless for terminals.
        colors: Whether states have colours.
        right: The headings of the columns that are aligned to the right.
    """
    cells = [[harmless(word) for word in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    lines = []
    for row in (headings, *cells):
        is_heading = row is headings
        line = ""
        gap = ""
        for word, width, heading in zip(row, widths, headings, strict=True):
            padding = " " * (width - len(word))
            shown = colored(
                word, HEADING if is_heading else STATE_COLORS.get(word) if heading == "STATE" else None, colors=colors
            )
            line += gap + (padding + shown if heading in right else shown + padding)
            gap = "  "
        lines.append(line.rstrip())
    return lines
