"""Two runs → what differs between them: what was to run, how it ended, and how long it took.

What only one of the two has recorded, as the bash script records less, is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from miniflow.durations import differ_notably
from miniflow.timeline import TaskTimeline, Timeline
from miniflow.values import dataclass, field

ABSENT = object()
"""Stands for a value that one of the two does not have, where that means something: a parameter, a variable."""

# What of `plan.json` decides what a run does, and what it is called here; the rest is where and when.
_OF_RUN = {
    "version": "version",
    "tasks_dir": "tasks_dir",
    "work_dir": "work_dir",
    "keep_going": "keep_going",
    "grace_s": "grace_s",
    "timeout_s": "timeout_s",
    "selection": "selection",
}
_OF_TASK = {
    "cwd": "cwd",
    "upstream": "depends_on",
    "trigger_rule": "trigger_rule",
    "timeout_s": "timeout_s",
    "retry_delays_s": "retry_delays_s",
    "retry_on": "retry_on",
}
_OF_PLANNED = {"secret_env": "secret_env"}
"""What `plan.json` alone has of each task."""
_DEFAULTS: Mapping[str, Any] = {"secret_env": [], "selection": None}
"""What is left out of `plan.json` where it is this."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as it is compared."""

    timeline: Timeline
    document: Mapping[str, Any] = field(repr=False)
    """Its `plan.json`; empty if it has none."""
    planned: Mapping[str, Mapping[str, Any]] = field(repr=False)
    """What was to run, by the tasks, as in `plan.json` or as the script tells; empty if it is recorded nowhere."""
    changed_scripts: Mapping[str, str | None]
    """The scripts that were not as planned when their task ran, by the tasks."""

    @property
    def has_plan(self) -> bool:
        """Whether it is recorded what was to run: if not by its `plan.json`, then by the script."""
        return any(task.is_planned for task in self.timeline.tasks)

    @property
    def has_all_tasks(self) -> bool:
        """Whether a task that it does not tell of was not there."""
        return self.has_plan or self.timeline.finished_at is not None


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is another in the later run."""

    what: str
    """`params.date`, `env.MODE`, `command`."""
    before: Any
    """ABSENT if the earlier run has nothing of the kind."""
    after: Any


@dataclass(frozen=True, slots=True)
class Slower:
    """A task that took notably longer, or less."""

    task_id: str
    before_s: float
    after_s: float


@dataclass(frozen=True, slots=True)
class Differences:
    """What differs between two runs."""

    before: Timeline
    after: Timeline
    run: tuple[Change, ...]
    """About the runs as a whole."""
    added: tuple[str, ...]
    removed: tuple[str, ...]
    tasks: Mapping[str, tuple[Change, ...]]
    """About what is planned for tasks that both have."""
    ends: Mapping[str, tuple[TaskTimeline, TaskTimeline]]
    """Tasks that ended in another way, or that did not end in one of the two."""
    durations: tuple[Slower, ...]
    """Of tasks that ran to their own end in both, where they differ notably; the largest difference first."""
    partly_recorded: tuple[str, ...]
    """The runs that have no `plan.json`, so that not all of what was planned is compared."""

    @property
    def has_any(self) -> bool:
        """Whether plans or ends differ; durations always do."""
        is_same_end = (self.before.state, self.before.exit_status) == (self.after.state, self.after.exit_status)
        return bool(self.run or self.added or self.removed or self.tasks or self.ends) or not is_same_end


def differences(before: RecordedRun, after: RecordedRun) -> Differences:
    """Return what differs between two runs, in the order of the later run's file."""
    old = {task.id: task for task in before.timeline.tasks}
    new = {task.id: task for task in after.timeline.tasks}
    both = [task_id for task_id in new if task_id in old]
    changed = {task_id: tuple(_task_changes(before, after, old[task_id], new[task_id])) for task_id in both}
    slower = [
        Slower(task_id, took[0], took[1])
        for task_id in both
        if (took := _durations(old[task_id], new[task_id])) and differ_notably(*took)
    ]
    return Differences(
        before.timeline,
        after.timeline,
        tuple(_run_changes(before, after)),
        added=tuple([task_id for task_id in new if task_id not in old and before.has_all_tasks]),
        removed=tuple([task_id for task_id in old if task_id not in new and after.has_all_tasks]),
        tasks={task_id: changes for task_id, changes in changed.items() if changes},
        ends={task_id: (old[task_id], new[task_id]) for task_id in both if _end(old[task_id]) != _end(new[task_id])},
        durations=tuple(sorted(slower, key=lambda each: -abs(each.after_s - each.before_s))),
        partly_recorded=tuple([run.timeline.run_id for run in (before, after) if not run.document]),
    )


