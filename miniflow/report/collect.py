"""A run directory → what its page says: the record, and the end of each log, within bounds."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from miniflow import __version__
from miniflow.again import command_again
from miniflow.errors import MiniFlowError
from miniflow.events import format_timestamp
from miniflow.planfile import read_planned
from miniflow.report.contents import Contents, Log
from miniflow.report.markup import text
from miniflow.tails import Tail, read_tail
from miniflow.timeline import read_timeline

if TYPE_CHECKING:
    from miniflow.rundir import RunDir
    from miniflow.timeline import TaskTimeline, Timeline

MOST_LINES = 20
"""Of a task's log."""
MOST_BYTES = 1_000_000
"""Of the page for the ends of logs, all together: with 5,000 tasks it can still be mailed. Failed tasks come first."""
_MOST_CHARS = 8_000
"""Of a task's log."""
_LEAST_CHARS = 200
"""Of a task's log, as long as there is room for any: two lines tell more than none."""
_BYTES_A_LINE = 40
"""What a line costs besides its text."""


def collect(run_dir: RunDir, beside: Path) -> Contents:
    """Return what the page of a run says.

    Args:
        run_dir: Of the run, which may go on.
        beside: The directory that the page will be in: links to logs are relative to it.

    Raises:
        MiniFlowError: The run, or one of its logs, cannot be read.
    """
    timeline = read_timeline(run_dir)
    return Contents(
        timeline=timeline,
        logs=_logs(run_dir, timeline, beside),
        again=_again(run_dir, timeline),
        made_at=format_timestamp(time.time_ns()),
        version=__version__,
        has_plan=os.path.exists(run_dir.plan),
    )


def _logs(run_dir: RunDir, timeline: Timeline, beside: Path) -> dict[str, Log]:
    base = os.path.realpath(beside)
    # What failed is looked for first, then what goes on or was broken off; the others share what is left.
    tasks = sorted((task for task in timeline.tasks if task.attempts), key=_urgency)
    logs = {}
    left = MOST_BYTES
    for number, task in enumerate(tasks):
        share = max(_LEAST_CHARS, min(_MOST_CHARS, left // (len(tasks) - number)))
        if _urgency(task) == 0:
            share = _MOST_CHARS
        try:
            tail = read_tail(run_dir, task.id, most_lines=MOST_LINES if left > 0 else 0, most_chars=share)
        except OSError as error:
            raise MiniFlowError(f"cannot read the log of {task.id}: {error.strerror}: {error.filename}") from error
        if tail is not None:
            left -= _cost(tail)
            logs[task.id] = Log(tail, quote(os.path.relpath(os.path.realpath(tail.path), base)))
    return logs


def _urgency(task: TaskTimeline) -> int:
    return {"failed": 0, "interrupted": 1, "running": 1, "retrying": 1}.get(task.state, 2)


def _cost(tail: Tail) -> int:
    return sum(len(text(line.text).encode(errors="backslashreplace")) + _BYTES_A_LINE for line in tail.lines)


def _again(run_dir: RunDir, timeline: Timeline) -> dict[str, str]:
    failed = {task.id: task for task in timeline.tasks if task.state == "failed" and task.attempts and task.attempts[-1].argv}
    if not failed:
        return {}
    params, planned = read_planned(run_dir)
    return {
        task_id: command_again({**planned.get(task_id, {}), "argv": task.attempts[-1].argv}, params)
        for task_id, task in failed.items()
    }
