"""How a task of a run ended, in a few words: for files that are read elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from miniflow.events import WHY_IT_DID_NOT_RUN, how_it_ended

if TYPE_CHECKING:
    from miniflow.timeline import TaskTimeline


def outcome(task: TaskTimeline) -> str:
    """Return what comes after a task's name in a sentence; whoever shows it makes it harmless."""
    error = f": {task.error}" if task.error else ""
    match task.state:
        case "succeeded" if task.reused_from is not None:
            return f"not run again: it succeeded in {task.reused_from}"
        case "succeeded":
            return "succeeded"
        case "failed":
            how = how_it_ended(task.exit_status or 0, task.reason or "exit", task.signal)
            return f"{how}{f', attempt {len(task.attempts)}' if len(task.attempts) > 1 else ''}{error}"
        case "skipped" | "cancelled" if not task.attempts:
            return f"{task.state}: {WHY_IT_DID_NOT_RUN.get(task.reason or '', 'no reason is recorded')}"
        case "cancelled":
            return f"was stopped{error}"
        case "interrupted":
            return "was interrupted: its runner died"
        case _:
            return "has no recorded end"
