"""Writes the run directory while a run goes on: journal, per-task logs, exit statuses, summary."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from miniflow.documents import document_parts
from miniflow.errors import OutputError
from miniflow.events import (
    AttemptEvent,
    Event,
    OutputChunk,
    RunFinished,
    TaskFinished,
    TaskOutput,
    TaskRetrying,
    TaskReused,
)
from miniflow.files import close_kept, keep_from_forks, tick_ns, unwritten, write_atomically, writing
from miniflow.journal import lock_journal, unlock
from miniflow.rundir import Record, RunDir
from miniflow.sinks import Item
from miniflow.sinks.json_lines import JsonRenderer, Rendered

_Looks: TypeAlias = tuple[int, int, int, int]


class RunDirectorySink:
    """Records a run; closes its files when the run has finished.

    Nothing is kept back: an event is in the journal when `emit` returns, and a status file is there only after its event.
    The journal is locked from its beginning until `close`: that tells whoever reads it that its writer lives.
    """

    def __init__(self, run_dir: RunDir, renderer: JsonRenderer) -> None:
        self._run_dir = run_dir
        self._renderer = renderer
        self._record = Record()
        self._logs: dict[str, _Lines] = {}
        self._unwritten: dict[str, bytes | bytearray] = {}
        """What a task's log begins with once there is something worth a file: a silent task that succeeds has none."""
        self._statuses = _Statuses(run_dir)
        self._journal = _Journal(run_dir.journal)

    @property
    def record(self) -> Record:
        """What has been recorded so far."""
        return self._record

    def emit(self, *items: Item) -> None:
        """See `Sink.emit`. What belongs in the journal is written there at once."""
        first_error: OutputError | None = None
        rendered = [self._renderer.render_item(item) for item in items]
        try:
            for each in rendered:
                try:
                    self._log(each.item, each.lines)
                except OutputError as error:  # raised below
                    first_error = first_error or error
        finally:  # a log that cannot be written is no reason to lose the truth
            self._note([each for each in rendered if isinstance(each.item, Event) and not isinstance(each.item, TaskOutput)])
        if first_error is not None:
            raise first_error

    def _log(self, item: Item, rendered: bytes | bytearray) -> None:
        if isinstance(item, OutputChunk):
            self._write_log(item.template.task_id, rendered)
            return
        if not isinstance(item, AttemptEvent):
            return
        worth_a_file = isinstance(item, (TaskOutput, TaskRetrying)) or (
            isinstance(item, TaskFinished) and item.state != "succeeded"
        )
        if worth_a_file or item.task_id in self._logs:
            self._write_log(item.task_id, rendered)
        else:
            before = self._unwritten.get(item.task_id)
            self._unwritten[item.task_id] = rendered if before is None else before + rendered

    def _note(self, events: Sequence[Rendered]) -> None:
        """Write events to the journal, and do what follows from each that is there, whole."""
        first_error: OutputError | None = None
        while events:
            there, rest = events, events[:0]
            try:
                self._journal.append(events[0].lines if len(events) == 1 else b"".join([event.lines for event in events]))
            except OutputError as error:
                first_error = first_error or error
                missing = self._journal.missing_bytes
                while missing > 0 and there:  # what ends a torn line may be missing besides
                    missing -= len(there[-1].lines)
                    there = there[:-1]
                rest = events[len(there) + 1 :]  # one is torn; those behind it may still be written
            for event in there:
                self._record.apply(event.fields)
            for event in there:
                try:
                    self._follow(event.item)
                except OutputError as error:  # of one task, and the others are to have their statuses all the same
                    first_error = first_error or error
            events = rest
        if first_error is not None:
            raise first_error

    def _follow(self, item: Item) -> None:
        """Do what follows from an event once it is in the journal."""
        if isinstance(item, TaskFinished):
            self._close_log(item.task_id, check=True)
            self._statuses.write(item.task_id, item.exit_status)
        elif isinstance(item, TaskReused):
            self._statuses.write(item.task_id, 0)
        elif isinstance(item, RunFinished):
            self._journal.check()
            head = self._record.summary(item.flow, item.run_id)
            write_atomically(self._run_dir.summary, document_parts(head, self._record.tasks))

    def close(self) -> None:
        """Close all files; the record stays readable."""
        try:
            for task_id in list(self._logs):
                self._close_log(task_id)
        finally:
            self._journal.close()

    def _write_log(self, task_id: str, rendered: bytes | bytearray) -> None:
        log = self._logs.get(task_id)
        if log is None:
            log = self._logs[task_id] = _Lines(self._run_dir.log(task_id))
            rendered = self._unwritten.pop(task_id, b"") + rendered
        log.append(rendered)

    def _close_log(self, task_id: str, *, check: bool = False) -> None:
        self._unwritten.pop(task_id, None)
        log = self._logs.pop(task_id, None)
        if log is not None:
            try:
                if check:
                    log.check()
            finally:
                log.close()


