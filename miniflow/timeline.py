"""What happened in a run, and when: of one that is over, goes on, or was interrupted, whoever ran it.

Times of tasks are seconds since the run's start, by the timestamps of the journal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from miniflow.critical import critical_path, slack_s
from miniflow.journal import JournalReader
from miniflow.planfile import RecordedPlan, RecordedTask, read_plan
from miniflow.results import Reason, RerunReason, RunState, TaskResult, TaskState
from miniflow.rundir import Record, RunDir
from miniflow.values import dataclass, field

STATES: Sequence[TaskState] = (
    "succeeded", "failed", "skipped", "cancelled", "interrupted", "running", "retrying", "pending",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AttemptTimeline:
    """An attempt of a task."""

    number: int
    started_s: float
    ended_s: float | None
    """None if it has not ended, or its end was not recorded."""
    pid: int | None
    """None if no process could be started."""
    argv: tuple[str, ...]
    exit_status: int | None
    reason: Reason | None
    signal: str | None


@dataclass(frozen=True, slots=True)
class TaskTimeline:
    """A task of a run."""

    id: str
    script: str
    """Relative to the tasks directory; empty if it is recorded nowhere."""
    depends_on: tuple[str, ...]
    trigger_rule: str
    state: TaskState
    reason: Reason | None
    exit_status: int | None
    signal: str | None
    error: str | None
    attempts: tuple[AttemptTimeline, ...]
    ready_s: float | None
    """When the last of its upstream ended; 0 without upstream, None while one of it has not ended, or if it is recorded nowhere
    what it depends on."""
    started_s: float | None
    """None if it did not run."""
    ended_s: float | None
    """When it ended, or it was known that it would not run."""
    duration_s: float | None
    """From its first start to its end, waits between attempts included; so far, if it goes on."""
    waited_s: float | None
    """Between ready and started: for a slot. None if it has not started, or when it was ready is not known."""
    slack_s: float | None
    """How much later it could have ended without the run's ending later; None unless the run is over and the task ran, and it
    is recorded what it depends on."""
    is_critical: bool
    reused_from: str | None
    started_because: RerunReason | None
    """Why it ran in a run that resumes another."""

    @property
    def is_planned(self) -> bool:
        """Whether it is recorded what it depends on."""
        return bool(self.depends_on) or self.ready_s is not None


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run."""

    flow: str
    run_id: str
    path: Path
    state: RunState
    exit_status: int | None
    started_at: str | None
    """RFC 3339, as all times that are texts."""
    finished_at: str | None
    duration_s: float | None
    """So far, if it goes on; until the last that was recorded, if it was interrupted."""
    parallel: int
    keep_going: bool
    params: Mapping[str, Any] = field(repr=False)
    resumed_from: str | None
    error: str | None
    counts: Mapping[str, int]
    """How many tasks are in each state, of those that there are."""
    tasks: tuple[TaskTimeline, ...]
    """In the file's order; of a run by the script in that of the script."""
    critical_path: tuple[str, ...]
    """The ids of the tasks that the run's duration was made of, in the order in which they ran: see `critical`. Of a run that
    has not come to its end, none."""


def read_timeline(run_dir: RunDir) -> Timeline:
    """Return what happened in a run.

    Raises:
        MiniFlowError: It cannot be read.
    """
    with RunReader(run_dir) as reader:
        for _ in reader.new_events():
            pass
        return reader.timeline()


