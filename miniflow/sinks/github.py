"""Events → lines of a log of GitHub Actions: what a task prints in a group, failures as annotations.

The service takes lines of its own form, `::name key=value::message`, for commands wherever they come from. What tasks print
stands between a command that stops this and one, with a token that nobody can guess, that has it go on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from miniflow.events import Event
from miniflow.sinks.console import harmless

_OLD_PREFIX = "##["
"""Of commands in their old form, looked for in the midst of a line as well, and of the marks of a log as it is kept."""
_INERT_PREFIX = "\\x23#["


def workflow_command(name: str, message: str = "", **properties: str | int | None) -> str:
    """Return the line of a command; properties that are None are left away."""
    given = ",".join(f"{key}={_escaped_property(str(value))}" for key, value in properties.items() if value is not None)
    return f"::{name} {given}::{_escaped(message)}\n" if given else f"::{name}::{_escaped(message)}\n"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def below_checkout(file: str, environ: Mapping[str, str]) -> str:
    """Return a file's path as annotations need it: below the checkout, wherever the command was called; else as it is."""
    workspace = os.path.realpath(environ.get("GITHUB_WORKSPACE") or ".")
    path = os.path.relpath(os.path.realpath(file), workspace)
    return file if path.startswith("../") else path


def opening(title: str, token: str) -> str:
    """Return what stands before the output of a task.

    Args:
        title: Of the group.
        token: What ends it: nobody else may know it.
    """
    return workflow_command("group", title) + workflow_command("stop-commands", token)


def closing(token: str) -> str:
    """Return what stands after the output of a task."""
    return workflow_command(token) + workflow_command("endgroup")


def inert(text: str) -> str:
    """Return lines that are shown as they are, each ended by a newline, whatever is in them."""
    text = text.replace(_OLD_PREFIX, _INERT_PREFIX)
    if text.replace("\n", "").isprintable():
        return f"{text}\n"
    return "".join([f"{harmless(line)}\n" for line in text.split("\n")])


def progress(event: Event) -> str:
    """Return the line of an event that is no output."""
    mark = {"warning": "warning: ", "error": "error: "}.get(event.level, "")
    return mark + inert(harmless(event.message))


def annotation(event: Event, title: str, lines: Sequence[str] = (), **place: str | int | None) -> str:
    """Return the command that reports a failure.

    Args:
        event: What is wrong.
        title: A few words.
        lines: What was printed last.
        place: `file`, `line` and `col`, as far as they are known.
    """
    message = "".join(map(inert, map(harmless, (event.message, *lines)))).removesuffix("\n")
    return workflow_command("error", message, **place, title=title)
