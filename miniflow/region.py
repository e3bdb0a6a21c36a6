"""Progress → the lines at the bottom of a terminal: what runs, a bar, counts, and how long the rest will take.

Of `rich` this takes how wide characters are and how styles are written: its `Console` and `Text` take several times as long to
load, and to draw.
"""

from __future__ import annotations

from itertools import islice
from typing import TypeAlias

from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style

from miniflow.durations import format_elapsed
from miniflow.progress import Progress, RunningTask
from miniflow.sinks.colored import color_of

_WIDEST_BAR = 40
_LEAST_BAR = 10

_DIM, _BOLD = Style(dim=True), Style(bold=True)
_GREEN, _YELLOW, _CYAN = Style(color="green"), Style(color="yellow"), Style(color="cyan")
_RED, _BOLD_RED = Style(color="red"), Style(color="red", bold=True)

_Line: TypeAlias = list[Segment]


class RegionDrawer:
    """Draws the region.

    Args:
        has_colors: Whether to use them.
    """

    def __init__(self, *, has_colors: bool) -> None:
        self._colors = ColorSystem.STANDARD if has_colors else None

    def draw(self, progress: Progress, now_s: float, columns: int, rows: int) -> list[str]:
        """Return the lines: none wider than the terminal, and half as many as it has at most.

        Args:
            progress: Of the run, which has begun at 0 s.
            now_s: How long the run goes on.
            columns: Of the terminal.
            rows: Likewise.
        """
        width = columns - 1  # a terminal wraps a line that fills it, or is about to
        below = _below(progress, now_s, width)
        room = max(rows // 2 - len(below), 0)
        running = list(islice(progress.running.values(), room))
        hidden = len(progress.running) - len(running)
        if hidden and running:
            running.pop()
            hidden += 1
        name_width = min(max((len(task.id) for task in running), default=0), max(width - 12, 1))
        lines = [_running(task, now_s, name_width) for task in running]
        if hidden and room:
            lines.append([Segment(f"   … and {hidden} more running" if lines else f"   {hidden} running", _DIM)])
        return [self._rendered(line, width) for line in (*lines, *below)]

    def _rendered(self, line: _Line, width: int) -> str:
        if _cells(line) > width:
            line = [*Segment.adjust_line_length(line, width - 1, pad=False), Segment("…")]
        return "".join([style.render(text, color_system=self._colors) if style else text for text, style, _ in line])


def _cells(line: _Line) -> int:
    return Segment.get_line_length(line)


def _running(task: RunningTask, now_s: float, name_width: int) -> _Line:
    name = task.id if len(task.id) <= name_width else f"{task.id[: name_width - 1]}…"
    line = [
        Segment(" ◌ ", _YELLOW) if task.waits else Segment(" ● ", _GREEN),
        Segment(f"{name:{name_width}}", _style(color_of(task.id))),
        Segment(f"  {format_elapsed(now_s - task.began_s):>6}"),
    ]
    if task.waits:
        line.append(Segment(f"  waits for attempt {task.attempt + 1}", _YELLOW))
    elif task.attempt > 1:
        line.append(Segment(f"  attempt {task.attempt}", _DIM))
    return line


def _style(code: str) -> Style:
    """Return what `rich` calls a colour of the terminal's palette."""
    return Style(color=f"color({int(code[-1]) + (8 if code[0] == '9' else 0)})")


def _below(progress: Progress, now_s: float, width: int) -> list[_Line]:
    """Return the bar with the counts after it, or below it where there is little room."""
    remaining_s = progress.remaining_s(now_s)
    # Nothing is told of what may end at any moment, as it should have already.
    left = f"  ~{format_elapsed(remaining_s)} left" if remaining_s and progress.running else ""
    ended = [
        Segment(f"  {progress.done}/{progress.total}", _BOLD),
        Segment(f"  {format_elapsed(now_s)}"),
        Segment(left, _DIM),
    ]
    counts = _counts(progress, " · ", ("done", "failed", "not run", "running", "waiting"))
    room = width - 3 - _cells(ended) - _cells(counts)
    if room >= _LEAST_BAR:
        return [[Segment(" "), *_bar(progress, min(room, _WIDEST_BAR)), *ended, Segment("  "), *counts]]
    if _cells(counts) + 1 > width:
        counts = _counts(progress, "  ", ("✓", "✗", "–", "●", "◌"))
    bar = _bar(progress, min(max(width - 1 - _cells(ended), 0), _WIDEST_BAR))
    return [[Segment(" "), *bar, *ended], [Segment(" "), *counts]]


def _counts(progress: Progress, separator: str, words: tuple[str, str, str, str, str]) -> _Line:
    done, failed, not_run, running, waiting = words
    line = [
        Segment(f"{progress.succeeded} {done}", _GREEN),
        Segment(f"{separator}{progress.failed} {failed}", _BOLD_RED if progress.failed else None),
    ]
    if progress.not_run:
        line.append(Segment(f"{separator}{progress.not_run} {not_run}", _YELLOW))
    line.append(Segment(f"{separator}{len(progress.running)} {running}"))
    line.append(Segment(f"{separator}{progress.waiting} {waiting}", _DIM))
    return line


def _bar(progress: Progress, width: int) -> _Line:
    """Return the bar; a kind of tasks that there is has a part of it."""
    total = max(progress.total, 1)
    line = []
    begun = drawn = 0
    parts = (
        (progress.succeeded, "━", _GREEN),
        (progress.failed, "━", _RED),
        (progress.not_run, "━", _YELLOW),
        (len(progress.running), "╍", _CYAN),
    )
    for count, sign, style in parts:
        begun += count
        end = min(max(round(begun / total * width), drawn + (count > 0)), width)
        line.append(Segment(sign * (end - drawn), style))
        drawn = max(end, drawn)
    return [*line, Segment("─" * (width - drawn), _DIM)]
