"""A run and what was planned → why a task of it ran or did not, what it waited for, and how it ended, in sentences.

Nothing is measured anew and nothing is guessed: what the record does not tell is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from miniflow.durations import differ_notably, format_duration, format_measured
from miniflow.events import WHY_IT_RUNS, how_it_ended
from miniflow.timeline import AttemptTimeline, TaskTimeline, Timeline
from miniflow.values import dataclass, field

LEAST_WAIT_S = 0.1
"""To be told: a shorter wait for a slot is the time that a start takes."""
LEAST_SLACK_S = 0.01
_SHOWN = 5
UNKNOWN_UPSTREAM = "what it depends on is recorded nowhere, as the run has neither plan.json nor flow.sh"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a task beside the run."""

    planned: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """As in `plan.json`; empty if the run has none."""
    earlier_s: Sequence[float] = ()
    """How long it took in earlier runs, the newest first."""


@dataclass(frozen=True, slots=True)
class Held:
    """A task that held a slot while another one waited for it."""

    task_id: str
    held_s: float
    """How long, of the time that the other one waited."""


def explain(run: Timeline, task: TaskTimeline, known: Known) -> list[str]:
    """Return what is to be said of a task, one sentence or a few an element, in the order of time."""
    return list(_Explanation(run, task, known).sentences())


def slot_holders(run: Timeline, task: TaskTimeline) -> list[Held]:
    """Return who held the slots while a task waited for one, the longest first."""
    if task.ready_s is None:
        return []
    until = task.started_s if task.started_s is not None else run.duration_s or 0.0
    held = []
    for other in run.tasks:
        if other.id == task.id:
            continue
        spans = [(attempt.started_s, attempt.ended_s) for attempt in other.attempts]
        if run.parallel == 1 and spans:  # there a retry waits in the slot
            spans = [(spans[0][0], other.ended_s)]
        held_s = sum(max(0.0, min(until, until if end is None else end) - max(task.ready_s, start)) for start, end in spans)
        if held_s > 0:
            held.append(Held(other.id, round(held_s, 6)))
    return sorted(held, key=lambda each: -each.held_s)


