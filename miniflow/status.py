"""A run and its tasks → lines for people, and JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from miniflow.durations import format_elapsed
from miniflow.overview import counted, local_time
from miniflow.rundir import RunDir
from miniflow.sinks.console import harmless
from miniflow.tables import STATE_COLORS, colored, table
from miniflow.timeline import AttemptTimeline, TaskTimeline, Timeline

_HEADINGS = ("TASK", "STATE", "EXIT", "ATTEMPTS", "DURATION", "WAITED", "SLACK", "REASON")
_NUMBERS = ("EXIT", "ATTEMPTS", "DURATION", "WAITED", "SLACK")
_SHOWN_OF_A_PATH = 8
# What is looked at first, where there is no room for all.
_URGENCY = ("running", "retrying", "failed", "interrupted", "pending", "cancelled", "skipped", "succeeded")


def status_lines(run: Timeline, *, colors: bool = False) -> list[str]:
    """Return all about a run: the run, its tasks in the file's order, and what has failed."""
    tasks = _task_lines(run.tasks, colors=colors)
    return [*_head_lines(run, colors=colors), *(["", *tasks] if tasks else []), *_failure_lines(run, colors=colors)]


def live_lines(run: Timeline, height: int, *, colors: bool = False) -> list[str]:
    """Return as much of it as fits on a screen so high: what runs comes before what has failed, and that before the rest."""
    head = _head_lines(run, colors=colors)
    room = max(1, height - len(head) - 3)  # an empty line, the headings, and what was left out
    if len(run.tasks) <= room:
        return [*head, "", *_task_lines(run.tasks, colors=colors)]
    urgent = sorted(range(len(run.tasks)), key=lambda index: _URGENCY.index(run.tasks[index].state))[:room]
    shown = [run.tasks[index] for index in sorted(urgent)]
    return [*head, "", *_task_lines(shown, colors=colors), f"… and {len(run.tasks) - room} more"]


def _head_lines(run: Timeline, *, colors: bool) -> list[str]:
    state = colored(run.state, STATE_COLORS.get(run.state), colors=colors)
    ended = f", exit status {run.exit_status}" if run.exit_status is not None else ""
    started = local_time(run.started_at)
    if run.duration_s is not None and run.state == "running":
        ended = f" for {format_elapsed(run.duration_s)}"
    elif run.duration_s is not None and run.state == "interrupted":
        started += f", last heard of after {format_elapsed(run.duration_s)}"
    elif run.duration_s is not None:
        started += f", took {format_elapsed(run.duration_s)}"
    lines = [
        ("run", f"{run.run_id} of {harmless(run.flow)}"),
        ("state", f"{state}{ended}"),
        ("started", started),
        ("tasks", counted(run.counts)),
        ("resumes", run.resumed_from or ""),
        ("error", run.error or ""),
        ("critical", _path(run.critical_path)),
        ("recorded", os.fspath(run.path)),
    ]
    return [f"{name:<9} {text if name == 'state' else harmless(text)}" for name, text in lines if text]


def _path(task_ids: Sequence[str]) -> str:
    if len(task_ids) > _SHOWN_OF_A_PATH:
        half = _SHOWN_OF_A_PATH // 2
        left_out = f"… {len(task_ids) - 2 * half} more …"
        task_ids = [*task_ids[:half], left_out, *task_ids[-half:]]
    return " → ".join(task_ids)


def _task_lines(tasks: Sequence[TaskTimeline], *, colors: bool) -> list[str]:
    return table(_HEADINGS, map(_row, tasks), colors=colors, right=_NUMBERS) if tasks else []


def _row(task: TaskTimeline) -> tuple[str, ...]:
    return (
        task.id,
        task.state,
        "" if task.exit_status is None else str(task.exit_status),
        str(len(task.attempts)) if task.attempts else "",
        *("" if seconds is None else format_elapsed(seconds) for seconds in (task.duration_s, task.waited_s, task.slack_s)),
        _reason(task),
    )


def _reason(task: TaskTimeline) -> str:
    """Return why a task is in its state, unless it simply ended."""
    if task.reused_from is not None:
        return f"reused from {task.reused_from}"
    if task.error is not None and task.reason in ("spawn", "lost"):
        return f"{task.reason}: {task.error}"
    if task.signal is not None:
        return f"{task.reason} {task.signal}"
    return "" if task.reason in (None, "exit") else str(task.reason)


def _failure_lines(run: Timeline, *, colors: bool) -> list[str]:
    """Return where to read why tasks have failed."""
    run_dir = RunDir(run.path)
    lines = []
    for task in run.tasks:
        if task.state in ("failed", "interrupted"):
            log = run_dir.find_log(task.id)
            where = harmless(os.fspath(log)) if log is not None else "it has printed nothing"
            lines.append(f"{colored(task.state, STATE_COLORS[task.state], colors=colors)} {harmless(task.id)}: {where}")
    return ["", *lines] if lines else []


def status_json(run: Timeline) -> dict[str, Any]:
    """Return all about a run as `miniflow status --json` does."""
    run_dir = RunDir(run.path)
    return {
        "flow": run.flow,
        "run_id": run.run_id,
        "path": os.fspath(run.path),
        "state": run.state,
        "exit_status": run.exit_status,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "duration_s": run.duration_s,
        "parallel": run.parallel,
        "keep_going": run.keep_going,
        "params": dict(run.params),
        "resumed_from": run.resumed_from,
        "error": run.error,
        "counts": dict(run.counts),
        "critical_path": list(run.critical_path),
        "tasks": [_task_json(task, run_dir) for task in run.tasks],
    }


def _task_json(task: TaskTimeline, run_dir: RunDir) -> dict[str, Any]:
    log = run_dir.find_log(task.id)
    return {
        "id": task.id,
        "script": task.script,
        "depends_on": list(task.depends_on),
        "trigger_rule": task.trigger_rule,
        "state": task.state,
        "reason": task.reason,
        "exit_status": task.exit_status,
        "signal": task.signal,
        "error": task.error,
        "ready_s": task.ready_s,
        "started_s": task.started_s,
        "ended_s": task.ended_s,
        "duration_s": task.duration_s,
        "waited_s": task.waited_s,
        "slack_s": task.slack_s,
        "is_critical": task.is_critical,
        "reused_from": task.reused_from,
        "started_because": task.started_because,
        "log": None if log is None else os.fspath(log),
        "attempts": [_attempt_json(attempt) for attempt in task.attempts],
    }


def _attempt_json(attempt: AttemptTimeline) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "started_s": attempt.started_s,
        "ended_s": attempt.ended_s,
        "pid": attempt.pid,
        "argv": list(attempt.argv),
        "exit_status": attempt.exit_status,
        "reason": attempt.reason,
        "signal": attempt.signal,
    }
