"""What the tasks of a run have printed, read back in the order in which it was recorded, of a run that goes on as well.

A log is read in pieces, and no file stays open: neither the size of a log nor the number of tasks that ran at once matters to
the memory or the descriptors. Logs of the bash script, which hold the bytes alone, are cut into lines as the scheduler does.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from miniflow.errors import MiniFlowError
from miniflow.events import Stream
from miniflow.files import open_file
from miniflow.journal import JournalReader
from miniflow.lines import LineSplitter
from miniflow.rundir import RunDir
from miniflow.values import dataclass

CHUNK_BYTES = 64 * 1024
_ENDS = frozenset({"task.finished", "task.skipped", "task.cancelled", "task.reused"})
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What comes of decoding what is torn, or damaged; of bytes in a string that are not UTF-8 the second."""


class PrintedLine(msgspec.Struct):
    """An event of a log; of `task.output` all that is shown."""

    timestamp: str = ""
    event: str = ""
    message: str = ""
    attempt: int = 1
    stream: Stream = "stdout"
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the lines are wanted."""

    stream: Stream | None = None
    """None: of both."""
    attempt: int | None = None
    """None: of all."""


EVERYTHING = Choice()


@dataclass(frozen=True, slots=True)
class Printed:
    """Lines that stand one after the other in the log of a task."""

    task_id: str
    lines: Sequence[PrintedLine]
    recorded: Sequence[bytes]
    """The same as they stand in the log: event by event, or of the bash script's just as it was read."""
    are_events: bool = True
    """Whether the log is one of the scheduler, and not of the bash script."""


class Tail:
    """What is appended to a file, in pieces; the file is there or will be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> bytes:
        """Return what comes next; nothing: there is no more for now.

        Raises:
            MiniFlowError: It cannot be read.
        """
        try:
            with open_file(self._path) as file:
                data = os.pread(file.fileno(), CHUNK_BYTES, self._offset)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise MiniFlowError(f"cannot read {self._path}: {error.strerror}") from error
        self._offset += len(data)
        return data


class LineTail:
    """The lines that are appended to a file, when they are whole."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self._rest = b""

    def read(self) -> list[bytes]:
        """Return the lines that come next; none: there is no more for now."""
        while data := self._tail.read():
            whole, newline, rest = data.rpartition(b"\n")
            if newline:
                lines = (self._rest + whole).split(b"\n")
                self._rest = rest
                return lines
            self._rest += rest
        return []


class _EventLog:
    """The log of a task by the scheduler: its events, one a line."""

    def __init__(self, run_dir: RunDir, task_id: str, began: str, choice: Choice) -> None:
        self.task_id = task_id
        self.began = began
        self._choice = choice
        self._tail = LineTail(run_dir.log(task_id))
        self._lines: list[PrintedLine] = []
        self._recorded: list[bytes] = []
        self._next = 0
        self.is_complete = False
        """Whether nothing will be added any more."""

    def next_timestamp(self) -> str | None:
        """Return when the next line was recorded; None: there is none for now."""
        while self._next == len(self._lines):
            if not self._read():
                return None
        return self._lines[self._next].timestamp

    def take(self, until: str | None) -> Printed:
        """Return lines up to that time, but for those that are not read yet; at least one, if there is one."""
        lines, start = self._lines, self._next
        end = len(lines)
        if until is not None and lines[-1].timestamp > until:
            end = start + 1
            while lines[end].timestamp <= until:
                end += 1
        self._next = end
        return Printed(self.task_id, lines[start:end], self._recorded[start:end])

    def _read(self) -> bool:
        found = self._tail.read()
        self._lines, self._recorded, self._next = [], [], 0
        stream, attempt = self._choice.stream, self._choice.attempt
        for recorded in found:
            try:
                line = _decode_line(recorded)
            except _UNREADABLE:
                continue
            if line.event == "task.output" and stream in (None, line.stream) and attempt in (None, line.attempt):
                self._lines.append(line)
                self._recorded.append(recorded)
        return bool(found)


