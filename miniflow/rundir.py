"""The run directory: its layout, atomic writes, and reading a run back.

Whoever reads a run reads its journal (`events.jsonl`) and trusts nothing else; the scheduler and the script write the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from miniflow.events import SCHEMA
from miniflow.files import writing
from miniflow.journal import JournalReader
from miniflow.results import RunResult, TaskResult
from miniflow.values import replace


class RunDir:
    """The paths of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def journal(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def script(self) -> Path:
        return self.path / "flow.sh"

    @property
    def summary(self) -> Path:
        return self.path / "run.json"

    def log(self, task_id: str) -> Path:
        return self.path / "logs" / f"{task_id}.jsonl"

    def find_log(self, task_id: str) -> Path | None:
        """Return the log of a task, whoever has written it: as JSON, or by the bash script as it is; None if there is none."""
        logs = (self.log(task_id), self.path / "logs" / f"{task_id}.log")
        return next((log for log in logs if os.path.isfile(log)), None)

    @property
    def statuses(self) -> Path:
        return self.path / "status"

    def become_latest(self) -> None:
        """Point the flow's `latest` here.

        Raises:
            OutputError: It cannot be written.
        """
        latest = self.path.with_name("latest")
        link = self.path.with_name(f".latest-{self.run_id}")
        with writing(latest):
            link.symlink_to(self.run_id)
            try:
                link.replace(latest)
            except OSError:
                link.unlink()
                raise


def create_run_dir(output_dir: Path, flow: str) -> RunDir:
    """Make the directory of a new run, for the user alone.

    Raises:
        OutputError: It cannot be made.
    """
    base = output_dir / flow
    with writing(base):
        base.mkdir(parents=True, exist_ok=True)
        while True:
            run_dir = RunDir(base / _new_run_id())
            try:
                run_dir.path.mkdir(mode=0o700)  # fails if another run has just made it: no two runs share one
                break
            except FileExistsError:
                continue
        (run_dir.path / "logs").mkdir()
        run_dir.statuses.mkdir()
    return run_dir


def _new_run_id() -> str:
    now = time.time_ns() // 1_000_000
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 1000)) + f".{now % 1000:03d}Z-{os.urandom(3).hex()}"


_ENDS = ("succeeded", "failed", "cancelled")
"""How a run ends, and a task that ran."""


