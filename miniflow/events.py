"""What happens in a run, as frozen values: the public events.

The names, keys and their order are a contract (`schema` 1): log pipelines read them. `Event.to_dict` is their one definition.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Literal, TypeAlias

from miniflow.durations import format_seconds
from miniflow.results import OUT_OF_TIME, Reason, RerunReason, RunState, TaskState
from miniflow.values import dataclass

SCHEMA = 1

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
LEVELS: Mapping[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_LEVELS_OF_ENDS: Mapping[TaskState, Level] = {"succeeded": "info", "cancelled": "warning"}

Stream: TypeAlias = Literal["stdout", "stderr"]


@lru_cache(maxsize=16)
def _second(epoch_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_s))


def format_timestamp(at_ns: int) -> str:
    """Return nanoseconds since 1970 as RFC 3339 in UTC, to the microsecond: `2026-11-23T09:36:12.041000Z`."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run."""

    at_ns: int
    """Nanoseconds since 1970."""
    flow: str
    run_id: str

    name: ClassVar[str]

    @property
    def timestamp(self) -> str:
        """When it happened, RFC 3339 in UTC."""
        return format_timestamp(self.at_ns)

    @property
    def level(self) -> Level:
        """How much it matters."""
        return "info"

    @property
    def message(self) -> str:
        """A sentence for people; of output the line itself."""
        return self.name

    def details(self) -> dict[str, Any]:
        """Return what this event has beyond the keys that all have, in its order."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return the event as its JSON object, keys in the contract's order."""
        fields = {
            "timestamp": format_timestamp(self.at_ns),
            "level": self.level,
            "event": self.name,
            "message": self.message,
            "flow": self.flow,
            "run_id": self.run_id,
        }
        fields.update(self.details())
        return fields


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """The first event of a run."""

    tasks: int
    parallel: int
    keep_going: bool
    params: tuple[str, ...]
    """Names alone: values may be secrets."""
    resumed_from: str | None = None
    """The run whose finished tasks this one takes over."""

    name: ClassVar[str] = "run.started"

    @property
    def message(self) -> str:
        resumed = f", resuming {self.resumed_from}" if self.resumed_from else ""
        return f"run {self.run_id} of {self.flow} started{resumed}"

    def details(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "tasks": self.tasks,
            "parallel": self.parallel,
            "keep_going": self.keep_going,
            "params": self.params,
            **({"resumed_from": self.resumed_from} if self.resumed_from else {}),
        }


@dataclass(frozen=True, slots=True)
class TaskEvent(Event):
    """Something that happened to a task."""

    task_id: str

    def details(self) -> dict[str, Any]:
        return {"task_id": self.task_id}


@dataclass(frozen=True, slots=True)
class AttemptEvent(TaskEvent):
    """Something that happened in an attempt of a task."""

    attempt: int
    """1 for the first."""

    def details(self) -> dict[str, Any]:
        return {"task_id": self.task_id, "attempt": self.attempt}


@dataclass(frozen=True, slots=True)
class TaskStarted(AttemptEvent):
    """A process was started for an attempt."""

    pid: int
    argv: tuple[str, ...]
    start_time: int | None = None
    """When the system started the process, in clock ticks since boot: with the pid it names the process. None if not known."""
    reason: RerunReason | None = None
    """Why the task runs, though the run resumes another; for its first attempt alone."""
    script_differs: bool = False
    """Whether the script is not what it was when the run was planned; then `script_sha256` says what it is."""
    script_sha256: str | None = None
    """None also if it cannot be read."""

    name: ClassVar[str] = "task.started"

    @property
    def message(self) -> str:
        if self.reason is not None:
            again = "" if self.reason in ("new", "not_started", "skipped") else " again"
            return f"{self.task_id} started{again}: {WHY_IT_RUNS[self.reason]}"
        return f"{self.task_id} started" if self.attempt == 1 else f"{self.task_id} started, attempt {self.attempt}"

    def details(self) -> dict[str, Any]:
        details = {"task_id": self.task_id, "attempt": self.attempt, "pid": self.pid, "argv": self.argv}
        if self.start_time is not None:
            details["start_time"] = self.start_time
        if self.reason is not None:
            details["reason"] = self.reason
        if self.script_differs:
            details["script_sha256"] = self.script_sha256
        return details