class RunReader:
    """Reads a run, and then what is added to its record; to be closed.

    Raises:
        MiniFlowError: There is no journal.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self._journal = JournalReader(run_dir.journal)
        self._plan: RecordedPlan | None = None
        self._head: Mapping[str, Any] = {}
        self._start_s = 0.0
        """Since 1970."""
        self._record = Record()
        self._attempts: dict[str, list[AttemptTimeline]] = {}
        self._ended_s: dict[str, float] = {}
        self._because: dict[str, RerunReason] = {}
        self._last_s = 0.0
        self._has_writer = True

    def __enter__(self) -> RunReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    @property
    def is_over(self) -> bool:
        """Whether nothing will be added: the run has ended, or its runner has died."""
        return self._record.has_ended or not self._has_writer

    def new_events(self) -> Iterator[Mapping[str, Any]]:
        """Yield the events that have been added since the last time, each when it has been taken in.

        Raises:
            MiniFlowError: They cannot be read.
        """
        self._has_writer = self._journal.has_writer()
        for event in self._journal.read():
            if not self._head:
                self._head = event
                self._start_s = _seconds(event) or 0.0
                self._plan = read_plan(self.run_dir)
            self._record.apply(event)
            self._note(event)
            yield event

    def _note(self, event: Mapping[str, Any]) -> None:
        """Take down when something happened."""
        at_s = _seconds(event)
        self._last_s = self._last_s if at_s is None else round(max(0.0, at_s - self._start_s), 6)
        task_id, name = event.get("task_id"), event.get("event")
        if not isinstance(task_id, str):
            return
        attempts = self._attempts.setdefault(task_id, [])
        number = _number(event, "attempt")
        if name == "task.started":
            argv = event.get("argv")
            words = tuple(map(str, argv)) if isinstance(argv, list) else ()
            attempts.append(AttemptTimeline(number, self._last_s, None, event.get("pid"), words, None, None, None))
            if because := event.get("reason"):
                self._because[task_id] = because
        elif name in ("task.retrying", "task.finished"):
            how = event.get("exit_status"), event.get("reason"), event.get("signal")
            if attempts and attempts[-1].ended_s is None:
                a = attempts.pop()
                attempts.append(AttemptTimeline(a.number, a.started_s, self._last_s, a.pid, a.argv, *how))
            elif number > len(attempts):  # no process could be started
                attempts.append(AttemptTimeline(number, self._last_s, self._last_s, None, (), *how))
        if name in ("task.finished", "task.skipped", "task.cancelled", "task.reused"):
            self._ended_s[task_id] = self._last_s

    def timeline(self) -> Timeline:
        """Return what has been read."""
        flow = str(self._head.get("flow", self.run_dir.path.parent.name))
        result = self._record.result(flow, self.run_dir, has_writer=self._has_writer)
        summary = self._record.summary(flow, result.run_id)
        is_live = result.state == "running" and bool(self._head)
        now_s = round(max(0.0, time.time() - self._start_s), 6) if is_live else self._last_s
        parallel = _number(self._head, "parallel")
        planned = [*self._plan.tasks] if self._plan is not None else []
        planned_count = len(planned)
        known = {task.id for task in planned}
        planned += [RecordedTask(task_id, "") for task_id in self._attempts if task_id not in known]
        tasks, path = self._tasks(planned, planned_count, result.tasks, parallel, now_s if is_live else None)
        states = [task.state for task in tasks]
        return Timeline(
            flow=flow,
            run_id=result.run_id,
            path=result.run_dir,
            state=result.state,
            exit_status=result.exit_status,
            started_at=summary["started_at"],
            finished_at=summary["finished_at"],
            duration_s=result.duration if result.duration is not None else now_s,
            parallel=parallel,
            keep_going=self._head.get("keep_going") is True,
            params=self._plan.params if self._plan is not None else {},
            resumed_from=result.resumed_from,
            error=result.error,
            counts={state: states.count(state) for state in STATES if state in states},
            tasks=tasks,
            critical_path=path,
        )

    def _tasks(
        self,
        planned: Sequence[RecordedTask],
        planned_count: int,
        results: Mapping[str, TaskResult],
        parallel: int,
        now_s: float | None,
    ) -> tuple[tuple[TaskTimeline, ...], tuple[str, ...]]:
        """Return the tasks, and the critical path of a run that is over; `now_s` is None unless it goes on.

        The journal alone tells of those after the first `planned_count`.
        """
        index_of = {task.id: index for index, task in enumerate(planned)}
        upstream = [[index_of[other] for other in task.depends_on if other in index_of] for task in planned]
        attempts = [self._attempts.get(task.id, []) for task in planned]
        started = [each[0].started_s if each else None for each in attempts]
        ended = [self._ended_s.get(task.id) for task in planned]
        slack: Sequence[float | None] = [None] * len(planned)
        path: list[int] = []
        if self._record.has_ended:
            ends = [self._last_s if end is None else end for end in ended]
            took = [0.0 if start is None else max(0.0, end - start) for start, end in zip(started, ends, strict=True)]
            slack = slack_s(upstream, took, ends)
            spans = [
                (a.started_s, ends[n] if a.ended_s is None else a.ended_s, n) for n, each in enumerate(attempts) for a in each
            ]
            path = critical_path(upstream, started, ends, spans, parallel)
        critical = set(path)
        tasks = []
        for n, task in enumerate(planned):
            result = results.get(task.id) or TaskResult(task.id, "pending")
            ends_before = [ended[other] for other in upstream[n]]
            is_planned = n < planned_count
            ready = (
                None if None in ends_before or not is_planned else max([0.0, *(end for end in ends_before if end is not None)])
            )
            start, end = started[n], ended[n]
            until = end if end is not None else now_s
            duration = result.duration
            if duration is None and start is not None and until is not None:
                duration = round(max(0.0, until - start), 6)
            tasks.append(
                TaskTimeline(
                    id=task.id,
                    script=task.script,
                    depends_on=task.depends_on,
                    trigger_rule=task.trigger_rule,
                    state=result.state,
                    reason=result.reason,
                    exit_status=result.exit_status,
                    signal=result.signal,
                    error=result.error,
                    attempts=tuple(attempts[n]),
                    ready_s=ready,
                    started_s=start,
                    ended_s=end,
                    duration_s=duration,
                    waited_s=round(max(0.0, start - ready), 6) if start is not None and ready is not None else None,
                    slack_s=slack[n] if start is not None and is_planned else None,
                    is_critical=n in critical,
                    reused_from=result.reused_from,
                    started_because=self._because.get(task.id),
                )
            )
        return tuple(tasks), tuple([planned[n].id for n in path])


def _seconds(event: Mapping[str, Any]) -> float | None:
    """Return when an event happened, in seconds since 1970; None if it does not say."""
    try:
        return datetime.fromisoformat(event["timestamp"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _number(event: Mapping[str, Any], key: str) -> int:
    """Return a number from 1 on; of a damaged event 1."""
    value = event.get(key)
    return value if isinstance(value, int) and value > 0 else 1
