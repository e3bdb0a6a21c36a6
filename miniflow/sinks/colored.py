"""Events → lines for people, in colours, or as a terminal has room for them."""

from __future__ import annotations

from zlib import crc32

from miniflow.events import (
    Event,
    OutputChunk,
    Stream,
    TaskCancelled,
    TaskEvent,
    TaskFinished,
    TaskOutput,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
)
from miniflow.sinks import Item
from miniflow.sinks.console import harmless, lines_after, message_of

RED, GREEN, YELLOW, DIM = "31", "32", "33", "2"
# Of names. Red means something; black, white and the two that come close to one of them are not seen everywhere.
_NAMES = ("36", "35", "34", "33", "32", "96", "95", "94")
_LEVELS = {"warning": YELLOW, "error": RED}


def paint(text: str, color: str) -> str:
    """Return a text in a colour of the terminal's own palette."""
    return f"\x1b[{color}m{text}\x1b[m"


def color_of(task_id: str) -> str:
    """Return the colour of a task's name: the same in every run."""
    return _NAMES[crc32(task_id.encode()) % len(_NAMES)]


def text_of(item: OutputChunk | TaskOutput) -> str:
    """Return what a task has printed."""
    return item.text if isinstance(item, OutputChunk) else item.line


def in_color(item: Item) -> tuple[str, str]:
    """Return what `for_people` does, the names in colours, and warnings and errors in theirs."""
    if isinstance(item, Event) and not isinstance(item, TaskOutput):
        message = message_of(item)
        return "", f"{paint(message, _LEVELS[item.level])}\n" if item.level in _LEVELS else f"{message}\n"
    output = item.template if isinstance(item, OutputChunk) else item
    bar = paint("│", RED) if output.stream == "stderr" else "│"
    return lines_after(f"{paint(output.task_id, color_of(output.task_id))} {bar} ", text_of(item)), ""


class TerminalLines:
    """Renders what scrolls on a terminal below which the tasks that run are shown.

    Names stand in a column of their own, and what came by standard error is marked by another bar. That a task has started is
    not told unless there is something to say about it, as everybody sees it run.

    Args:
        has_colors: Whether to use them.
    """

    def __init__(self, *, has_colors: bool) -> None:
        self._has_colors = has_colors
        self._name_width = 0
        self._prefixes: dict[tuple[str, Stream], str] = {}

    def align(self, longest: int, columns: int) -> None:
        """Have names fill a column: as wide as the longest, or a quarter of the terminal. Longer ones are shown whole."""
        width = min(longest, max(columns // 4, 8))
        if width != self._name_width:
            self._name_width = width
            self._prefixes.clear()

    def render(self, item: Item) -> str:
        """Return the lines of an item; none if it is not worth one."""
        if isinstance(item, OutputChunk | TaskOutput):
            output = item.template if isinstance(item, OutputChunk) else item
            key = (output.task_id, output.stream)
            prefix = self._prefixes.get(key)
            if prefix is None:
                bar = self._painted("┃", RED) if output.stream == "stderr" else "│"
                prefix = self._prefixes[key] = f"{self._name(output.task_id)} {bar} "
            return lines_after(prefix, text_of(item))
        if not isinstance(item, TaskEvent):
            return f"{self._painted(message_of(item), _LEVELS.get(item.level, DIM))}\n"
        if isinstance(item, TaskStarted) and item.reason is None and not item.script_differs:
            return ""
        mark, color = _mark(item)
        message = harmless(item.message.removeprefix(item.task_id).lstrip())
        return f"{self._name(item.task_id)} {self._painted(mark, color)} {self._painted(message, color)}\n"

    def _name(self, task_id: str) -> str:
        return self._painted(task_id, color_of(task_id)) + " " * (self._name_width - len(task_id))

    def _painted(self, text: str, color: str) -> str:
        return paint(text, color) if self._has_colors else text


def _mark(event: TaskEvent) -> tuple[str, str]:
    """Return a sign for what has happened to a task, and its colour."""
    match event:
        case TaskFinished() if event.state == "succeeded":
            return "✓", GREEN
        case TaskFinished() if event.state == "failed":
            return "✗", RED
        case TaskRetrying():
            return "↻", YELLOW
        case TaskFinished() | TaskSkipped() | TaskCancelled():
            return "–", YELLOW if event.level == "warning" else DIM
        case _:
            return "•", DIM
