"""Command lines that are understood without click, which takes three times as long to load as all of Python.

Here is also what click is told of them, so that there is one definition.
"""

from __future__ import annotations

from miniflow import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

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
LOG_LEVEL = "INFO"
JSON_FLAG = "--json"

LOG_FORMATS = ("auto", "console", "json", "github")
RUN_DEFAULTS: dict[str, Any] = {
    "params": None,
    "keep_going": False,
    "only": (),
    "from_": (),
    "until": (),
    "grace": "5s",
    "timeout": None,
    "python": None,
    "dry_run": False,
    "parallel": "1",
    "resume": None,
    "junit": None,
    "log_format": "auto",
}
"""What `run` does where its options do not say."""
_RUN_FLAGS = {"--keep-going": "keep_going", "--dry-run": "dry_run"}
_RUN_VALUES = {"-p": "params", "--params": "params", "--parallel": "parallel", "--log-format": "log_format"}
_RUN_VARIABLES = [f"MINIFLOW_{name}" for name in ("PARALLEL", "KEEP_GOING", "GRACE", "TIMEOUT", "LOG_FORMAT")]

SHELLS = ("bash", "zsh", "fish")
SHELL_VARIABLE = "_MINIFLOW_COMPLETE"
"""Names the shell that asks what it can offer."""


def asks_for_version(args: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether a command line certainly asks for the version and for nothing else."""
    return list(args) == ["--version"] and not _is_completion(environ)


def asked_list(args: Sequence[str], environ: Mapping[str, str]) -> tuple[str, bool] | None:
    """Return what a command line that certainly is `list` asks for: the flows directory, and whether as JSON."""
    asked = _command(args, environ)
    if asked is None or asked[0] not in (["list"], ["list", JSON_FLAG]):
        return None
    return asked[1][FLOWS_DIR.name], JSON_FLAG in asked[0]


def asked_run(args: Sequence[str], environ: Mapping[str, str]) -> tuple[str, dict[str, str], dict[str, Any]] | None:
    """Return what a command line that certainly is an everyday `run` asks for: the flow, directories, and options.

    As nearly every `run` is one: without rare options, and with none from the environment.
    """
    asked = _command(args, environ)
    if asked is None or asked[0][:1] != ["run"] or any(environ.get(name) for name in _RUN_VARIABLES):
        return None
    rest = asked[0][1:]
    flows = []
    options = dict(RUN_DEFAULTS)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if word in _RUN_FLAGS:
            options[_RUN_FLAGS[word]] = True
        elif flag in _RUN_VALUES and not (equals and not flag.startswith("--")):
            if not equals and rest:
                value = rest.pop(0)
            if not value or value.startswith("-"):
                return None
            options[_RUN_VALUES[flag]] = value
        elif not word or word.startswith("-"):
            return None
        else:
            flows.append(word)
    if len(flows) != 1 or options["log_format"] not in LOG_FORMATS:
        return None
    return flows[0], asked[1], options


def _command(args: Sequence[str], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]] | None:
    """Return a command with its words, and the directories; None if something else stands before it."""
    rest = list(args)
    given = {}
    while rest and rest[0].startswith("-"):
        flag, equals, value = rest.pop(0).partition("=")
        option = next((each for each in DIRECTORIES if flag in each.flags), None)
        if option is None or (equals and not flag.startswith("--")):
            return None
        if not equals and rest:
            value = rest.pop(0)
        if not value or value.startswith("-"):
            return None
        given[option.name] = value
    if _is_completion(environ) or environ.get(LOG_LEVEL_VARIABLE):
        return None
    return rest, {each.name: given.get(each.name) or environ.get(each.variable) or each.default for each in DIRECTORIES}


def asks_for_completion(environ: Mapping[str, str]) -> bool:
    """Return whether it is a shell that asks what it can offer."""
    return environ.get(SHELL_VARIABLE) in SHELLS


def _is_completion(environ: Mapping[str, str]) -> bool:
    return SHELL_VARIABLE in environ
