"""Command lines that are understood without click, which takes three times as long to load as all of Python.

Here is also what click is told of them, so that there is one definition.
"""

from __future__ import annotations

from miniflow import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION_TEXT = f"miniflow {__version__}"


class Directory:
    """An option for a directory, of all commands."""

    def __init__(self, name: str, default: str, help_text: str) -> None:
        self.name = f"{name}_dir"
        self.flags = (f"-{name[0]}", f"--{name}-dir")
        self.variable = f"MINIFLOW_{name.upper()}_DIR"
        self.default = default
        self.help_text = help_text


FLOWS_DIR = Directory("flows", "./flows", "Where the flows are.")
TASKS_DIR = Directory("tasks", "./tasks", "Where the scripts of their tasks are.")
OUTPUT_DIR = Directory("output", "./miniflow_output", "Where scripts and run directories go.")
DIRECTORIES = (FLOWS_DIR, TASKS_DIR, OUTPUT_DIR)

LOG_LEVEL_VARIABLE = "MINIFLOW_LOG_LEVEL"
JSON_FLAG = "--json"

SHELLS = ("bash", "zsh", "fish")
SHELL_VARIABLE = "_MINIFLOW_COMPLETE"
"""Names the shell that asks what it can offer."""


def asks_for_version(args: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether a command line certainly asks for the version and for nothing else."""
    return list(args) == ["--version"] and not _is_completion(environ)


def asked_list(args: Sequence[str], environ: Mapping[str, str]) -> tuple[str, bool] | None:
    """Return what a command line that certainly is `list` asks for: the flows directory, and whether as JSON."""
    rest = list(args)
    given = {}
    while rest and rest[0] != "list":
        flag, equals, value = rest.pop(0).partition("=")
        option = next((each for each in DIRECTORIES if flag in each.flags), None)
        if option is None or (equals and not flag.startswith("--")):
            return None
        if not equals and rest:
            value = rest.pop(0)
        if not value or value.startswith("-"):
            return None
        given[option.name] = value
    if rest not in (["list"], ["list", JSON_FLAG]) or _is_completion(environ) or environ.get(LOG_LEVEL_VARIABLE):
        return None
    return given.get(FLOWS_DIR.name) or environ.get(FLOWS_DIR.variable) or FLOWS_DIR.default, JSON_FLAG in rest


def asks_for_completion(environ: Mapping[str, str]) -> bool:
    """Return whether it is a shell that asks what it can offer."""
    return environ.get(SHELL_VARIABLE) in SHELLS


def _is_completion(environ: Mapping[str, str]) -> bool:
    return SHELL_VARIABLE in environ
