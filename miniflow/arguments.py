"""What the texts of a command line's options mean: worker limits, durations, parameters."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from miniflow.durations import MAX_S, read_duration
from miniflow.errors import UsageError
from miniflow.expand import parse_params
from miniflow.suggest import quoted

# Tasks get less than 128 KiB of them; white space and escapes take room as well.
MAX_PARAMS_BYTES = 16 * 1024 * 1024


def read_parallel(text: str) -> int:
    """Return the worker limit of `--parallel`; for `auto` the number of processors that this process may use.

    Raises:
        UsageError: It is neither `auto` nor a whole number from 1.
    """
    if text == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0:
        return int(text)
    raise UsageError(f"--parallel must be a whole number from 1, or auto, not {text!r}")


def read_seconds(option: str, text: str, least: float = 0, most: float = MAX_S) -> float:
    """Return the seconds of an option that is a duration.

    Raises:
        UsageError: It is none from `least` to `most`, which is a year or without a limit.
    """
    seconds = read_duration(text, most)
    if seconds is None or seconds < least:
        above = " above 0" if least else ""
        below = ", at most a year" if most == MAX_S else ""
        raise UsageError(f"{option} must be a duration{above} like 5, 500ms or 1m30s{below}, not {quoted(text)}")
    return seconds


def read_limited(file: BinaryIO) -> bytes:
    """Return all that a file holds; a little more than can be parameters, if it holds more (or never ends)."""
    return file.read(MAX_PARAMS_BYTES + 1)


def read_params(text: str) -> dict[str, Any]:
    """Return the parameters of `--params`: JSON text, a file's path, or `-` for standard input.

    Raises:
        UsageError, ParamsError: It is none of these.
    """
    if text == "-":
        return parse_params(read_limited(sys.stdin.buffer), "standard input")
    if text.lstrip()[:1] in ("{", "[", '"', ""):
        return parse_params(text.encode("utf-8", "surrogateescape"), "--params")
    try:
        with Path(text).open("rb") as file:
            data = read_limited(file)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f'--params {quoted(text)} is neither a JSON object like \'{{"date": "2023-01-01"}}\' nor a file: {why}'
        ) from None
    return parse_params(data, text)


def plan_options(
    *,
    params: str | None,
    keep_going: bool,
    only: tuple[str, ...],
    from_: tuple[str, ...],
    until: tuple[str, ...],
    grace: str,
    timeout: str | None,
    python: str | None,
) -> dict[str, Any]:
    """Return what the options were given as the arguments of `plan_flow`.

    Raises:
        UsageError, ParamsError: One of them makes no sense.
    """
    return {
        "params": read_params(params) if params is not None else None,
        "keep_going": keep_going,
        "only": only or None,
        "from_": from_ or None,
        "until": until or None,
        "grace": read_seconds("--grace", grace),
        "timeout": read_seconds("--timeout", timeout, least=0.001) if timeout is not None else None,
        "python": os.path.abspath(python) if python and "/" in python else python,
    }