class _Explanation:
    def __init__(self, run: Timeline, task: TaskTimeline, known: Known) -> None:
        self._run = run
        self._task = task
        self._known = known
        by_id = {other.id: other for other in run.tasks}
        self._upstream = [by_id[task_id] for task_id in task.depends_on if task_id in by_id]
        self._by_id = by_id

    def sentences(self) -> Iterator[str]:
        task = self._task
        if task.reused_from is not None:
            yield f"It did not run again: it succeeded in run {task.reused_from}, and nothing about it has changed since."
            return
        if task.state == "skipped":
            yield from self._why_skipped()
            return
        if not task.attempts and task.state == "cancelled":
            yield self._why_cancelled()
            return
        if not task.attempts:
            yield from self._what_is_missing()
            return
        yield self._why_it_ran()
        if task.started_because is not None:
            why = WHY_IT_RUNS.get(task.started_because, task.started_because)
            yield f"The run resumes {self._run.resumed_from}, from which it was not taken over: {why}."
        yield from self._how_it_waited()
        yield from self._attempts()
        yield from self._how_long()
        yield from self._what_it_mattered()

    # --- why it ran, or not

    def _why_it_ran(self) -> str:
        verb = "It ran" if any(attempt.pid is not None for attempt in self._task.attempts) else "It was to run"
        if not self._task.is_planned:
            return f"{verb}; {UNKNOWN_UPSTREAM}."
        if not self._upstream:
            return f"{verb} because it depends on no task."
        last = max(self._upstream, key=lambda other: other.ended_s or 0.0)
        if self._task.trigger_rule == "all_done":
            why = f"all that it depends on had ended (all_done): {_ends(self._upstream)}"
        elif self._task.trigger_rule == "one_failed":
            failed = [other for other in self._upstream if _counts_as_failed(other)]
            why = f"one that it depends on had failed (one_failed): {_ends(failed)}"
        else:
            which = "both" if len(self._upstream) == 2 else f"all {len(self._upstream)}"
            why = "what" if len(self._upstream) == 1 else f"{which} tasks that"
            why += " it depends on had succeeded (all_success)"
        return f"{verb} because {why}; {last.id} was the last to end, {_at(last.ended_s)}."

    def _why_skipped(self) -> Iterator[str]:
        if not self._task.is_planned:
            yield f"It was skipped ({self._task.reason}); {UNKNOWN_UPSTREAM}."
            return
        if self._task.reason == "no_failure":
            rule = "it runs if one that it depends on has failed (one_failed), and none has"
            yield f"It was skipped: {rule}: {_ends(self._upstream)}."
            return
        to_blame = [other for other in self._upstream if other.state != "succeeded"]
        if self._task.reason == "upstream_failed":
            to_blame = [other for other in to_blame if _counts_as_failed(other) or other.state == "cancelled"]
        yield f"It was skipped: it runs if all that it depends on succeed (all_success), but {_ends(to_blame)}."
        roots = self._roots(to_blame)
        if {root.id for root in roots} != {other.id for other in to_blame}:
            yield f"That goes back to this: {_ends(roots)}."

    def _roots(self, tasks: Sequence[TaskTimeline]) -> list[TaskTimeline]:
        """Return the tasks upstream whose end was the first reason for that of these."""
        found: dict[str, TaskTimeline] = {}
        seen: set[str] = set()
        todo = list(tasks)
        while todo:
            task = todo.pop(0)
            if task.id in seen:
                continue
            seen.add(task.id)
            upstream = [self._by_id[task_id] for task_id in task.depends_on if task_id in self._by_id]
            before = [other for other in upstream if other.state != "succeeded"]
            if task.state == "skipped" and task.reason != "no_failure" and before:
                todo += before
            else:
                found[task.id] = task
        return list(found.values())

    def _why_cancelled(self) -> str:
        task = self._task
        if task.reason == "timeout":
            why = f"the run was out of time, {_at(task.ended_s)}"
        elif task.reason == "fail_fast":
            failed = [other for other in self._run.tasks if other.state == "failed"]
            first = min(failed, key=lambda other: other.ended_s or 0.0, default=None)
            which = "another task had failed" if first is None else f"{first.id} {_now(first)}, {_at(first.ended_s)}"
            why = f"{which}, and after a failure only all_done and one_failed tasks start, unless there is --keep-going"
        else:
            why = f"the run was stopped{self._by_signal()}, {_at(task.ended_s)}"
        return f"It was cancelled before it ran: {why}."

    def _by_signal(self) -> str:
        name = {130: "SIGINT", 143: "SIGTERM", 129: "SIGHUP"}.get(self._run.exit_status or 0)
        return f" by {name}" if name else ""

    def _what_is_missing(self) -> Iterator[str]:
        run = self._run
        missing = [other for other in self._upstream if other.ended_s is None]
        if run.state != "running":
            yield f"It has not run: the run {'was interrupted' if run.state == 'interrupted' else 'ended'} before that."
        if missing:
            verb = "waits" if run.state == "running" else "waited"
            count = len(self._upstream)
            which = "what" if count == 1 else f"{len(missing)} of {count} tasks that"
            yield f"It {verb} for {which} it depends on: {_ends(missing)}."
        elif run.state == "running":
            # With one slot alone a retry waits in it.
            holders = [
                task for task in run.tasks if task.state == "running" or (task.state == "retrying" and run.parallel == 1)
            ]
            if len(holders) < run.parallel:
                yield "Nothing that it depends on is missing: it is about to start."
                return
            slots = "the only slot is taken" if run.parallel == 1 else f"all {run.parallel} slots are taken"
            by = _listed([f"{task.id} ({format_measured(task.duration_s or 0.0)} by now)" for task in holders])
            yield f"Nothing that it depends on is missing, but {slots}, by {by}."

    # --- waiting, attempts, time

    def _how_it_waited(self) -> Iterator[str]:
        waited_s = self._task.waited_s
        if waited_s is None or waited_s < LEAST_WAIT_S:
            return
        held = slot_holders(self._run, self._task)
        slot = "the only slot" if self._run.parallel == 1 else f"one of the {self._run.parallel} slots"
        who = _listed([f"{each.task_id} ({format_measured(each.held_s)})" for each in held])
        yield f"It waited {format_measured(waited_s)} for {slot}" + (f"; meanwhile these ran: {who}." if who else ".")

    def _attempts(self) -> Iterator[str]:
        task = self._task
        delays = self._known.planned.get("retry_delays_s")
        for attempt, following in zip(task.attempts, task.attempts[1:], strict=False):
            yield self._retried(attempt, following, delays)
        last = task.attempts[-1]
        which = f"Attempt {last.number}" if len(task.attempts) > 1 else "It"
        if task.state == "retrying":
            yield f"{which} {self._how_attempt(last)}{_after(last)}; the next attempt is to come{_asked(last, delays)}."
        elif task.state == "running":
            yield f"{which} has been running for {format_measured(max(0.0, (self._run.duration_s or 0.0) - last.started_s))}."
        elif task.state == "interrupted" and last.ended_s is not None:
            then = f"when the runner died, the next was to come{_asked(last, delays)}"
            yield f"{which} {self._how_attempt(last)}{_after(last)}; {then}."
        elif task.state == "interrupted":
            yield f"{which} was interrupted: the runner died, and how it ended is not recorded."
        elif task.state == "cancelled":
            why = "the run was out of time" if task.reason == "timeout" else f"the run was stopped{self._by_signal()}"
            yield f"{which} was stopped{_after(last)}: {why}."
        elif task.state == "failed":
            error = f" ({task.error})" if task.error else ""
            yield f"{which} {self._how_attempt(last)}{error}{_after(last)}{self._why_no_retry(last, delays)}."
        elif len(task.attempts) > 1:
            yield f"{which} succeeded{_after(last)}."

    def _retried(self, attempt: AttemptTimeline, following: AttemptTimeline, delays: Sequence[float] | None) -> str:
        pause_s = following.started_s - (attempt.ended_s if attempt.ended_s is not None else following.started_s)
        then = f"the next one came {format_measured(pause_s)} later{_asked(attempt, delays)}"
        if delays is not None and attempt.number <= len(delays) and self._run.parallel > 1:  # else it waits in its slot
            waited_s = pause_s - delays[attempt.number - 1]
            then += f", of which it waited {format_measured(waited_s)} for a slot" if waited_s >= LEAST_WAIT_S else ""
        return f"Attempt {attempt.number} {self._how_attempt(attempt)}{_after(attempt)}; {then}."

    def _how_attempt(self, attempt: AttemptTimeline) -> str:
        if attempt.reason is None:
            return "ended"
        limit_s = self._known.planned.get("timeout_s") if attempt.reason == "timeout" else None
        limit = f" ({format_duration(limit_s)})" if limit_s is not None else ""
        return how_it_ended(attempt.exit_status or 0, attempt.reason, attempt.signal) + limit

    def _why_no_retry(self, last: AttemptTimeline, delays: Sequence[float] | None) -> str:
        if delays is None:
            return ""
        allowed = f"{len(delays)} {'retry' if len(delays) == 1 else 'retries'}"
        if not delays:
            return "; it has no retries"
        if last.number > len(delays):
            return f"; its {allowed} were used up" if len(delays) > 1 else "; its one retry was used up"
        if last.reason in ("spawn", "lost"):
            return f"; it was not tried again, though it has {allowed}: after this reason ({last.reason}) no task is"
        retry_on = self._known.planned.get("retry_on")
        if retry_on and last.exit_status not in retry_on:
            return f"; it was not tried again: its {allowed} are for the exit status {' or '.join(map(str, retry_on))} alone"
        return ""

    def _how_long(self) -> Iterator[str]:
        task, earlier = self._task, self._known.earlier_s
        if task.duration_s is None or task.reason == "spawn" or task.state not in ("succeeded", "failed"):
            return
        waits = ", waits between attempts included" if len(task.attempts) > 1 else ""
        took = f"It took {format_measured(task.duration_s)}{waits}"
        if not earlier:
            yield f"{took}; there is no earlier run to compare with."
            return
        usual_s = median(earlier)
        usual = format_measured(usual_s)
        if len(earlier) > 1:
            usual += f" at the median of {len(earlier)}, {format_measured(min(earlier))} to {format_measured(max(earlier))}"
        if differ_notably(usual_s, task.duration_s):
            how = "longer" if task.duration_s > usual_s else "less"
            yield f"{took}, {format_measured(abs(task.duration_s - usual_s))} {how} than in earlier runs ({usual})."
        else:
            yield f"{took}, about as in earlier runs ({usual})."

    def _what_it_mattered(self) -> Iterator[str]:
        task, path = self._task, self._run.critical_path
        if task.is_critical:
            place = path.index(task.id)
            around = [
                *(f"after {other}" for other in path[:place][-1:]),
                *(f"before {other}" for other in path[place + 1 :][:1]),
            ]
            where = f", {' and '.join(around)}" if around else ""
            yield f"It was on the critical path{where}: what the run's duration was made of."
        elif task.slack_s is not None:
            could = f"it could have ended {format_measured(task.slack_s)} later"
            if task.slack_s < LEAST_SLACK_S:
                could = "it could hardly have ended later"
            yield f"It was not on the critical path; for what depends on it, {could}."


