"""What the record says of a task of a run, for `miniflow explain`: as sentences, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from miniflow.again import command_again
from miniflow.explain import Known, explain, slot_holders
from miniflow.history import durations_before
from miniflow.planfile import read_planned
from miniflow.rundir import RunDir
from miniflow.runtasks import check_task
from miniflow.sinks.console import harmless
from miniflow.timeline import TaskTimeline, read_timeline

_ATTEMPT = ("number", "started_s", "ended_s", "exit_status", "reason", "signal")
_TASK = (
    "depends_on", "trigger_rule", "ready_s", "started_s", "ended_s", "waited_s", "duration_s", "slack_s", "is_critical",
    "started_because", "reused_from",
)  # fmt: skip


def explained(run_dir: RunDir, task_id: str, *, as_json: bool, width: int | None = None) -> str:
    """Return what is to be shown of a task; sentences on lines of at most that width, if there is one.

    Raises:
        UsageError: The run has no such task.
        MiniFlowError: It cannot be read.
    """
    run = read_timeline(run_dir)
    task = next((task for task in run.tasks if task.id == task_id), None)
    if task is None:
        check_task(run_dir, task_id)
        raise AssertionError("what is planned is in the timeline")
    params, tasks = read_planned(run_dir)
    planned = tasks.get(task_id, {})
    earlier_s = durations_before(run.path.parent.parent, run.flow, task_id, run.run_id)
    sentences = explain(run, task, Known(planned, earlier_s))
    command = _command(task, planned, params)
    if as_json:
        held = slot_holders(run, task) if task.waited_s else []
        document: dict[str, Any] = {
            "flow": run.flow,
            "run_id": run.run_id,
            "run_dir": str(run.path),
            "task_id": task.id,
            "state": task.state,
            "reason": task.reason,
            "exit_status": task.exit_status,
            "sentences": sentences,
            "command": command,
            "attempts": [{name: getattr(attempt, name) for name in _ATTEMPT} for attempt in task.attempts],
            **{name: getattr(task, name) for name in _TASK},
            "slot_holders": [{"task_id": each.task_id, "held_s": each.held_s} for each in held],
            "earlier_s": earlier_s,
        }
        return json.dumps(document, ensure_ascii=False, indent=1)
    again = ["", f"To run it {'again ' if task.attempts else ''}by hand:", f"  {command}"] if command else []
    title = f"{task.id} {_state(task)} in run {run.run_id} of {run.flow}"
    if width is not None:
        sentences = [line for sentence in sentences for line in wrap(sentence, width, break_long_words=False)]
    return "\n".join(map(harmless, [title, "", *sentences, *again]))


def _command(task: TaskTimeline, planned: Mapping[str, Any], params: Mapping[str, Any]) -> str | None:
    """Return the line that runs a task again; None where its command is recorded nowhere, as it never ran."""
    argv = next((attempt.argv for attempt in reversed(task.attempts) if attempt.argv), None) or planned.get("argv")
    return command_again({**planned, "argv": argv}, params) if argv else None


def _state(task: TaskTimeline) -> str:
    return {"pending": "has not begun", "running": "is running", "retrying": "waits for its next attempt"}.get(
        task.state, f"was {task.state}" if task.state in ("skipped", "cancelled", "interrupted") else task.state
    )
