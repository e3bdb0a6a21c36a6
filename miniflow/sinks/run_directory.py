"""Writes the run directory while a run goes on: journal, per-task logs, exit statuses, summary."""

from __future__ import annotations

import json
import os

from miniflow.events import (
    AttemptEvent,
    OutputChunk,
    RunFinished,
    TaskFinished,
    TaskOutput,
    TaskRetrying,
)
from miniflow.rundir import Record, RunDir, write_all, write_atomically, writing
from miniflow.sinks import Item
from miniflow.sinks.json_lines import JsonRenderer


class RunDirectorySink:
    """Records a run; closes its files when the run has finished.

    Nothing is kept back: an event is in the journal when `emit` returns, and a status file is there only after its event.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._renderer = JsonRenderer()
        self._record = Record()
        self._logs: dict[str, int] = {}
        self._unwritten: dict[str, bytes] = {}
        """What a task's log begins with once there is something worth a file: a silent task that succeeds has none."""
        with writing(run_dir.journal):
            self._journal = os.open(run_dir.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    @property
    def record(self) -> Record:
        """What has been recorded so far."""
        return self._record

    def emit(self, item: Item) -> None:
        """See `Sink.emit`."""
        rendered = self._renderer.render(item)
        if isinstance(item, OutputChunk):
            self._write_log(item.template.task_id, rendered)
            return
        if isinstance(item, AttemptEvent):
            worth_a_file = isinstance(item, TaskOutput | TaskRetrying) or (
                isinstance(item, TaskFinished) and item.state != "succeeded"
            )
            if worth_a_file or item.task_id in self._logs:
                self._write_log(item.task_id, rendered)
            else:
                self._unwritten[item.task_id] = self._unwritten.get(item.task_id, b"") + rendered
        if isinstance(item, TaskOutput):
            return
        with writing(self._run_dir.journal):
            write_all(self._journal, rendered)
        self._record.apply(item.to_dict())
        if isinstance(item, TaskFinished):
            self._close_log(item.task_id)
            write_atomically(self._run_dir.status(item.task_id), b"%d\n" % item.exit_status)
        elif isinstance(item, RunFinished):
            summary = self._record.summary(item.flow, item.run_id)
            write_atomically(self._run_dir.summary, json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        """Close all files; the record stays readable."""
        for task_id in list(self._logs):
            self._close_log(task_id)
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1

    def _write_log(self, task_id: str, rendered: bytes) -> None:
        path = self._run_dir.log(task_id)
        with writing(path):
            if task_id not in self._logs:
                self._logs[task_id] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
                rendered = self._unwritten.pop(task_id, b"") + rendered
            write_all(self._logs[task_id], rendered)

    def _close_log(self, task_id: str) -> None:
        self._unwritten.pop(task_id, None)
        descriptor = self._logs.pop(task_id, None)
        if descriptor is not None:
            os.close(descriptor)
