"""`miniflow run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from miniflow.commands import hidden, system_errors
from miniflow.commands.planning import plan_options, planning_options
from miniflow.errors import FlowError, UsageError

if TYPE_CHECKING:
    from miniflow.events import Level
    from miniflow.foreground import LogFormat


@click.command("run")
@click.argument("flow", required=False, metavar="FLOW")
@planning_options
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
    "--resume",
    metavar="[RUN_ID]",
    is_flag=False,
    flag_value="latest",
    help="Take over what has succeeded in an earlier run and has not changed since; run the rest. Default: the latest run.",
)
@click.option(
    "--junit",
    metavar="FILE",
    type=click.Path(),
    help="Write the run as JUnit XML when it is over, however it has ended.",
)
@click.option(
    "--log-format",
    envvar="MINIFLOW_LOG_FORMAT",
    type=click.Choice(["auto", "console", "json", "github"]),
    default="auto",
    show_default=True,
    show_envvar=True,
    help="What to show: lines for people, every event as JSON, or a log of GitHub Actions. auto: console on a terminal, github"
    " under GITHUB_ACTIONS=true, else json.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    flow: str | None,
    dry_run: bool,
    parallel: str,
    resume: str | None,
    junit: str | None,
    log_format: str,
    **planning: Any,
) -> int:
    """Run FLOW: a name in the flows directory, or a path."""
    from miniflow.arguments import read_parallel
    from miniflow.prepare import plan_flow, write_script

    obj = ctx.obj
    if flow is None and resume != "latest":  # `run --resume FLOW`: an option that may have a value takes what comes next
        flow, resume = resume, "latest"
    if flow is None:
        raise click.MissingParameter(ctx=ctx, param=ctx.command.params[0])
    options = plan_options(**planning) | obj["dirs"]
    limit = read_parallel(parallel)
    if dry_run:
        from miniflow.signals import Deferred

        if resume is not None:
            raise UsageError("a script runs every task: --dry-run and --resume do not go together")
        if junit is not None:
            raise UsageError("nothing runs that could be written of: --dry-run and --junit do not go together")
        with system_errors():
            plan = plan_flow(flow, **options)
            with Deferred():
                path = write_script(plan)
        relative = os.path.relpath(path)
        # One that begins with a dash would be an option of whoever is given it.
        click.echo(path if relative.startswith("..") else f"./{relative}" if relative.startswith("-") else relative)
        return 0
    with hidden("rich"):  # half of our start would be structlog's, loading it for tracebacks that we never print
        from miniflow.foreground import run_in_foreground

    if log_format == "auto":
        log_format = "console" if sys.stdout.isatty() else "github" if os.environ.get("GITHUB_ACTIONS") == "true" else "json"
    report_to = None
    if junit is not None:
        from miniflow.ci_files import check_junit

        check_junit(report_to := Path(junit))
    level = cast("Level", obj["level"])
    options |= {"parallel": limit, "resume": resume if resume is not None else False}
    try:
        with system_errors():
            return run_in_foreground(flow, log_format=cast("LogFormat", log_format), level=level, junit=report_to, **options)
    except FlowError as error:
        if log_format == "github":
            from miniflow.findings import problem_commands

            for line in problem_commands(error.problems, None, os.environ):
                click.echo(line)
        raise
