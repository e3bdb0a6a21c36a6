"""Names where there is little room."""

from __future__ import annotations

from collections.abc import Sequence


def shortened(text: str, most: int, mark: str = "…") -> str:
    """Return a text of so many characters at most: of a longer one the beginning and the end, in which names often differ."""
    if len(text) <= most:
        return text
    end = (most - len(mark)) // 2
    return f"{text[: most - len(mark) - end]}{mark}{text[len(text) - end :]}"


def series(names: Sequence[str], most: int, mark: str = "…") -> str:
    """Return the names, one after the other; of more than so many the first and the last."""
    return ", ".join(names) if len(names) <= most else f"{names[0]} {mark} {names[-1]} ({len(names)} tasks)"
