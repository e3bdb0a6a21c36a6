"""How the page says states, times and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from miniflow.timeline import TaskTimeline

STATES = ("failed", "interrupted", "cancelled", "skipped", "running", "retrying", "pending", "succeeded", "reused")
"""All that a task can be in, what calls for attention first; `reused` is a success that was taken over from another run."""

_REASONS: Mapping[str, str] = {
    "upstream_failed": "a task it depends on failed or was cancelled",
    "upstream_skipped": "a task it depends on was skipped",
    "no_failure": "no task it depends on has failed",
    "fail_fast": "another task has failed",
    "stopped": "the run was stopped",
    "timeout": "it took longer than its timeout",
    "spawn": "it could not be started",
    "lost": "its exit status was lost",
}


def state_of(task: TaskTimeline) -> str:
    """Return what a task is shown as."""
    return "reused" if task.reused_from and task.state == "succeeded" else task.state


def why(task: TaskTimeline) -> str | None:
    """Return why a task is in its state, if that needs saying."""
    if task.error:
        return task.error
    if task.reused_from:
        return f"it succeeded in {task.reused_from}, and nothing about it has changed"
    if task.reason == "timeout" and not task.attempts:
        return "the run took longer than its timeout"
    if task.signal:
        return f"it was killed by {task.signal}"
    if task.reason is not None and task.reason in _REASONS:
        return _REASONS[task.reason]
    if task.state == "failed" and task.exit_status is not None:
        return f"it failed with exit status {task.exit_status}"
    return None


def shown_duration(seconds: float | None) -> str:
    """Return seconds in the units in which people think of so many, or a dash."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d} h"
    return f"{hours} h {minutes:02d} m" if hours else f"{minutes} m {rest:02d} s"


def shown_size(size: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"


def shown_count(count: int, noun: str) -> str:
    """Return `1 task`, `2,000 tasks`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shown_time(timestamp: str) -> str:
    """Return an RFC 3339 time in UTC as people read it."""
    day, _, clock = timestamp.partition("T")
    return f"{day} {clock.partition('.')[0].removesuffix('Z')} UTC"


def anchor(task_id: str) -> str:
    """Return the id of a task's element."""
    return f"task-{task_id}"


def link(task_id: str) -> str:
    """Return what leads to a task."""
    return f"#{quote(anchor(task_id), errors='backslashreplace')}"
