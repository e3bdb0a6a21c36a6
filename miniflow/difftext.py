"""What differs between two runs, as text for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from miniflow.bash import quote
from miniflow.differences import ABSENT, Change, Differences
from miniflow.durations import format_measured
from miniflow.events import how_it_ended
from miniflow.sinks.console import harmless
from miniflow.timeline import TaskTimeline, Timeline

_MOST_ON_A_LINE = 60
_RED, _GREEN, _BOLD, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[0m"


def as_text(found: Differences, *, has_colors: bool = False) -> str:
    """Return lines for people."""
    lines = map(harmless, _lines(found))
    return "\n".join(_colored(line) if has_colors else line for line in lines)


def as_json(found: Differences) -> str:
    """Return a JSON object; a value that one of the two does not have is missing there."""
    return json.dumps(
        {
            "before": _run_as_json(found.before),
            "after": _run_as_json(found.after),
            "differs": found.has_any,
            "run": [_change_as_json(change) for change in found.run],
            "tasks_added": found.added,
            "tasks_removed": found.removed,
            "tasks_changed": {
                task_id: [_change_as_json(change) for change in changes] for task_id, changes in found.tasks.items()
            },
            "ends": {
                task_id: {"before": _end_as_json(old), "after": _end_as_json(new)} for task_id, (old, new) in found.ends.items()
            },
            "durations": [
                {"task_id": each.task_id, "before_s": each.before_s, "after_s": each.after_s} for each in found.durations
            ],
            "partly_recorded": found.partly_recorded,
        },
        ensure_ascii=False,
        indent=1,
    )


def _lines(found: Differences) -> Iterator[str]:
    yield f"--- {_run(found.before)}"
    yield f"+++ {_run(found.after)}"
    sections = {"Plan": [*_plan(found)], "Ends": [*_ends(found)], "Durations": [*_durations(found)]}
    for title, lines in sections.items():
        if lines:
            yield from ("", title, *lines)
    if not any(sections.values()):
        yield from ("", "No difference in plans and ends, and none worth mentioning in durations.")
    for run_id in found.partly_recorded:
        yield from ("", f"Run {run_id} has no plan.json: of its plan only what its journal and script tell is compared.")


def _run(run: Timeline) -> str:
    status = f" with {run.exit_status}" if run.exit_status else ""
    took = f" {'in' if run.finished_at else 'after'} {format_measured(run.duration_s or 0.0)}"
    return f"{run.run_id} of {run.flow}: {run.state}{status}{took}"


def _plan(found: Differences) -> Iterator[str]:
    for change in found.run:
        yield from _change(change, "  ")
    for task_id in found.removed:
        yield f"  - task {task_id}"
    for task_id in found.added:
        yield f"  + task {task_id}"
    for task_id, changes in found.tasks.items():
        yield f"  {task_id}"
        for change in changes:
            yield from _change(change, "    ")


def _change(change: Change, indent: str) -> Iterator[str]:
    if change.what == "script":
        yield f"{indent}script: its content has changed ({change.before[:12]} → {change.after[:12]})"
        return
    before, after = _shown(change.what, change.before), _shown(change.what, change.after)
    if len(before) + len(after) <= _MOST_ON_A_LINE:
        yield f"{indent}{change.what}: {before} → {after}"
        return
    yield f"{indent}{change.what}:"
    yield f"{indent}  - {before}"
    yield f"{indent}  + {after}"


def _shown(what: str, value: Any) -> str:
    if value is ABSENT:
        return "(none)"
    if what == "command":
        return " ".join(map(quote, value))
    return json.dumps(value, ensure_ascii=False)


def _ends(found: Differences) -> Iterator[str]:
    for task_id, (old, new) in found.ends.items():
        before, after = _end(old), _end(new)
        if before == after:  # then it is the attempts
            before, after = f"{before} {_attempts(old)}", f"{after} {_attempts(new)}"
        yield f"  {task_id}: {before} → {after}"


def _end(task: TaskTimeline) -> str:
    if task.reused_from is not None:
        return "taken over"
    if task.state == "failed" and task.reason is not None:
        return how_it_ended(task.exit_status or 0, task.reason, task.signal)
    return f"{task.state} ({task.reason})" if task.state in ("skipped", "cancelled") else task.state


def _attempts(task: TaskTimeline) -> str:
    return f"at attempt {len(task.attempts)}"


def _durations(found: Differences) -> Iterator[str]:
    rows = [(each.task_id, each.before_s, each.after_s) for each in found.durations]
    width = max((len(task_id) for task_id, _, _ in rows), default=0)
    for task_id, before_s, after_s in rows:
        sign = "+" if after_s > before_s else "-"
        change = f"{sign}{format_measured(abs(after_s - before_s))}"
        yield f"  {task_id:{width}}  {format_measured(before_s)} → {format_measured(after_s)}  ({change})"


def _colored(line: str) -> str:
    if line and not line.startswith(" "):
        return f"{_BOLD}{line}{_PLAIN}"
    color = {"-": _RED, "+": _GREEN}.get(line.lstrip()[:1])
    return f"{color}{line}{_PLAIN}" if color else line


def _run_as_json(run: Timeline) -> dict[str, Any]:
    names = ("flow", "run_id", "state", "exit_status", "started_at", "finished_at", "duration_s")
    return {name: getattr(run, name) for name in names}


def _end_as_json(task: TaskTimeline) -> dict[str, Any]:
    names: Sequence[str] = ("state", "exit_status", "reason", "signal", "reused_from")
    return {**{name: getattr(task, name) for name in names}, "attempts": len(task.attempts)}


def _change_as_json(change: Change) -> dict[str, Any]:
    sides = {"before": change.before, "after": change.after}
    return {"what": change.what, **{side: value for side, value in sides.items() if value is not ABSENT}}
