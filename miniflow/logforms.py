"""What tasks have printed → what `miniflow logs` writes: for people, as it was, or as it was recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import TypeAlias

from miniflow.lines import LEAST_PART_BYTES, MAX_LINE_BYTES
from miniflow.logs import Printed, PrintedLine
from miniflow.sinks.console import lines_after

Form: TypeAlias = Callable[[Printed], bytes]

_ESCAPED = re.compile(r"\\x[89a-f][0-9a-f]")
_RED, _PLAIN = "\x1b[31m", "\x1b[0m"


def as_recorded(printed: Printed) -> bytes:
    """Return the events as they stand in the log."""
    return b"\n".join([*printed.recorded, b""])


class AsEvents:
    """What stands in logs of the bash script, as events: with null for what these do not tell.

    Args:
        flow: The run's.
        run_id: Likewise.
    """

    def __init__(self, flow: str, run_id: str) -> None:
        self._flow = flow
        self._run_id = run_id

    def __call__(self, printed: Printed) -> bytes:
        """Return the text of lines."""
        return b"".join([self._event(printed.task_id, line) for line in printed.lines])

    def _event(self, task_id: str, line: PrintedLine) -> bytes:
        event = {
            "timestamp": None,
            "level": "info",
            "event": line.event,
            "message": line.message,
            "flow": self._flow,
            "run_id": self._run_id,
            "task_id": task_id,
            "attempt": None,
            "stream": None,
            **({"partial": True} if line.partial else {}),
        }
        return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class ForPeople:
    """Lines that are harmless to a terminal, which the tasks' names may stand before.

    Args:
        has_names: Whether they do.
        marks_stderr: Whether to tell what was printed on standard error, by the bar after the name.
        has_colors: Whether to tell it by a colour as well.
    """

    def __init__(self, *, has_names: bool, marks_stderr: bool, has_colors: bool) -> None:
        self._has_names = has_names
        self._marks_stderr = marks_stderr
        self._has_colors = has_colors

    def __call__(self, printed: Printed) -> bytes:
        """Return the text of lines."""
        if not printed.lines:
            return b""
        if not self._marks_stderr:
            return self._text(printed.task_id, "│", printed.lines).encode()
        text = ""
        for stream, lines in groupby(printed.lines, key=_stream):
            if stream == "stdout":
                text += self._text(printed.task_id, "│", lines)
            elif not self._has_colors:
                text += self._text(printed.task_id, "┃", lines)
            else:
                plain = self._text(printed.task_id, "┃", lines)
                text += "".join([f"{_RED}{line}{_PLAIN}\n" for line in plain.removesuffix("\n").split("\n")])
        return text.encode()

    def _text(self, task_id: str, bar: str, lines: Iterable[PrintedLine]) -> str:
        return lines_after(f"{task_id} {bar} " if self._has_names else "", "\n".join([line.message for line in lines]))


class Raw:
    """What was printed: lines as they were, and long ones, which were recorded in parts, as one again."""

    def __init__(self) -> None:
        self._unended: set[tuple[str, int, str]] = set()
        """Streams, by task and attempt, whose last part seems to be followed by another."""

    def __call__(self, printed: Printed) -> bytes:
        """Return the text of lines."""
        if not printed.are_events:
            return b"".join(printed.recorded)
        parts = []
        for line in printed.lines:
            stream = printed.task_id, line.attempt, line.stream
            if self._unended and stream in self._unended and not line.partial:
                self._unended.remove(stream)  # its last part was as long as the others
                parts.append("\n")
            parts.append(line.message)
            if line.partial and _may_go_on(line.message):
                self._unended.add(stream)
            else:
                self._unended.discard(stream)
                parts.append("\n")
        return "".join(parts).encode()

    def end(self) -> bytes:
        """Return what is missing when nothing more will come."""
        return b"\n" * len(self._unended)


def _stream(line: PrintedLine) -> str:
    return line.stream


def _may_go_on(part: str) -> bool:
    """Return whether a part of a long line is as long as one that is not the last.

    What was no UTF-8 stands as an escape in the part, for one byte; but the task may have printed just these four characters.
    """
    most = len(part.encode())
    least = most - 3 * len(_ESCAPED.findall(part))
    return any(LEAST_PART_BYTES <= size <= MAX_LINE_BYTES for size in (least, most))
