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
        columns: Of the terminal; None if it is none. Where a row of the table has no room, a task has two.
    """

    def __init__(self, plan: Plan, result: RunResult, *, has_colors: bool, columns: int | None = None) -> None:
        self._plan = plan
        self._result = result
        self._has_colors = has_colors
        self._columns = columns
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
        reasons = [_reason(task) for task in shown]
        width = sum(widths) + 2 * len(widths) + max((len(reason) + 2 for reason in reasons if reason), default=0)
        is_narrow = self._columns is not None and width > self._columns
        if self._columns is not None and is_narrow:  # longer names are shown whole; no other is made as long
            beside = 4 + widths[1] + max((len(_reason(task)) + 2 for task in shown if task.attempts), default=0)
            widths[0] = min(widths[0], max(self._columns - beside, len(_COLUMNS[0])))
        lines = [self._paint(line.rstrip(), DIM) for line in _rows(_COLUMNS, " ", "", widths, is_narrow=is_narrow)]
        for task, cells, reason in zip(shown, rows[1:], reasons, strict=True):
            mark, color = _STATES.get(task.state, (" ", DIM))
            name, state = f"{cells[0]:{widths[0]}}", f"{mark} {cells[1]:{widths[1]}}"
            first, *more = _rows(cells, mark, reason, widths, is_narrow=is_narrow)
            painted = f"{self._paint(name, color_of(task.id))}  {self._paint(state, color)}"
            lines += [f"{painted}{first.removeprefix(f'{name}  {state}')}".rstrip(), *more]
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


def _reason(task: TaskResult) -> str:
    """Return why a task is in its state, unless it simply ended."""
    return task.signal or ("" if task.reason in (None, "exit") else str(task.reason))


def _rows(cells: Sequence[str], mark: str, reason: str, widths: Sequence[int], *, is_narrow: bool) -> list[str]:
    """Return the row of a task, or two: names to the left, numbers to the right; the mark of a state stands before it."""
    name, state, *numbers = cells
    head = f"{name:{widths[0]}}  {mark} {state:{widths[1]}}"
    tail = "".join([f"  {cell:>{width}}" for cell, width in zip(numbers, widths[2:], strict=True)])
    why = f"  {reason}" if reason else ""
    if not is_narrow:
        return [f"{head}{tail}{why}"]
    has_run = set(numbers) != {"-"}
    return [f"{head}{why if has_run else ''}", tail if has_run else why or tail]


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