def _at(seconds: float | None) -> str:
    return f"{format_measured(seconds or 0.0)} after the run's start"


def _ends(tasks: Sequence[TaskTimeline]) -> str:
    return _listed([f"{task.id} {_now(task)}" for task in tasks])


def _counts_as_failed(task: TaskTimeline) -> bool:
    return task.state == "failed" or (task.state == "skipped" and task.reason == "upstream_failed")


def _now(task: TaskTimeline) -> str:
    """Return how a task has ended, or what it does, in words that follow its name."""
    match task.state:
        case "failed" if task.reason is not None:
            return how_it_ended(task.exit_status or 0, task.reason, task.signal)
        case "succeeded" if task.reused_from is not None:
            return "had succeeded in an earlier run"
        case "skipped" | "cancelled":
            return f"was {task.state} ({task.reason})"
        case "running":
            return f"is running, for {format_measured(task.duration_s or 0.0)} by now"
        case "retrying":
            return "waits for its next attempt"
        case "pending":
            return "has not begun"
        case "interrupted":
            return "was interrupted"
        case _:
            return task.state


def _after(attempt: AttemptTimeline) -> str:
    if attempt.ended_s is None or attempt.pid is None or attempt.reason == "timeout":
        return ""
    return f" after {format_measured(max(0.0, attempt.ended_s - attempt.started_s))}"


def _asked(attempt: AttemptTimeline, delays: Sequence[float] | None) -> str:
    if delays is None or attempt.number > len(delays):
        return ""
    return f" (delay {format_measured(delays[attempt.number - 1])}; retry {attempt.number} of {len(delays)})"


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
