"""The last lines of a task's log, read from its end: as quick for a log of a gibibyte as for one of ten lines."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

from miniflow.rundir import RunDir
from miniflow.values import dataclass

_WINDOW = 32 * 1024
"""What is read at first; it is doubled as long as there is too little in it."""
_WIDEST_WINDOW = 1024 * 1024
_CUT = "…"


@dataclass(frozen=True, slots=True)
class TailLine:
    """A line that a task has printed."""

    text: str
    """As recorded, without its end of line: whoever shows it makes it harmless."""
    stream: str | None = None
    """`stdout` or `stderr`; None in a run of the bash script, whose logs do not say."""
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a task's log."""

    path: Path
    """The whole log."""
    size: int
    """The whole log's, in bytes."""
    lines: tuple[TailLine, ...]
    is_whole: bool
    """Whether the task has printed nothing besides."""


def read_tail(run_dir: RunDir, task_id: str, *, most_lines: int, most_chars: int) -> Tail | None:
    """Return the last lines that a task has printed; None if it has no log.

    Args:
        run_dir: Of the run, by the scheduler or by the bash script.
        task_id: The task.
        most_lines: How many lines, of all attempts and streams together.
        most_chars: How many characters they have together; of a last line that is longer, its end is taken.

    Raises:
        OSError: There is a log that cannot be read.
    """
    if "/" in task_id or "\0" in task_id:  # no id of ours: a record that somebody else has written must not lead us elsewhere
        return None
    recorded = run_dir.log(task_id)
    for path, parse in ((recorded, _recorded), (recorded.with_name(f"{task_id}.log"), _raw)):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not keep us waiting
        except FileNotFoundError:
            continue
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return None
            lines, is_whole = _last_lines(descriptor, found.st_size, parse, most_lines)
        finally:
            os.close(descriptor)
        kept = _at_most(lines, most_lines, most_chars)
        return Tail(path, found.st_size, tuple(kept), is_whole and kept == lines)
    return None


def _last_lines(
    descriptor: int, size: int, parse: Callable[[bytes], TailLine | None], most_lines: int
) -> tuple[list[TailLine], bool]:
    """Return at least so many of the last lines, if there are so many within reach, and whether that is all."""
    window = _WINDOW
    while True:
        start = max(0, size - window)
        data = os.pread(descriptor, size - start, start)
        whole, _, torn = data.rpartition(b"\n")
        texts = whole.split(b"\n") if whole else []
        if start:
            del texts[:1]  # its beginning lies before the window
        if torn and parse is _raw:  # a task may end its output without an end of line; a journal's line is complete or nothing
            texts.append(torn)
        lines = [line for line in map(parse, texts) if line is not None]
        if start == 0 or len(lines) >= most_lines or window >= _WIDEST_WINDOW:
            return lines, start == 0
        window *= 2


def _recorded(line: bytes) -> TailLine | None:
    """Return what a line of a JSON log says that the task has printed, if that is what it is about."""
    if b'"task.output"' not in line:
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("event") != "task.output":
        return None
    attempt = event.get("attempt")
    return TailLine(str(event.get("message")), str(event.get("stream")), attempt if isinstance(attempt, int) else None)


def _raw(line: bytes) -> TailLine:
    return TailLine(line.decode(errors="backslashreplace"))


def _at_most(lines: list[TailLine], most_lines: int, most_chars: int) -> list[TailLine]:
    kept: list[TailLine] = []
    left = most_chars
    for line in reversed(lines[-most_lines:] if most_lines else []):
        if len(line.text) > left:
            if not kept and left > 0:
                kept.append(TailLine(_CUT + line.text[-left:], line.stream, line.attempt))
            break
        kept.append(line)
        left -= len(line.text)
    return kept[::-1]
