"""What is said at the end of a run: how its tasks ended, and for each that failed how to go on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from miniflow.again import command_again
from miniflow.durations import format_elapsed
from miniflow.errors import MiniFlowError
from miniflow.events import TaskFinished
from miniflow.plan import Plan
from miniflow.results import RunResult, TaskResult
from miniflow.rundir import RunDir
from miniflow.sinks.colored import DIM, GREEN, RED, YELLOW, color_of, paint
from miniflow.sinks.console import harmless
from miniflow.tails import TailLine, read_tail
from miniflow.timeline import read_timeline

FEW_TASKS = 20
"""A table has all of them; of more it has those that failed, and the slowest."""
MOST_FAILURES = 10
"""That more than their names is told of."""
SLOWEST = 5
LAST_LINES = 10
LAST_CHARACTERS = 4000
_MOST_READ_BACK = 5000
"""Tasks of a run whose slack is told: to read back more takes longer than somebody waits for a prompt."""

_COLUMNS = ("TASK", "STATE", "EXIT", "ATTEMPTS", "DURATION", "SLACK")
_STATES = {"succeeded": ("✓", GREEN), "failed": ("✗", RED), "cancelled": ("–", YELLOW), "skipped": ("–", YELLOW)}


class Summary:
    """The text.

    Args:
        plan: What was run.
        result: How it ended.
        has_colors: Whether to use them.
    """

    def __init__(self, plan: Plan, result: RunResult, *, has_colors: bool) -> None:
        self._plan = plan
        self._result = result
        self._has_colors = has_colors
        self._tasks = [result.tasks.get(task.id) or TaskResult(task.id, "pending") for task in plan.tasks]
        self._failed = [task for task in self._tasks if task.state == "failed"]
        self._run_dir = RunDir(result.run_dir)

    def render(self, *, only_failures: bool) -> str:
        """Return the lines; the last one says where the run is recorded.

        Args:
            only_failures: Whether to leave out what tells of no failure.
        """
        lines: list[str] = []
        if len(self._tasks) > 1 and not only_failures:
            lines += ["", *self._table(), ""]
        for task in self._failed[:MOST_FAILURES]:
            lines += [*self._failure(task), ""]
        if len(self._failed) > MOST_FAILURES:
            lines += [f"… and {len(self._failed) - MOST_FAILURES} more failed", ""]
        lines.append(f"recorded in {harmless(_shown(self._result.run_dir))}")
        return "".join([f"{line}\n" for line in lines])

    def _table(self) -> list[str]:
        shown = self._tasks if len(self._tasks) <= FEW_TASKS else self._what_matters()
        slack_s = self._slack_s()
        rows = [_COLUMNS, *(_cells(task, slack_s.get(task.id)) for task in shown)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
        lines = [self._paint(_aligned(_COLUMNS, widths), DIM)]
        for task, cells in zip(shown, rows[1:], strict=True):
            mark, color = _STATES.get(task.state, (" ", DIM))
            name, state = f"{cells[0]:{widths[0]}}", f"{mark} {cells[1]:{widths[1]}}"
            rest = _aligned(cells, widths).removeprefix(f"{name}    {cells[1]:{widths[1]}}")
            why = f"  {task.reason}" if task.reason not in (None, "exit") else ""
            why = f"  {task.signal}" if task.signal else why
            lines.append(f"{self._paint(name, color_of(task.id))}  {self._paint(state, color)}{rest}{why}".rstrip())
        if len(shown) < len(self._tasks):
            rest_of = [task for task in self._tasks if task not in shown]
            counts = [(state, sum(task.state == state for task in rest_of)) for state in (*_STATES, "pending")]
            told = ", ".join(f"{count} {state}" for state, count in counts if count)
            lines.append(self._paint(f"… and {len(rest_of)} more: {told}", DIM))
        return lines

    def _what_matters(self) -> Sequence[TaskResult]:
        shown = self._failed[:MOST_FAILURES]
        slowest = sorted(self._tasks, key=lambda task: task.duration or 0.0, reverse=True)
        return [*shown, *[task for task in slowest if task.duration and task not in shown][:SLOWEST]]

    def _slack_s(self) -> dict[str, float | None]:
        if len(self._tasks) > _MOST_READ_BACK:
            return {}
        try:
            return {task.id: task.slack_s for task in read_timeline(self._run_dir).tasks}
        except (MiniFlowError, OSError):
            return {}  # a task has removed the record; that was said where it matters

    def _failure(self, task: TaskResult) -> list[str]:
        planned = next(planned for planned in self._plan.tasks if planned.id == task.id)
        try:
            tail = read_tail(self._run_dir, task.id, most_lines=LAST_LINES, most_chars=LAST_CHARACTERS)
        except OSError:
            tail = None  # removed or spoiled by a task
        lines = [self._paint(f"✗ {harmless(_how(self._result, task))}", RED)]
        if tail is not None:
            last = [line for line in tail.lines if line.attempt == task.attempts]
            if last and not (tail.is_whole and len(last) == len(tail.lines)):
                lines.append(self._paint("  │ …", DIM))
            lines += [self._line(line) for line in last]
        command = command_again(self._plan.task_to_json(planned), self._plan.params)
        lines.append(f"  {self._paint('again:', DIM)} {command}")
        if tail is not None:
            lines.append(f"  {self._paint('log:', DIM)}   {harmless(_shown(tail.path))}")
        return lines

    def _line(self, line: TailLine) -> str:
        bar = self._paint("┃", RED) if line.stream == "stderr" else self._paint("│", DIM)
        return f"  {bar} {harmless(line.text)}".rstrip()

    def _paint(self, text: str, color: str) -> str:
        return paint(text, color) if self._has_colors else text


def _cells(task: TaskResult, slack_s: float | None) -> tuple[str, ...]:
    return (
        task.id,
        task.state,
        "-" if task.exit_status is None else str(task.exit_status),
        str(task.attempts) if task.attempts else "-",
        "-" if task.duration is None else format_elapsed(task.duration),
        "-" if slack_s is None else format_elapsed(slack_s),
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return a row: names to the left, numbers to the right; what marks a state has its place before it."""
    name, state, *numbers = cells
    right = [f"{cell:>{width}}" for cell, width in zip(numbers, widths[2:], strict=True)]
    return "  ".join([f"{name:{widths[0]}}", f"  {state:{widths[1]}}", *right])


def _how(result: RunResult, task: TaskResult) -> str:
    """Return the sentence that told of the task's end."""
    return TaskFinished(
        0, result.flow, result.run_id, task.id, task.attempts, task.state, task.exit_status or 0, task.reason or "exit",
        task.signal, task.error, task.duration or 0.0, task.attempts,
    ).message  # fmt: skip


def _shown(path: Path) -> str:
    """Return a path as short as it can be typed here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