class _Lines:
    """A file that lines are appended to. A line that was written in part alone does not spoil the next one.

    Raises:
        OutputError: From each method: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_torn = False
        self.missing_bytes = 0
        """How much of what was appended last is not there."""
        with writing(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def check(self) -> None:
        """See that what was written can still be read: a task may have removed the file, which no write tells."""
        with writing(self._path):
            ours, found = os.fstat(self._descriptor), os.stat(self._path)
            if not os.path.samestat(ours, found):
                raise OSError(errno.ESTALE, "another file has taken its place")

    def append(self, lines: bytes | bytearray) -> None:
        if self._is_torn:
            lines = b"\n" + lines
        self._is_torn = True
        self.missing_bytes = len(lines)
        try:
            self.missing_bytes -= os.write(self._descriptor, lines)
            while self.missing_bytes:  # a disk that is getting full takes less than all
                self.missing_bytes -= os.write(self._descriptor, memoryview(lines)[-self.missing_bytes :])
        except OSError as error:
            raise unwritten(self._path, error) from error
        self._is_torn = False

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with writing(self._path):  # here a network's file system says that it is full
                os.close(descriptor)


class _Journal(_Lines):
    """The file that is locked while it is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        keep_from_forks(self._descriptor)
        try:
            with writing(path):
                lock_journal(self._descriptor)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # closing does the same, but for a child that is forked in this very moment
                unlock(descriptor)
            with writing(self._path):
                close_kept(descriptor)


class _Statuses:
    """Writes exit statuses, each a file, whole from the moment that it is there.

    One with the content of an earlier one is a link to that: to make a file takes a disk's file system up to half a
    millisecond, longer than all that we do for a task besides.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._folder = str(run_dir.statuses)  # text: to make a path of it takes as long as to make the link
        self._written: dict[int, str] = {}
        """By exit status, a file that has it."""
        self._looks: dict[int, _Looks] = {}
        """By exit status, what that file looks like, if it can be known again by its looks."""

    def write(self, task_id: str, exit_status: int) -> None:
        """Write the status of a task.

        Raises:
            OutputError: It cannot be written.
        """
        path = f"{self._folder}/{task_id}"
        content = b"%d\n" % exit_status
        try:
            earlier = self._written[exit_status]
            if self._is_intact(exit_status, earlier, content):
                os.link(earlier, path)
                return
        except (KeyError, OSError):
            pass  # the first one; or the earlier one has as many links as it can have, or was removed; or here are no links
        write_atomically(Path(path), content)
        self._written[exit_status] = path

    def _is_intact(self, exit_status: int, path: str, content: bytes) -> bool:
        """Return whether a file is as we made it: a task may have written to it, and not to a file of its own as we do."""
        stat = os.stat(path)
        looks = stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns  # not when it was changed: each link is a change
        if looks == self._looks.get(exit_status):
            return True
        began_ns = time.time_ns()
        if _content(path) != content:
            return False
        if began_ns - stat.st_mtime_ns > tick_ns(stat):
            self._looks[exit_status] = looks
        return True


def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 16)
    finally:
        os.close(descriptor)