def _run_changes(before: RecordedRun, after: RecordedRun) -> Iterable[Change]:
    old, new = before.timeline, after.timeline
    for name in ("flow", "parallel"):
        if getattr(old, name) != getattr(new, name):
            yield Change(name, getattr(old, name), getattr(new, name))
    yield from _of_documents(before.document, after.document, _OF_RUN)
    if not (before.document and after.document) and old.keep_going != new.keep_going:
        yield Change("keep_going", old.keep_going, new.keep_going)
    if before.has_plan and after.has_plan:
        yield from _of_mappings("params", old.params, new.params)


def _task_changes(before: RecordedRun, after: RecordedRun, old: TaskTimeline, new: TaskTimeline) -> Iterable[Change]:
    was, is_ = before.planned.get(old.id, {}), after.planned.get(new.id, {})
    commands = [_command(before, old), _command(after, new)]
    if all(commands) and commands[0] != commands[1]:
        yield Change("command", *commands)
    yield from _of_documents(was, is_, _OF_TASK)
    if before.document and after.document:  # a script does not tell of each task
        yield from _of_documents(was, is_, _OF_PLANNED)
    if was and is_:
        yield from _of_mappings("env", was.get("env", {}), is_.get("env", {}))
    sha256 = [run.changed_scripts.get(new.id, task.get("script_sha256")) for run, task in ((before, was), (after, is_))]
    if None not in sha256 and sha256[0] != sha256[1]:
        yield Change("script", *sha256)


def _command(run: RecordedRun, task: TaskTimeline) -> list[str]:
    """Return the command of a task; of the script none if it did not run, as its caller may override a part of what it says."""
    if run.document:
        return list(run.planned.get(task.id, {}).get("argv", ()))
    return list(next((attempt.argv for attempt in task.attempts if attempt.argv), ()))


def _of_documents(old: Mapping[str, Any], new: Mapping[str, Any], names: Mapping[str, str]) -> Iterable[Change]:
    if not (old and new):
        return
    for key, name in names.items():
        before, after = (document.get(key, _DEFAULTS.get(key)) for document in (old, new))
        if before != after and not (key == "upstream" and set(before) == set(after)):
            yield Change(name, before, after)


def _of_mappings(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[Change]:
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key, ABSENT), new.get(key, ABSENT)
        if before is ABSENT or after is ABSENT or before != after or type(before) is not type(after):  # 1 is no true
            yield Change(f"{name}.{key}", before, after)


def _end(task: TaskTimeline) -> tuple[object, ...]:
    # That a task was taken over is told; by which run it had been run does not matter.
    reason = "reused" if task.reused_from is not None else task.reason
    return task.state, task.exit_status, reason, task.signal, len(task.attempts)


def _durations(old: TaskTimeline, new: TaskTimeline) -> tuple[float, float] | None:
    found = []
    for task in (old, new):
        has_run = task.state in ("succeeded", "failed") and task.reused_from is None and task.reason != "spawn"
        if not has_run or task.duration_s is None:
            return None
        found.append(task.duration_s)
    return found[0], found[1]
