"""A run → the summary of a step of GitHub Actions: Markdown, with everything that is not ours escaped."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from miniflow.outcomes import outcome
from miniflow.sinks.console import harmless

if TYPE_CHECKING:
    from miniflow.timeline import TaskTimeline, Timeline

MOST_BYTES = 1024 * 1024
"""Of all that a step adds to its summary: of more, nothing is shown."""
_RESERVED_BYTES = 200
"""For the words that say what was left out."""

_MARKS = {"succeeded": "✅", "failed": "❌", "skipped": "⏭️", "cancelled": "🚫"}
_OTHER_MARK = "❔"


def step_summary(run: Timeline, last_lines: Callable[[TaskTimeline], Sequence[str]], most_bytes: int = MOST_BYTES) -> str:
    """Return the summary of a run.

    Args:
        run: Over, or broken off.
        last_lines: Returns what a task has printed last; asked for those that are no success, and ran.
        most_bytes: How long it may be. The table has at most half of that.
    """
    duration = f" in {run.duration_s:.2f} s" if run.duration_s is not None else ""
    text = f"### {_MARKS.get(run.state, _OTHER_MARK)} {_code(run.flow)} {run.state}{duration}\n\nRun {_code(run.run_id)}"
    text += f", resuming {_code(run.resumed_from)}" if run.resumed_from is not None else ""
    text += f": {_inline(run.error)}\n\n" if run.error is not None else "\n\n"
    text += "| | task | | exit status | attempts | seconds |\n|---|---|---|--:|--:|--:|\n"
    rows = list(map(_row, run.tasks))
    kept, size = _that_fit(rows, most_bytes // 2 - len(text.encode()))
    text += "".join(kept) + "\n"
    if len(kept) < len(rows):
        text += f"… and {len(rows) - len(kept)} more tasks.\n\n"
    failed = [task for task in run.tasks if task.attempts and task.state != "succeeded"]
    details: list[str] = []
    left = most_bytes - len(text.encode()) - _RESERVED_BYTES
    for n, task in enumerate(failed):
        kept, size = _that_fit([_details(task, last_lines(task))], left)
        if not kept:
            details.append(f"… and what {len(failed) - n} more have printed last.\n")
            break
        details += kept
        left -= size
    return text + "".join(details)


def _row(task: TaskTimeline) -> str:
    cells = [
        _MARKS.get(task.state, _OTHER_MARK),
        _code(task.id),
        _inline(outcome(task)),
        "" if task.exit_status is None else str(task.exit_status),
        str(len(task.attempts) or ""),
        "" if task.duration_s is None else f"{task.duration_s:.2f}",
    ]
    return f"| {' | '.join(cells)} |\n"


def _details(task: TaskTimeline, lines: Sequence[str]) -> str:
    """Return what a task has printed last, to be folded out."""
    summary = f"<summary>{_code(task.id)} {_inline(outcome(task))}</summary>"
    # Markdown has no say in a block that begins with <pre>, up to the end of that.
    printed = html.escape("\n".join(map(harmless, lines))) or "(it has printed nothing)"
    return f"<details>{summary}\n\n<pre>{printed}</pre>\n\n</details>\n\n"


def _that_fit(texts: Sequence[str], most_bytes: int) -> tuple[Sequence[str], int]:
    """Return as many as fit, and their size."""
    size = 0
    for n, text in enumerate(texts):
        more = len(text.encode())
        if size + more > most_bytes:
            return texts[:n], size
        size += more
    return texts, size


def _code(text: str) -> str:
    return f"<code>{_inline(text)}</code>"


def _inline(text: str) -> str:
    """Return text that is text in a paragraph, a cell and a heading: with all that Markdown and HTML know as numbers."""
    return "".join([c if c.isalnum() or c in " ,;" or ord(c) > 126 else f"&#{ord(c)};" for c in harmless(text)])
