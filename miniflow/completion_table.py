"""The commands, as click has them → the text that `completion` reads them from, and the script that a shell is given.

The name of a value in the help says what it is: what is a RUN there is completed as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import click

_KINDS = {
    "FLOW": "flow",
    "TASK": "task",
    "ID": "task",
    "RUN": "run",
    "RUN_ID": "run_id",
    "FILE": "file",
    "PARAMS": "file",
    "PYTHON": "file",
    "DIR": "dir",
}
_LONGEST_HELP = 70


def shell_script(shell: str, command: click.Command) -> str:
    """Return the script that has a shell complete the words of a command."""
    script = files("miniflow").joinpath(f"completion.{shell}").read_text(encoding="utf-8")
    return script.replace("@TABLE@", _quoted(table_text(command), shell))


def _quoted(text: str, shell: str) -> str:
    quote, backslash = ("\\'", "\\\\") if shell == "fish" else ("'\\''", "\\")
    return "'" + text.replace("\\", backslash).replace("'", quote) + "'"


def table_text(command: click.Command) -> str:
    """Return the table of a command and all that it calls.

    A command has a line with the words that call it, none for the outermost, then one a parameter, after a space: an argument
    by its kind, `run*` if it takes many; an option by its flags, `-p,--params=file`, `--only*=task` if it is repeatable. After
    a tab there is a word on it.
    """
    return "\n".join(_lines(command, "", None))


def _lines(command: click.Command, path: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, parent=parent, **command.context_settings)
    yield f"{path}\t{command.get_short_help_str(_LONGEST_HELP)}"
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Argument):
            yield f" {_kind(parameter)}{'*' if parameter.nargs == -1 else ''}"
        elif isinstance(parameter, click.Option) and not parameter.hidden:
            is_flag = parameter.is_flag or parameter.count
            many = "*" if parameter.multiple or parameter.count else ""
            # A value that may be left away is written after a sign, or comes next: both are completed.
            value = "" if is_flag else f"={_kind(parameter)}"
            yield f" {','.join(parameter.opts)}{many}{value}\t{_short(parameter.help or '')}"
            if parameter.secondary_opts:
                yield f" {','.join(parameter.secondary_opts)}\t{_short(parameter.help or '')}"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _lines(inner, f"{path} {name}".strip(), context)


def _kind(parameter: click.Parameter) -> str:
    if isinstance(parameter.type, click.Choice):
        return "|".join(map(str, parameter.type.choices))
    name = (parameter.metavar or str(parameter.name).upper()).strip("[].")
    return _KINDS.get(name.partition("]")[0], "any")


def _short(text: str) -> str:
    sentence = text.partition(". ")[0].partition("; ")[0].partition(": ")[0].removesuffix(".")
    return sentence if len(sentence) <= _LONGEST_HELP else sentence[: _LONGEST_HELP - 1].rpartition(" ")[0] + " …"