@dataclass(frozen=True, slots=True)
class TaskOutput(AttemptEvent):
    """A line that a task printed."""

    stream: Stream
    line: str
    """Without its end of line; bytes that are not UTF-8 as backslash escapes."""
    partial: bool = False
    """Part of a line longer than 64 KiB."""

    name: ClassVar[str] = "task.output"

    @property
    def message(self) -> str:
        return self.line

    def details(self) -> dict[str, Any]:
        details = AttemptEvent.details(self)
        details["stream"] = self.stream
        if self.partial:
            details["partial"] = True
        return details


@dataclass(frozen=True, slots=True)
class TaskRetrying(AttemptEvent):
    """An attempt failed, and there will be another."""

    delay_s: float
    exit_status: int
    reason: Reason
    signal: str | None = None

    name: ClassVar[str] = "task.retrying"

    @property
    def level(self) -> Level:
        return "warning"

    @property
    def message(self) -> str:
        how = how_it_ended(self.exit_status, self.reason, self.signal)
        return f"{self.task_id} {how}; next attempt in {format_seconds(self.delay_s)} s"

    def details(self) -> dict[str, Any]:
        return {
            **AttemptEvent.details(self),
            "delay_s": self.delay_s,
            "exit_status": self.exit_status,
            "reason": self.reason,
            **({"signal": self.signal} if self.signal else {}),
        }


@dataclass(frozen=True, slots=True)
class TaskFinished(AttemptEvent):
    """A task that ran has come to its end."""

    state: TaskState
    exit_status: int
    reason: Reason
    signal: str | None
    error: str | None
    """What the system said when the process could not be started or its status was lost, or that the run's time was over."""
    duration_s: float
    """From the start of the first attempt, waits between attempts included."""
    attempts: int

    name: ClassVar[str] = "task.finished"

    @property
    def level(self) -> Level:
        return _LEVELS_OF_ENDS.get(self.state, "error")

    @property
    def message(self) -> str:
        if self.state == "succeeded":
            return f"{self.task_id} succeeded in {self.duration_s:.2f} s"
        how = how_it_ended(self.exit_status, self.reason, self.signal)
        if self.state == "cancelled":
            return f"{self.task_id} was stopped: {self.error}" if self.error else f"{self.task_id} was stopped; it {how}"
        attempts = f", attempt {self.attempts}" if self.attempts > 1 else ""
        error = f": {self.error}" if self.error else ""
        return f"{self.task_id} {how}{attempts}{error}"

    def details(self) -> dict[str, Any]:
        details = AttemptEvent.details(self)
        details["state"] = self.state
        details["exit_status"] = self.exit_status
        details["reason"] = self.reason
        if self.signal:
            details["signal"] = self.signal
        if self.error:
            details["error"] = self.error
        details["duration_s"] = self.duration_s
        details["attempts"] = self.attempts
        return details


@dataclass(frozen=True, slots=True)
class TaskReused(TaskEvent):
    """A task counts as succeeded without running: it has succeeded before, and nothing about it has changed."""

    reused_from: str
    """The run in which it ran."""

    name: ClassVar[str] = "task.reused"

    @property
    def message(self) -> str:
        return f"{self.task_id} not run again: it succeeded in {self.reused_from}, and nothing about it has changed"

    def details(self) -> dict[str, Any]:
        return {**TaskEvent.details(self), "reason": "unchanged", "reused_from": self.reused_from}


