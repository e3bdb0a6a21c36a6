"""The command line as click reads it: what stands before a command, and which commands there are."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from typing import Any

import click

from miniflow import __version__
from miniflow.errors import MiniFlowError
from miniflow.messages import complain, report
from miniflow.simple import FLOWS_DIR, LOG_LEVEL, LOG_LEVEL_VARIABLE, OUTPUT_DIR, TASKS_DIR, VERSION_TEXT, Directory

COMMANDS = (
    "list",
    "run",
    "status",
    "logs",
    "runs",
    "explain",
    "diff",
    "report",
    "validate",
    "graph",
    "script",
    "schema",
    "new",
    "completion",
)
"""Each is a module of `commands`, in the order in which they are shown."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def call() -> int:
    """Answer the command line; return the exit status."""
    try:
        status = cli.main(prog_name="miniflow", standalone_mode=False)
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        complain(text.getvalue().removesuffix("\n"))
        return error.exit_code
    return status if isinstance(status, int) else 0


class Commands(click.Group):
    """Commands that are loaded when they are called, and report a user's mistake by a message, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"miniflow.commands.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names; of one that there is not, say which may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:  # to click there is none, as none is loaded
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn our errors into messages and exit status 2."""
        try:
            return super().invoke(ctx)
        except MiniFlowError as error:
            report(error)
            ctx.exit(2)


def directory(option: Directory) -> Callable[[Any], Any]:
    """Return an option for one of the directories."""

    def not_empty(_: click.Context, parameter: click.Parameter, value: str) -> str:
        if not value:  # a variable of the caller's that is not set, usually
            raise click.BadParameter("is empty; name a directory, or leave the option away", param=parameter)
        return value

    return click.option(
        *option.flags,
        envvar=option.variable,
        default=option.default,
        metavar="DIR",
        callback=not_empty,
        show_default=True,
        show_envvar=True,
        help=option.help_text,
    )


@click.group(cls=Commands, context_settings=CONTEXT)
@directory(FLOWS_DIR)
@directory(TASKS_DIR)
@directory(OUTPUT_DIR)
@click.option(
    "-l",
    "--log-level",
    envvar=LOG_LEVEL_VARIABLE,
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    metavar="LEVEL",
    default=LOG_LEVEL,
    show_default=True,
    show_envvar=True,
    help="The least that is shown: DEBUG, INFO, WARNING or ERROR. What is recorded is always complete.",
)
@click.version_option(__version__, message=VERSION_TEXT)
@click.pass_context
def cli(ctx: click.Context, flows_dir: str, tasks_dir: str, output_dir: str, log_level: str) -> None:
    """Run flows: Python scripts with dependencies, described in one JSON file.

    Exit status: 0 all is well, 1 a task failed, 2 something is wrong with a flow or with how miniflow was called, or the run
    could not be recorded, 124 the run took longer than its timeout, 130, 143 or 129 after Ctrl-C, SIGTERM or SIGHUP.
    """
    ctx.obj = {
        "dirs": {"flows_dir": flows_dir, "tasks_dir": tasks_dir, "output_dir": output_dir},
        "level": log_level.lower(),
    }
