"""Events → lines for people: what tasks print as `task │ line`, and progress."""

from __future__ import annotations

import re

from miniflow.events import Event, OutputChunk, TaskOutput
from miniflow.sinks import Item

# What a terminal may take for a command: a task's output must not move the cursor, set the title or worse.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Return the text with control characters as visible escapes."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text.removesuffix("\r"))


def for_people(item: Item) -> tuple[str, str]:
    """Return what goes to standard output (what tasks print), or else what goes to standard error (progress)."""
    if isinstance(item, OutputChunk):
        return lines_after(f"{item.template.task_id} │ ", item.text), ""
    if isinstance(item, TaskOutput):
        return lines_after(f"{item.task_id} │ ", item.line), ""
    return "", f"{message_of(item)}\n"


def message_of(event: Event) -> str:
    """Return the sentence that tells of an event, and how bad it is."""
    mark = {"warning": "warning: ", "error": "error: "}.get(event.level, "")
    return f"{mark}{harmless(event.message)}"


def lines_after(name: str, text: str) -> str:
    """Return the lines of a text, each made harmless, after a name, and with an end of line."""
    if text.replace("\n", "").isprintable():
        return name + text.replace("\n", f"\n{name}") + "\n"
    return "".join([f"{name}{harmless(line)}\n" for line in text.split("\n")])