class Record:
    """What is known of a run from its events, in the form of their JSON objects."""

    def __init__(self) -> None:
        self._run: dict[str, Any] = {}
        self._started_at: str | None = None
        self._finished_at: str | None = None
        self._tasks: dict[str, TaskResult] = {}
        self._resumed_from: str | None = None
        self.open_attempts: dict[str, tuple[int, int | None]] = {}
        """Tasks with an attempt whose end is not recorded: the pid and the start time of its process."""
        self.changed_scripts: dict[str, str | None] = {}
        """Tasks whose last attempt ran a script that was not the planned one any more, and what that came to."""

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """What is known of each task that something has happened to, as in `run.json`."""
        return _AsJson(self._tasks)

    @property
    def has_ended(self) -> bool:
        """Whether the run's end is recorded."""
        return bool(self._run)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event; what says nothing sensible, as on a damaged disk, is ignored."""
        name, task_id = event.get("event"), event.get("task_id")
        if isinstance(task_id, str):
            self._apply_to_task(task_id, name, event)
        elif name == "run.started":
            self._started_at = event.get("timestamp")
            self._resumed_from = event.get("resumed_from")
        elif name == "run.finished" and event.get("state") in _ENDS:
            self._finished_at = event.get("timestamp")
            of_run = ("state", "exit_status", "duration_s", "counts", "reused", "error")
            self._run = {key: event[key] for key in of_run if key in event}

    def _apply_to_task(self, task_id: str, name: object, event: Mapping[str, Any]) -> None:
        get = event.get
        if name == "task.started":
            self._tasks[task_id] = TaskResult(task_id, "running", attempts=get("attempt", 1))
            if isinstance(pid := get("pid"), int):
                start_time = get("start_time")
                self.open_attempts[task_id] = pid, start_time if isinstance(start_time, int) else None
            if self.changed_scripts:
                self.changed_scripts.pop(task_id, None)
            if "script_sha256" in event:
                self.changed_scripts[task_id] = event["script_sha256"]
            return
        if name == "task.finished" and get("state") in _ENDS:
            self._tasks[task_id] = TaskResult(
                task_id,
                event["state"],
                get("exit_status"),
                get("reason"),
                get("signal"),
                get("attempts", 0),
                get("duration_s"),
                None,
                get("error"),
            )
        elif name == "task.retrying":
            self._tasks[task_id] = TaskResult(
                task_id, "retrying", get("exit_status"), get("reason"), get("signal"), get("attempt", 1)
            )
        elif name == "task.skipped":
            self._tasks[task_id] = TaskResult(task_id, "skipped", reason=get("reason"))
        elif name == "task.cancelled":
            self._tasks[task_id] = TaskResult(task_id, "cancelled", reason=get("reason"))
        elif name == "task.reused":
            self._tasks[task_id] = TaskResult(task_id, "succeeded", 0, "reused", reused_from=get("reused_from"))
        else:
            return
        self.open_attempts.pop(task_id, None)

    def summary(self, flow: str, run_id: str) -> dict[str, Any]:
        """Return the content of `run.json`, but for the tasks."""
        return {
            "schema": SCHEMA,
            "flow": flow,
            "run_id": run_id,
            **({"resumed_from": self._resumed_from} if self._resumed_from else {}),
            "state": self._run.get("state", "running"),
            "exit_status": self._run.get("exit_status"),
            "started_at": self._started_at,
            "finished_at": self._finished_at,
            "duration_s": self._run.get("duration_s"),
            "counts": self._run.get("counts", {}),
            **({"error": self._run["error"]} if self._run.get("error") else {}),
            **({"reused": self._run["reused"]} if "reused" in self._run else {}),
        }

    def result(self, flow: str, run_dir: RunDir, *, has_writer: bool = True) -> RunResult:
        """Return the same as values; without a writer, what has not ended was interrupted."""
        tasks = self._tasks.copy()
        if not (has_writer or self._run):
            for task_id, task in self._tasks.items():
                if task.state in ("running", "retrying"):
                    tasks[task_id] = replace(task, state="interrupted")
        return RunResult(
            flow=flow,
            run_id=run_dir.run_id,
            run_dir=run_dir.path,
            state=self._run.get("state", "running" if has_writer else "interrupted"),
            exit_status=self._run.get("exit_status"),
            duration=self._run.get("duration_s"),
            tasks=tasks,
            error=self._run.get("error"),
            resumed_from=self._resumed_from,
        )


class _AsJson(Mapping[str, Mapping[str, Any]]):
    """Results of tasks as they stand in `run.json`, each made when it is asked for: of many, all would take much memory."""

    def __init__(self, tasks: Mapping[str, TaskResult]) -> None:
        self._tasks = tasks

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __getitem__(self, task_id: str) -> Mapping[str, Any]:
        task = self._tasks[task_id]
        found = {
            "state": task.state,
            "exit_status": task.exit_status,
            "reason": task.reason,
            "signal": task.signal,
            "error": task.error,
            "attempts": task.attempts,
            "duration_s": task.duration,
            "reused_from": task.reused_from,
        }
        return {key: value for key, value in found.items() if value is not None}


def read_run(path: str | os.PathLike[str]) -> RunResult:
    """Return what the journal of a run directory says, whoever wrote it; a torn line is ignored.

    Tasks that nothing has happened to yet are missing from `tasks`. A run that is not over is `running` while its writer lives;
    once that is gone it is `interrupted`, and so are its tasks that were running or waiting for their next attempt. (On a file
    system without locks such a run is `running` for ever.)

    Raises:
        MiniFlowError: There is no journal, or its first event is not that of a run.
    """
    run_dir = RunDir(Path(path).resolve())
    record, flow, has_writer = read_record(run_dir)
    return record.result(flow, run_dir, has_writer=has_writer)


def read_record(run_dir: RunDir) -> tuple[Record, str, bool]:
    """Return what a journal says, the flow's name, and whether the journal may still be written; as `read_run`."""
    record = Record()
    flow: str | None = None
    with JournalReader(run_dir.journal) as journal:
        has_writer = journal.has_writer()
        for event in journal.read():
            flow = str(event.get("flow")) if flow is None else flow
            record.apply(event)
    return record, run_dir.path.parent.name if flow is None else flow, has_writer
