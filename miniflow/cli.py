"""The commands. The only module that knows click."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from miniflow import __version__
from miniflow.errors import MiniFlowError, UsageError
from miniflow.messages import complain, report
from miniflow.simple import FLOWS_DIR, JSON_FLAG, LOG_LEVEL_VARIABLE, OUTPUT_DIR, TASKS_DIR, VERSION_TEXT, Directory

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from miniflow.events import Level

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
    """Commands that report a user's mistake by a message, without a traceback."""

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
    default="INFO",
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


@cli.command("list")
@click.option(
    JSON_FLAG,
    "as_json",
    is_flag=True,
    help="As a JSON array, with file, description, version, number of tasks and names of parameters.",
)
@click.pass_obj
def list_command(obj: dict[str, Any], as_json: bool) -> int:
    """List the flows.

    The names alone where standard output is no terminal. A file that is broken is listed by its own name, and its problems are
    reported on standard error.
    """
    from miniflow.listing import list_flows

    return list_flows(obj["dirs"]["flows_dir"], as_json, echo=click.echo)


def complete_flow(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of flows; files, where a path is being typed."""
    from click.shell_completion import CompletionItem

    from miniflow.completion import flow_names

    if "/" in incomplete or incomplete.startswith(("~", ".")):
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in flow_names(incomplete, ctx.find_root().params["flows_dir"])]


def typed_flow(ctx: click.Context) -> str | None:
    """Return the FLOW of a command line that is being typed."""
    # click stops reading at an option that still lacks its value, and leaves the arguments as they are.
    flow = ctx.params.get("flow") or next(iter(ctx.args), None) or ctx.params.get("resume")
    return flow if isinstance(flow, str) else None


def complete_task(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the ids of the tasks of the flow that stands on the command line."""
    from click.shell_completion import CompletionItem

    from miniflow.completion import task_ids

    given = ctx.params.get(str(parameter.name)) or ()
    found = task_ids(incomplete, typed_flow(ctx), ctx.find_root().params["flows_dir"], given)
    return [CompletionItem(task_id, help=description or None) for task_id, description in found]


def run_ids_of_flow(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the id of a run, the newest first; nothing where there is none, or the flow is not known."""
    from miniflow.resume import LATEST, run_ids

    flow = typed_flow(ctx)
    if flow is None:
        return []
    try:
        found = run_ids(Path(os.path.expanduser(ctx.find_root().params["output_dir"])), flow)
    except MiniFlowError:  # running the command will say it, and not in the midst of the user's words
        found = []
    return [name for name in (LATEST, *reversed(found)) if name.startswith(incomplete)]


@cli.command()
@click.argument("flow", required=False, metavar="FLOW", shell_complete=complete_flow)
@click.option(
    "-p",
    "--params",
    metavar="PARAMS",
    help="Parameters, which override the flow's defaults: a JSON object, the path of a file that holds one, or - for standard"
    " input.",
)
@click.option("--dry-run", is_flag=True, help="Run nothing; write the flow's bash script and print its path.")
@click.option(
    "--parallel",
    metavar="N|auto",
    envvar="MINIFLOW_PARALLEL",
    default="1",
    show_default=True,
    show_envvar=True,
    help="How many tasks may run at once; auto: as many as there are processors. 1 is the script's order.",
)
@click.option(
    "--keep-going",
    is_flag=True,
    envvar="MINIFLOW_KEEP_GOING",
    show_envvar=True,
    help="After a failure, go on with all that does not depend on it.",
)
@click.option(
    "--only",
    metavar="ID",
    multiple=True,
    shell_complete=complete_task,
    help="Run this task; repeat it for more. What it depends on besides counts as done.",
)
@click.option(
    "--from",
    "from_",
    metavar="ID",
    multiple=True,
    shell_complete=complete_task,
    help="Run this task and all downstream of it; repeatable.",
)
@click.option(
    "--until",
    metavar="ID",
    multiple=True,
    shell_complete=complete_task,
    help="Run this task and all upstream of it; repeatable. With --from: what lies between.",
)
@click.option(
    "--grace",
    metavar="DURATION",
    envvar="MINIFLOW_GRACE",
    default="5s",
    show_default=True,
    show_envvar=True,
    help="Between SIGTERM and SIGKILL for a task that is timed out or stopped: seconds, or a text like 500ms or 1m30s.",
)
@click.option(
    "--timeout",
    metavar="DURATION",
    envvar="MINIFLOW_TIMEOUT",
    show_envvar=True,
    help="For the whole run: then nothing more starts, what runs is ended, and the exit status is 124.",
)
@click.option(
    "--resume",
    metavar="[RUN_ID]",
    is_flag=False,
    flag_value="latest",
    shell_complete=run_ids_of_flow,
    help="Take over what has succeeded in an earlier run and has not changed since; run the rest. Default: the latest run.",
)
@click.option(
    "--python",
    metavar="PYTHON",
    help="The interpreter of tasks that name none. Default: MINIFLOW_PYTHON, else that of an activated environment, else the"
    " one that runs miniflow.",
)
@click.option(
    "--log-format",
    envvar="MINIFLOW_LOG_FORMAT",
    type=click.Choice(["auto", "console", "json"]),
    default="auto",
    show_default=True,
    show_envvar=True,
    help="What to show: lines for people, or every event as JSON. auto: json if standard output is no terminal.",
)
@click.pass_context
def run(
    ctx: click.Context,
    flow: str | None,
    params: str | None,
    dry_run: bool,
    parallel: str,
    keep_going: bool,
    only: tuple[str, ...],
    from_: tuple[str, ...],
    until: tuple[str, ...],
    grace: str,
    timeout: str | None,
    resume: str | None,
    python: str | None,
    log_format: str,
) -> int:
    """Run FLOW: a name in the flows directory, or a path."""
    from miniflow.arguments import read_parallel, read_params, read_seconds
    from miniflow.prepare import plan_flow, write_script

    obj = ctx.obj
    if flow is None and resume != "latest":  # `run --resume FLOW`: an option that may have a value takes what comes next
        flow, resume = resume, "latest"
    if flow is None:
        raise click.MissingParameter(ctx=ctx, param=ctx.command.params[0])
    options: dict[str, Any] = {
        "params": read_params(params) if params is not None else None,
        "keep_going": keep_going,
        "only": only or None,
        "from_": from_ or None,
        "until": until or None,
        "grace": read_seconds("--grace", grace),
        "timeout": read_seconds("--timeout", timeout, least=0.001) if timeout is not None else None,
        "python": os.path.abspath(python) if python and "/" in python else python,
        **obj["dirs"],
    }
    limit = read_parallel(parallel)
    if dry_run:
        from miniflow.signals import Deferred

        if resume is not None:
            raise UsageError("a script runs every task: --dry-run and --resume do not go together")
        with system_errors():
            plan = plan_flow(flow, **options)
            with Deferred():
                path = write_script(plan)
        relative = os.path.relpath(path)
        # One that begins with a dash would be an option of whoever is given it.
        click.echo(path if relative.startswith("..") else f"./{relative}" if relative.startswith("-") else relative)
        return 0
    from miniflow.foreground import run_in_foreground

    use_json = log_format == "json" or (log_format == "auto" and not sys.stdout.isatty())
    level = cast("Level", obj["level"])
    options |= {"parallel": limit, "resume": resume if resume is not None else False}
    with system_errors():
        return run_in_foreground(flow, use_json=use_json, level=level, **options)


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """Report what the operating system refuses where nothing but standard output seems to be written, as what it is."""
    try:
        yield
    except OSError as error:
        raise MiniFlowError(f"the operating system refuses what a run needs: {error}") from error
