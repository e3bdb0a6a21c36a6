"""Seconds, as people write them: `90`, `"1m30s"`, `"500ms"`, `"2h"`."""

from __future__ import annotations

import re

_TEXT = re.compile(
    r"(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?!s))?(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+)ms)?", re.ASCII
)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}

MAX_S = 366 * 86400
"""A year: more is a slip of the keyboard, and more than a shell can wait for in one go."""


def parse_duration(value: float | str) -> float | None:
    """Return seconds, rounded to milliseconds; None if it is no duration from 0 to a year."""
    if isinstance(value, str):
        match = _TEXT.fullmatch(value.strip()) if len(value) <= 40 else None
        if not match or not match[0]:
            return None
        seconds = sum(float(number) * _SECONDS[unit] for unit, number in match.groupdict().items() if number)
    else:
        seconds = float(value) if abs(value) <= MAX_S else -1
    return round(seconds, 3) if 0 <= seconds <= MAX_S else None


def format_seconds(seconds: float) -> str:
    """Return the shortest decimal text of so many seconds, to the millisecond: `90`, `0.25`."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
