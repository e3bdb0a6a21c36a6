"""Events → lines for people: what tasks print as `task │ line`, and progress."""

from __future__ import annotations

import re

from miniflow.events import LEVELS, Event, Level, OutputChunk, TaskOutput
from miniflow.sinks import Item

# What a terminal may take for a command: a task's output must not move the cursor, set the title or worse.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Return the text with control characters as visible escapes."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text.removesuffix("\r"))


class ConsoleRenderer:
    """Renders events for people.

    Args:
        minimum: Events below this level render as nothing.
    """

    def __init__(self, minimum: Level = "info") -> None:
        self._minimum = LEVELS[minimum]

    def render(self, item: Item) -> tuple[str, str]:
        """Return what goes to standard output (what tasks print), and what goes to standard error (progress)."""
        event: Event = item.template if isinstance(item, OutputChunk) else item
        if LEVELS[event.level] < self._minimum:
            return "", ""
        if isinstance(event, TaskOutput):
            name = f"{event.task_id} │ "
            return _with_name(name, item.text) if isinstance(item, OutputChunk) else f"{name}{harmless(event.line)}\n", ""
        mark = {"warning": "warning: ", "error": "error: "}.get(event.level, "")
        return "", f"{mark}{harmless(event.message)}\n"


def _with_name(name: str, text: str) -> str:
    """Return the lines of a text, each after a name."""
    if text.replace("\n", "").isprintable():
        return name + text.replace("\n", f"\n{name}") + "\n"
    return "".join([f"{name}{harmless(line)}\n" for line in text.split("\n")])