class _PlainLog:
    """The log of a task by the bash script: the bytes that it printed; all of one time, as nothing runs beside it."""

    def __init__(self, run_dir: RunDir, task_id: str, began: str) -> None:
        self.task_id = task_id
        self.began = began
        self._tail = Tail(run_dir.path / "logs" / f"{task_id}.log")
        self._splitter = LineSplitter()
        self._data = b""
        self._is_at_end = False
        self.is_complete = False

    def next_timestamp(self) -> str | None:
        """See `_EventLog`."""
        self._data = self._data or self._tail.read()
        return self.began if self._data or (self.is_complete and not self._is_at_end) else None

    def take(self, until: str | None) -> Printed:
        """See `_EventLog`; a line without an end is in what was recorded, and not in the lines yet."""
        data, self._data = self._data, b""
        self._is_at_end = not data
        return self._printed(self._splitter.feed(data) if data else self._splitter.end(), data)

    def _printed(self, groups: Iterable[tuple[str, bool]], data: bytes) -> Printed:
        lines = [
            PrintedLine(self.began, "task.output", line, partial=part) for text, part in groups for line in text.split("\n")
        ]
        return Printed(self.task_id, lines, [data], are_events=False)


Log: TypeAlias = _EventLog | _PlainLog

_decode_line = msgspec.json.Decoder(PrintedLine).decode


def in_order(logs: Iterable[Log]) -> Iterator[Printed]:
    """Yield what the logs hold that was not read yet, in the order of its timestamps; of one time, in the order given.

    A log is looked at when the time has come at which its task began: what is held in memory is that of tasks that ran at once.
    """
    waiting = deque(sorted(enumerate(logs), key=lambda item: item[1].began))
    reading: list[tuple[str, int, Log]] = []
    while waiting or reading:
        while waiting and (not reading or waiting[0][1].began <= reading[0][0]):
            place, log = waiting.popleft()
            if (timestamp := log.next_timestamp()) is not None:
                heappush(reading, (timestamp, place, log))
        if not reading:
            continue
        _, place, log = heappop(reading)
        until = min((item for item in (reading and reading[0][0], waiting and waiting[0][1].began) if item), default=None)
        while (timestamp := log.next_timestamp()) is not None:
            if until is not None and timestamp > until:
                heappush(reading, (timestamp, place, log))
                break
            yield log.take(until)


class RunLogs:
    """The logs of a run, or of one of its tasks; to be closed.

    Args:
        run_dir: Of the run.
        task_id: None: of all tasks.
        choice: Which lines; of logs of the bash script all.

    Raises:
        MiniFlowError: There is no journal.
    """

    def __init__(self, run_dir: RunDir, task_id: str | None = None, choice: Choice = EVERYTHING) -> None:
        self._run_dir = run_dir
        self._task_id = task_id
        self._choice = choice
        self._journal = JournalReader(run_dir.journal)
        self._open: dict[str, Log] = {}
        self._ended: set[str] = set()
        self._run_has_ended = False
        self.is_interrupted = False
        """Whether the runner has died, as far as was read."""

    def __enter__(self) -> RunLogs:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def read(self) -> Iterator[Printed]:
        """Yield what was recorded since the last time, in order.

        Raises:
            MiniFlowError: It cannot be read.
        """
        is_live = self._journal.has_writer()  # before it is read: the writer may come to the end meanwhile
        for event in self._journal.read():
            self._note(event)
        self.is_interrupted = not (is_live or self._run_has_ended)
        for task_id, log in self._open.items():
            log.is_complete = self.is_over or task_id in self._ended
        yield from in_order(self._open.values())
        self._open = {task_id: log for task_id, log in self._open.items() if not log.is_complete}

    @property
    def is_over(self) -> bool:
        """Whether no more will come than what was read."""
        return self._run_has_ended or self.is_interrupted or self._task_id in self._ended

    def _note(self, event: Mapping[str, Any]) -> None:
        name, task_id = event.get("event"), event.get("task_id")
        if name == "run.finished":
            self._run_has_ended = True
        elif isinstance(task_id, str) and self._task_id in (None, task_id):
            if name == "task.started" and task_id not in self._open:
                began = str(event.get("timestamp"))
                if has_plain_logs(self._run_dir):
                    self._open[task_id] = _PlainLog(self._run_dir, task_id, began)
                else:
                    self._open[task_id] = _EventLog(self._run_dir, task_id, began, self._choice)
            elif name in _ENDS:
                self._ended.add(task_id)


def has_plain_logs(run_dir: RunDir) -> bool:
    """Return whether a run is one of the bash script, whose logs hold what the tasks printed and nothing else.

    Raises:
        MiniFlowError: There is no journal.
    """
    try:
        has_begun = run_dir.journal.stat().st_size > 0
    except OSError as error:
        raise MiniFlowError(f"{run_dir.path} is no run directory: {error.strerror}: {run_dir.journal.name}") from error
    return has_begun and not os.path.exists(run_dir.plan)  # the scheduler writes the plan before the first event
