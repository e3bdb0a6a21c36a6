"""Progress → the lines at the bottom of a terminal: what runs, a bar, counts, and how long the rest will take."""

from __future__ import annotations

import io
from itertools import islice

from rich.console import Console
from rich.text import Text

from miniflow.durations import format_elapsed
from miniflow.progress import Progress, RunningTask
from miniflow.sinks.colored import color_of

_WIDEST_BAR = 40
_LEAST_BAR = 10


class RegionDrawer:
    """Draws the region.

    Args:
        has_colors: Whether to use them.
    """

    def __init__(self, *, has_colors: bool) -> None:
        self._console = Console(
            file=io.StringIO(),
            force_terminal=True,
            color_system="standard" if has_colors else None,
            legacy_windows=False,
        )

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
        name_width = max((len(task.id) for task in running), default=0)
        lines = [_running(task, now_s, min(name_width, max(width - 12, 1))) for task in running]
        if hidden and room:
            lines.append(Text(f"   … and {hidden} more running" if lines else f"   {hidden} running", "dim"))
        lines += below
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        with self._console.capture() as drawn:
            self._console.print(Text("\n").join(lines), soft_wrap=True, end="")
        return drawn.get().split("\n")


def _running(task: RunningTask, now_s: float, name_width: int) -> Text:
    name = task.id if len(task.id) <= name_width else f"{task.id[: name_width - 1]}…"
    elapsed = format_elapsed(now_s - task.began_s)
    line = Text.assemble(
        " ", ("◌" if task.waits else "●", "yellow" if task.waits else "green"),
        " ", (f"{name:{name_width}}", _style(color_of(task.id))),
        f"  {elapsed:>6}",
    )  # fmt: skip
    if task.waits:
        line.append(f"  waits for attempt {task.attempt + 1}", "yellow")
    elif task.attempt > 1:
        line.append(f"  attempt {task.attempt}", "dim")
    return line


def _style(code: str) -> str:
    """Return what `rich` calls a colour of the terminal's palette."""
    return f"color({int(code[-1]) + (8 if code[0] == '9' else 0)})"


def _below(progress: Progress, now_s: float, width: int) -> list[Text]:
    """Return the bar with the counts after it, or below it where there is little room."""
    remaining_s = progress.remaining_s(now_s)
    left = "" if remaining_s is None or not progress.running else f"  ~{format_elapsed(remaining_s)} left"
    ended = Text.assemble((f"  {progress.done}/{progress.total}", "bold"), f"  {format_elapsed(now_s)}", (left, "dim"))
    counts = _counts(progress, " · ", ("done", "failed", "not run", "running", "waiting"))
    room = width - 3 - ended.cell_len - counts.cell_len
    if room >= _LEAST_BAR:
        return [Text.assemble(" ", _bar(progress, min(room, _WIDEST_BAR)), ended, "  ", counts)]
    if counts.cell_len + 1 > width:
        counts = _counts(progress, "  ", ("✓", "✗", "–", "●", "◌"))
    bar = _bar(progress, min(max(width - 1 - ended.cell_len, 0), _WIDEST_BAR))
    return [Text.assemble(" ", bar, ended), Text.assemble(" ", counts)]


def _counts(progress: Progress, separator: str, words: tuple[str, str, str, str, str]) -> Text:
    done, failed, not_run, running, waiting = words
    counts = [(progress.succeeded, done, "green"), (progress.failed, failed, "bold red" if progress.failed else "")]
    if progress.not_run:
        counts.append((progress.not_run, not_run, "yellow"))
    counts += [(len(progress.running), running, ""), (progress.waiting, waiting, "dim")]
    return Text(separator).join([Text(f"{count} {word}", style) for count, word, style in counts])


def _bar(progress: Progress, width: int) -> Text:
    """Return the bar; a kind of tasks that there is has a part of it."""
    total = max(progress.total, 1)
    bar = Text()
    begun = 0
    parts = (
        (progress.succeeded, "━", "green"),
        (progress.failed, "━", "red"),
        (progress.not_run, "━", "yellow"),
        (len(progress.running), "╍", "cyan"),
    )
    for count, sign, style in parts:
        end = min(max(round((begun + count) / total * width), bar.cell_len + (count > 0)), width)
        bar.append(sign * (end - bar.cell_len), style)
        begun += count
    return bar.append("─" * (width - bar.cell_len), "dim")
