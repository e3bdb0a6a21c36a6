"""Seconds, as people write them: `90`, `"1m30s"`, `"500ms"`, `"2h"`."""

from __future__ import annotations

import re

# Compiled when they are used: most flows have no durations.
TEXT = (
    r"(?:(?P<d>[0-9]+)d)?(?:(?P<h>[0-9]+)h)?(?:(?P<m>[0-9]+)m(?!s))?"
    r"(?:(?P<s>[0-9]+(?:\.[0-9]+)?)s)?(?:(?P<ms>[0-9]+)ms)?"
)
MAX_TEXT_LENGTH = 40
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}

MAX_S = 366 * 86400
"""A year: more is a slip of the keyboard, and more than a shell can wait for in one go."""


def parse_duration(value: float | str, most_s: float = MAX_S) -> float | None:
    """Return seconds, rounded to milliseconds; None if it is no duration, or longer than that."""
    if isinstance(value, str):
        match = re.fullmatch(TEXT, value.strip()) if len(value) <= MAX_TEXT_LENGTH else None
        if not match or not match[0]:
            return None
        seconds = sum(float(number) * _SECONDS[unit] for unit, number in match.groupdict().items() if number)
    else:
        seconds = float(value) if abs(value) <= most_s else -1
    return round(seconds, 3) if 0 <= seconds <= most_s else None


def read_duration(text: str, most_s: float = MAX_S) -> float | None:
    """Return the seconds of a text in which a bare number counts as seconds, as options and variables have it."""
    is_number = len(text) <= MAX_TEXT_LENGTH and re.fullmatch(_NUMBER, text)
    return parse_duration(float(text) if is_number else text, most_s)


def format_duration(seconds: float) -> str:
    """Return seconds as people write them, to the millisecond: `1m30s`, `2h`, `1.5s`, `500ms`."""
    rest = round(seconds * 1000)
    text = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    if 0 < rest < 1000:
        return f"{text}{rest}ms"
    return f"{text}{format_seconds(rest / 1000)}s" if rest or not text else text


def format_elapsed(seconds: float) -> str:
    """Return seconds as a clock shows them, in two units at most: `3.4s`, `12s`, `1m05s`, `2h03m`, `1d04h`."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    for unit, size, smaller, smaller_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller_size:02d}{smaller}"
    return f"{whole}s"


def format_measured(seconds: float) -> str:
    """Return seconds as they are told of what has happened: `0.52 s`, and from a minute on as a clock shows them."""
    return f"{max(seconds, 0):.2f} s" if seconds < 59.995 else format_elapsed(seconds)


def differ_notably(before_s: float, after_s: float) -> bool:
    """Return whether what took so long has changed by more than runs of one thing differ: by a fifth, and 0.1 s at least."""
    return abs(after_s - before_s) >= max(0.1, 0.2 * before_s)


def format_seconds(seconds: float) -> str:
    """Return the shortest decimal text of so many seconds, to the millisecond: `90`, `0.25`."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
