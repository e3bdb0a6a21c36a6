"""`miniflow run`."""

from __future__ import annotations

from typing import Any

import click

from miniflow.commands.planning import planning_options
from miniflow.simple import LOG_FORMATS, RUN_DEFAULTS


@click.command("run")
@click.argument("flow", required=False, metavar="FLOW")
@planning_options
@click.option("--dry-run", is_flag=True, help="Run nothing; write the flow's bash script and print its path.")
@click.option(
    "--parallel",
    metavar="N|auto",
    envvar="MINIFLOW_PARALLEL",
    default=RUN_DEFAULTS["parallel"],
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
    type=click.Choice(LOG_FORMATS),
    default=RUN_DEFAULTS["log_format"],
    show_default=True,
    show_envvar=True,
    help="What to show: lines for people, every event as JSON, or a log of GitHub Actions. auto: console on a terminal, github"
    " under GITHUB_ACTIONS=true, else json.",
)
@click.pass_context
def command(ctx: click.Context, /, flow: str | None, resume: str | None, **options: Any) -> int:
    """Run FLOW: a name in the flows directory, or a path."""
    from miniflow.launch import launch

    if flow is None and resume != "latest":  # `run --resume FLOW`: an option that may have a value takes what comes next
        flow, resume = resume, "latest"
    if flow is None:
        raise click.MissingParameter(ctx=ctx, param=ctx.command.params[0])
    return launch(flow, ctx.obj["dirs"], ctx.obj["level"], echo=click.echo, resume=resume, **options)
