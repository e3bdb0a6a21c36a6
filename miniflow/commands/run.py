"""`miniflow run`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, cast

import click

from miniflow.commands import system_errors
from miniflow.commands.words import complete_flow, complete_task, run_ids_of_flow
from miniflow.errors import UsageError

if TYPE_CHECKING:
    from miniflow.events import Level


@click.command("run")
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
def command(
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
