"""`miniflow runs`, and `miniflow runs prune`."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

import click

from miniflow.errors import UsageError
from miniflow.simple import JSON_FLAG

_SHOWN = 20


class Runs(click.Group):
    """A command that lists, and has others below it. (To click, a group with an argument cannot be told from its commands.)"""

    allow_extra_args = False
    allow_interspersed_args = True

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the command that the first word names, else of the list."""
        below = self.commands.get(args[0]) if args else None
        if below is not None:
            return below.make_context(f"{info_name} {below.name}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words of the list."""
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """List."""
        return click.Command.invoke(self, ctx)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say how it is called."""
        formatter.write_usage(ctx.command_path, "[OPTIONS] [FLOW]")
        formatter.write_usage(ctx.command_path, "prune [OPTIONS] [FLOW]")


@click.group("runs", cls=Runs, invoke_without_command=True)
@click.argument("flow", required=False, metavar="[FLOW]")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=_SHOWN,
    show_default=True,
    help="How many are listed, from the newest on; 0: all.",
)
@click.option(JSON_FLAG, "as_json", is_flag=True, help="As a JSON array.")
@click.pass_obj
def command(obj: dict[str, Any], flow: str | None, limit: int, as_json: bool) -> int:
    """List the runs of all flows, or of FLOW, the newest first.

    A flow that is called like a command below: miniflow runs -- FLOW
    """
    from miniflow.messages import complain
    from miniflow.overview import HEADINGS, for_people, read_overviews
    from miniflow.readers import while_read
    from miniflow.runs import all_runs, known_flow
    from miniflow.tables import table
    from miniflow.terminal import has_colors

    problems: list[Any] = []
    output_dir = obj["dirs"]["output_dir"]
    found = all_runs(output_dir, known_flow(output_dir, flow), problems)
    listed = found[:limit] if limit else found
    runs = read_overviews(listed, problems)
    with while_read():
        if as_json:
            click.echo(json.dumps([run.to_json() for run in runs], ensure_ascii=False, indent=1))
        elif runs:
            colors = has_colors(sys.stdout.isatty(), os.environ)
            lines = table(HEADINGS, map(for_people, runs), colors=colors, right=("EXIT", "DURATION"))
            click.echo("\n".join(lines), color=True)  # whether there are any is decided
    for problem in problems:
        complain(str(problem))
    if not found and not as_json:
        complain("No runs here.")
    if len(listed) < len(found) and sys.stdout.isatty():
        complain(f"{len(found) - len(listed)} older ones are not shown; see --limit.")
    return 0


@command.command("prune")
@click.argument("flow", required=False, metavar="[FLOW]")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Keep the N newest runs of each flow.")
@click.option(
    "--older-than",
    metavar="DURATION",
    help="Remove runs alone that began at least so long ago: a text like 30d, 12h or 1h30m, or seconds.",
)
@click.option("--dry-run", is_flag=True, help="Remove nothing; tell what would be removed.")
@click.option(JSON_FLAG, "as_json", is_flag=True, help="As a JSON object.")
@click.pass_obj
def prune_runs(
    obj: dict[str, Any], flow: str | None, keep: int | None, older_than: str | None, dry_run: bool, as_json: bool
) -> int:
    """Remove the run directories of all flows, or of FLOW; never one that goes on, or that another run is resuming.

    With --keep and --older-than, those that both would remove.
    """
    from miniflow.arguments import read_seconds
    from miniflow.messages import complain, report
    from miniflow.prune import prune
    from miniflow.readers import while_read
    from miniflow.runs import known_flow
    from miniflow.sinks.console import harmless

    if keep is None and older_than is None:
        raise UsageError("say which runs to remove: --keep N, --older-than DURATION, or both")
    output_dir = obj["dirs"]["output_dir"]
    pruned = prune(
        output_dir,
        known_flow(output_dir, flow),
        keep=keep or 0,
        older_than_s=read_seconds("--older-than", older_than, most=math.inf) if older_than is not None else None,
        dry_run=dry_run,
    )
    if as_json:
        found = {
            "dry_run": dry_run,
            "removed": [{"run_id": run.path.name, "flow": run.path.parent.name} for run in pruned.removed],
            "in_use": [{"run_id": run.path.name, "flow": run.path.parent.name, "why": why} for run, why in pruned.in_use],
            "errors": list(map(str, pruned.problems)),
        }
        lines = [json.dumps(found, ensure_ascii=False, indent=1)]
    else:
        lines = [f"{'would remove' if dry_run else 'removed'} {harmless(os.fspath(run.path))}" for run in pruned.removed]
    with while_read():
        for line in lines:
            click.echo(line)
    for run, why in pruned.in_use:
        complain(f"kept {harmless(os.fspath(run.path))}: {'it goes on' if why == 'running' else 'another run resumes it'}")
    for problem in pruned.problems:
        report(problem)
    return 2 if pruned.problems else 0
