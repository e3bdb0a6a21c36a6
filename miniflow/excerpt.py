"""The line of a file that a message is about, with a mark under the place."""

from __future__ import annotations

import re
import unicodedata

from miniflow.sinks.console import harmless

TAB = "    "
# A string, a word or a number, or one sign: what is underlined as a whole.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[^\s"{}\[\],:]+|.')


def excerpt(line: str, number: int, column: int, width: int) -> tuple[str, str]:
    """Return a line of a file, and the marks that stand below it, both of at most `width` cells of a terminal.

    Args:
        line: The line, without its end.
        number: Its number.
        column: Where on it the place is, from 1, in characters; behind its end it is where something is missing.
        width: How much room there is. Of a line that is longer, what is around the place is shown.
    """
    gutter = f"{number:>5} │ "
    room = max(width - len(gutter), 16)
    at = min(column - 1, len(line))
    token = _TOKEN.match(line, at, at + room)
    # So many characters take at least as many cells as there are, but for those that combine with others.
    start = max(at - room, 0)
    before = [_shown(character) for character in line[start:at]]
    after = [_shown(character) for character in line[at : at + room]]
    marked = sum(map(_cells, after[: len(token[0])])) if token else 1
    room_before = max(room // 2, room - sum(map(_cells, after)))
    head, left = _fitted(before[::-1], room_before, start > 0)
    before = head[::-1]
    room_after = room - sum(map(_cells, before)) - left
    after, right = _fitted(after, room_after, len(line) > at + room)
    text = "…" * left + "".join(before) + "".join(after) + "…" * right
    indent = " " * (left + sum(map(_cells, before)))
    marks = "^" * max(min(marked, sum(map(_cells, after))), 1)
    return (gutter + text).rstrip(), f"{'':>5} │ {indent}{marks}"


def _fitted(parts: list[str], room: int, is_cut: bool) -> tuple[list[str], bool]:
    """Return as many parts as there is room for, and whether they are not all: then there is room for one cell more."""
    used = 0
    ends = [used := used + _cells(part) for part in parts]
    if not is_cut and used <= room:
        return parts, False
    return [part for part, end in zip(parts, ends, strict=True) if end < room], True


def _shown(character: str) -> str:
    return TAB if character == "\t" else harmless(character)


def _cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
