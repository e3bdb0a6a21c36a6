"""`miniflow validate`."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import click

PIPE_WIDTH = 120
"""Of the excerpts where standard output is no terminal."""


@click.command("validate")
@click.argument("flows", nargs=-1, metavar="[FLOW]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="How to tell what is wrong: with an excerpt of the file, as JSON, or as annotations in GitHub Actions.",
)
@click.pass_obj
def command(obj: dict[str, Any], flows: tuple[str, ...], form: str) -> int:
    """Check flows, without running them.

    All of the flows directory, or each FLOW, a name or a path.

    What is looked at is all that a run looks at before it starts, scripts included. Parameters that are required and secrets
    are no problem of a flow: whoever runs it has to give them. Exit status: 0 all are valid, 2 something is wrong.
    """
    from miniflow.findings import as_github, as_json, as_text
    from miniflow.readers import while_read
    from miniflow.terminal import has_colors
    from miniflow.validation import check_flows

    checked = check_flows(flows, **obj["dirs"])
    with while_read():
        if form == "json":
            click.echo(as_json(checked))
        elif form == "github":
            for line in as_github(checked, os.environ):
                click.echo(line)
        else:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH
            for line in as_text(checked, width=width, has_colors=has_colors(sys.stdout.isatty(), os.environ)):
                click.echo(line, color=True)
    return 2 if any(each.problems for each in checked) else 0