@dataclass(frozen=True, slots=True)
class TaskSkipped(TaskEvent):
    """A task will not run, as its trigger rule is false."""

    reason: Reason

    name: ClassVar[str] = "task.skipped"

    @property
    def level(self) -> Level:
        return "info" if self.reason == "no_failure" else "warning"

    @property
    def message(self) -> str:
        return f"{self.task_id} skipped: {WHY_IT_DID_NOT_RUN[self.reason]}"

    def details(self) -> dict[str, Any]:
        return {**TaskEvent.details(self), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class TaskCancelled(TaskEvent):
    """A task will not run, as the run is being stopped or a task has failed."""

    reason: Reason

    name: ClassVar[str] = "task.cancelled"

    @property
    def level(self) -> Level:
        return "warning"

    @property
    def message(self) -> str:
        return f"{self.task_id} cancelled: {WHY_IT_DID_NOT_RUN[self.reason]}"

    def details(self) -> dict[str, Any]:
        return {**TaskEvent.details(self), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """The last event of a run."""

    state: RunState
    exit_status: int
    duration_s: float
    counts: Mapping[str, int]
    """How many tasks ended in each state."""
    error: str | None = None
    """What went wrong with the run itself, if that is why it has failed."""
    reused: int = 0
    """How many of those that succeeded were taken over from the run before."""

    name: ClassVar[str] = "run.finished"

    @property
    def level(self) -> Level:
        return _LEVELS_OF_ENDS.get(self.state, "error")

    @property
    def message(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        if self.reused:
            counts += f" ({self.reused} reused)"
        error = f"; {self.error}" if self.error else ""
        return f"run {self.run_id} of {self.flow} {self.state} in {self.duration_s:.2f} s: {counts}{error}"

    def details(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "exit_status": self.exit_status,
            "duration_s": self.duration_s,
            "counts": dict(self.counts),
            **({"reused": self.reused} if self.reused else {}),
            **({"error": self.error} if self.error else {}),
        }


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """Lines that came in one read: what sinks get instead of one `TaskOutput` a line."""

    template: TaskOutput
    """All that the lines have in common, with an empty line."""
    text: str
    """The lines, with a newline between each and the next."""

    @property
    def lines(self) -> list[str]:
        """Each of the lines."""
        return self.text.split("\n")

    def events(self) -> list[TaskOutput]:
        """Return one event a line."""
        t = self.template
        return [TaskOutput(t.at_ns, t.flow, t.run_id, t.task_id, t.attempt, t.stream, line, t.partial) for line in self.lines]


def how_it_ended(exit_status: int, reason: Reason, signal: str | None) -> str:
    """Return how an attempt ended: what comes after the name of its task in a sentence."""
    match reason:
        case "signal":
            return f"was killed by {signal}"
        case "timeout":
            return "took longer than its timeout"
        case "spawn":
            return "could not be started"
        case "lost":
            return "cannot be said to have succeeded"
        case _:
            return f"failed with exit status {exit_status}" if exit_status else "exited with 0"


WHY_IT_RUNS: Mapping[RerunReason, str] = {
    "new": "it is new",
    "failed": "it failed",
    "cancelled": "it was cancelled",
    "skipped": "it was skipped",
    "interrupted": "it was interrupted",
    "not_started": "it was not started before",
    "command_changed": "its command has changed",
    "env_changed": "its environment has changed",
    "cwd_changed": "its working directory has changed",
    "params_changed": "the parameters have changed",
    "script_changed": "its script has changed",
    "depends_on_changed": "it depends on more tasks than before",
    "upstream": "what it depends on has changed",
}

WHY_IT_DID_NOT_RUN: Mapping[str, str] = {
    "upstream_failed": "a task it depends on failed or was cancelled",
    "upstream_skipped": "a task it depends on was skipped",
    "no_failure": "no task it depends on has failed",
    "fail_fast": "another task has failed",
    "stopped": "the run was stopped",
    "timeout": OUT_OF_TIME,
}
