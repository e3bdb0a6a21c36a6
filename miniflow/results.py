"""How attempts, tasks and runs end: states, the reasons for them, and the public results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from miniflow.values import dataclass

TaskState: TypeAlias = Literal[
    "pending", "running", "retrying", "succeeded", "failed", "skipped", "cancelled", "interrupted"
]  # fmt: skip
RunState: TypeAlias = Literal["running", "succeeded", "failed", "cancelled", "interrupted"]
"""`interrupted`: its runner died before it could record an end."""

Reason: TypeAlias = Literal[
    "exit", "signal", "timeout", "spawn", "lost",  # how an attempt ended
    "upstream_failed", "upstream_skipped", "no_failure",  # why a task was skipped
    "fail_fast", "stopped",  # why a task was cancelled; or "timeout", the run's
    "reused",  # why a task did not run in a resumed run and succeeded
]  # fmt: skip

OUT_OF_TIME = "the run has taken longer than its timeout"
"""Why a task was cancelled with the reason `timeout`."""

RerunReason: TypeAlias = Literal[
    "new", "failed", "cancelled", "skipped", "interrupted", "not_started",  # how it ended in the run before
    "command_changed", "env_changed", "cwd_changed", "params_changed", "script_changed", "depends_on_changed",
    "upstream",  # a task it depends on is not taken over either
]  # fmt: skip
"""Why a task of a resumed run runs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended."""

    exit_status: int
    """0 means success; 128+N after signal N, 124 after a timeout, 127 and 126 if it could not be started."""
    reason: Reason = "exit"
    signal: str | None = None
    error: str | None = None
    stopped: bool = False
    """It ended because the run was being stopped; then it counts as cancelled, not as failed."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task ended."""

    id: str
    state: TaskState
    exit_status: int | None = None
    """None if it never ran."""
    reason: Reason | None = None
    signal: str | None = None
    attempts: int = 0
    duration: float | None = None
    """Seconds."""
    reused_from: str | None = None
    """The run in which it ran, if it was taken over from there."""
    error: str | None = None
    """What the system said when it could not be started or its status was lost."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    flow: str
    run_id: str
    run_dir: Path
    state: RunState
    exit_status: int | None
    """0 succeeded, 1 failed, 124 timed out, 130 (or 128 + the signal) cancelled, 2 broken off by an error; None: no end."""
    duration: float | None
    """Seconds."""
    tasks: Mapping[str, TaskResult]
    error: str | None = None
    """Why the run has failed, if not for a task."""
    resumed_from: str | None = None
    """The run whose finished tasks this one has taken over."""

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a table of the tasks and, while the run directory is there, their graph."""
        from miniflow.notebook import result_html

        return result_html(self)
