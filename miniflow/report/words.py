"""How the page says states, times and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from miniflow.durations import format_elapsed
from miniflow.outcomes import outcome

if TYPE_CHECKING:
    from miniflow.timeline import TaskTimeline

STATES = ("failed", "interrupted", "cancelled", "skipped", "running", "retrying", "pending", "succeeded", "reused")
"""All that a task can be in, what calls for attention first; `reused` is a success that was taken over from another run."""


def state_of(task: TaskTimeline) -> str:
    """Return what a task is shown as."""
    return "reused" if task.reused_from and task.state == "succeeded" else task.state


def ending(task: TaskTimeline) -> str | None:
    """Return how a task ended, if there is more to it than its state."""
    has_more = task.state in ("failed", "skipped", "cancelled", "interrupted") or task.reused_from is not None
    return outcome(task) if has_more else None


def shown_duration(seconds: float | None) -> str:
    """Return seconds in the units in which people think of so many, or a dash."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    return format_elapsed(seconds)


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
