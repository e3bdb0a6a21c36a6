"""What happens in a run → events, and events → everybody who is told."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence

from miniflow.actions import Cancel, EndState, Finish, Reuse, Skip, Wait
from miniflow.durations import format_duration
from miniflow.errors import OutputError
from miniflow.events import (
    Event,
    OutputChunk,
    RunFinished,
    RunStarted,
    TaskCancelled,
    TaskFinished,
    TaskRetrying,
    TaskReused,
    TaskSkipped,
    TaskStarted,
)
from miniflow.masking import Masker, Pattern
from miniflow.plan import Plan
from miniflow.reuse import TakenOver
from miniflow.scripts import Scripts
from miniflow.sinks import Item, Sink

MOST_LATE = 16
"""Events that are told together at most."""


class Reporter:
    """Tells the sinks of one run. Each method raises what a sink raises, once all the others have been told.

    Args:
        plan: What is run.
        run_id: The run's.
        sinks: Told in this order.
        secrets: Masked in the words of others.
        scripts: What the tasks' scripts hold.
        taken_over: Of the run that this one resumes.
    """

    def __init__(
        self,
        plan: Plan,
        run_id: str,
        sinks: Sequence[Sink],
        secrets: list[Pattern],
        scripts: Scripts | None = None,
        taken_over: TakenOver | None = None,
    ) -> None:
        self.began_at = time.monotonic()
        self.error: Exception | None = None
        """What the run has failed for, beyond its tasks: it cannot be recorded, or somebody who was told raised."""
        self.keeps_errors = False
        """Whether what a sink raises is kept as the run's error instead: while the run is stopped, for one."""
        self._plan = plan
        self._run_id = run_id
        self._sinks = list(sinks)
        self._secrets = secrets
        self._scripts = scripts
        self._taken_over = taken_over
        self._first_start: dict[int, float] = {}
        self._lost_output: set[str] = set()
        self._counts = {"succeeded": 0, "failed": 0, "skipped": 0, "cancelled": 0}
        self._reused = 0
        self._late: list[TaskStarted | tuple[Finish, int, float]] = []
        """What is still to be told. Of an end, when it was: in nanoseconds since the epoch, and by the monotonic clock."""
        self._ended_late: set[int] = set()
        """The tasks whose end is still to be told."""

    def keep(self, error: Exception) -> None:
        """Note what the run fails for, unless there is something already."""
        self.error = self.error or error

    def has_lost_output(self, task_id: str) -> bool:
        """Return whether the output of a task has not been recorded whole: then it has not succeeded."""
        return task_id in self._lost_output

    def run_started(self, parallel: int) -> None:
        plan = self._plan
        resumed_from = self._taken_over.run_id if self._taken_over else None
        self.emit(RunStarted(*self._now(), len(plan.tasks), parallel, plan.keep_going, tuple(plan.params), resumed_from))

    def start_late(self, task: int, attempt: int, argv: tuple[str, ...], pid: int, start_time: int | None) -> None:
        """Tell, as of now, that a process is there; but only before what is told next, or when `catch_up` is called."""
        self._first_start.setdefault(task, time.monotonic())
        planned, scripts = self._plan.tasks[task], self._scripts
        sha256 = scripts.sha256(planned.script) if scripts else None
        self._late.append(
            TaskStarted(
                *self._now(),
                planned.id,
                attempt,
                pid,
                argv,
                start_time,
                self._taken_over.reasons[task] if self._taken_over and attempt == 1 else None,
                scripts is not None and sha256 != scripts.planned[planned.script],
                sha256,
            )
        )

    def finish_late(self, finish: Finish) -> None:
        """Tell of the end of a task, as of now; but only before what is told next, or when `catch_up` is called."""
        self._late.append((finish, time.time_ns(), time.monotonic()))
        self._ended_late.add(finish.task)

    @property
    def has_much_late(self) -> bool:
        """Whether it is time to tell what is still to be told."""
        return len(self._late) >= MOST_LATE - 1  # what comes next may be the end of one task and the start of another

    def has_told_ends(self, tasks: Iterable[int]) -> bool:
        """Return whether nothing is still to be told of the end of any of these."""
        return self._ended_late.isdisjoint(tasks)

    def catch_up(self) -> None:
        """Tell what is still to be told."""
        if self._late:
            self.emit()

    def report(self, action: Wait | Finish | Reuse | Skip | Cancel) -> None:
        """Tell of what the scheduler has decided about a task."""
        self.emit(self._event(action, time.time_ns(), time.monotonic()))

    def _event(self, action: Wait | Finish | Reuse | Skip | Cancel, time_ns: int, now: float) -> Event:
        """Return what the scheduler has decided about a task as an event, and count it."""
        task = action.task
        of_task = (time_ns, self._plan.flow, self._run_id, self._plan.tasks[task].id)
        if isinstance(action, Finish):
            outcome = action.outcome
            self._counts[action.state] += 1
            return TaskFinished(
                *of_task,
                action.attempt,
                action.state,
                outcome.exit_status,
                outcome.reason,
                outcome.signal,
                outcome.error and self._masked(outcome.error),
                round(now - self._first_start.pop(task, now), 6),
                action.attempt,
            )
        if isinstance(action, Wait):
            outcome = action.outcome
            return TaskRetrying(*of_task, action.attempt, action.delay_s, outcome.exit_status, outcome.reason, outcome.signal)
        if isinstance(action, Reuse):
            assert self._taken_over is not None
            self._counts["succeeded"] += 1
            self._reused += 1
            return TaskReused(*of_task, self._taken_over.reused[task])
        if isinstance(action, Skip):
            self._counts["skipped"] += 1
            return TaskSkipped(*of_task, action.reason)
        self._counts["cancelled"] += 1
        return TaskCancelled(*of_task, action.reason)

    def run_finished(self, state: EndState, exit_status: int, *, is_out_of_time: bool) -> None:
        try:
            self.catch_up()  # before it is counted what has ended
        except Exception as failure:  # the end of the run is told all the same
            self.keep(failure)
        error = None
        if self.error is not None:
            state, exit_status, error = "failed", 2, self._masked(str(self.error)) or type(self.error).__name__
        elif state == "cancelled" and is_out_of_time:
            assert self._plan.timeout_s is not None
            state, exit_status = "failed", 124
            error = f"it took longer than its timeout of {format_duration(self._plan.timeout_s)}"
        duration_s = round(time.monotonic() - self.began_at, 6)
        self.emit(RunFinished(*self._now(), state, exit_status, duration_s, dict(self._counts), error, self._reused))

    def emit(self, *items: Item) -> None:
        """Tell every sink, after what is still to be told; the exception of one that raises ends the run.

        It is told nothing more, unless it is an OutputError: who cannot write a log may still be able to write a status.
        """
        if self._late:
            late, self._late = self._late, []
            self._ended_late.clear()
            items = (*[event if isinstance(event, TaskStarted) else self._event(*event) for event in late], *items)
        first_error: BaseException | None = None
        for sink in tuple(self._sinks):
            try:
                sink.emit(*items)
            except BaseException as error:  # raised below, once all the others have been told
                if not isinstance(error, OutputError):
                    self._sinks.remove(sink)
                else:
                    self._lost_output.update(item.template.task_id for item in items if isinstance(item, OutputChunk))
                first_error = first_error or error
        if first_error is None:
            return
        if not self.keeps_errors or not isinstance(first_error, Exception):
            raise first_error
        self.keep(first_error)  # raised once the rest of the record is complete

    def _masked(self, text: str) -> str:
        """Return the words of somebody else, who may have a secret in them."""
        if not self._secrets:
            return text
        masker = Masker(self._secrets)
        return os.fsdecode(masker.feed(text.encode("utf-8", "surrogateescape")) + masker.end())

    def _now(self) -> tuple[int, str, str]:
        return time.time_ns(), self._plan.flow, self._run_id
