"""`miniflow diff`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from miniflow.simple import JSON_FLAG


@click.command("diff")
@click.argument("run", required=False, metavar="[RUN]")
@click.argument("other", required=False, metavar="[RUN]")
@click.option(JSON_FLAG, "as_json", is_flag=True, help="As a JSON object.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if plans or ends differ; durations alone do not count.")
@click.pass_obj
def command(obj: dict[str, Any], run: str | None, other: str | None, as_json: bool, exit_code: bool) -> int:
    """Show what differs between two runs: what was to run, how it ended, and how long it took.

    With one RUN, or none, that run, or the latest, is compared with the one before it of the same flow. RUN is a run's id or a
    beginning of it, a flow's name for its latest run, or the path of a run directory.
    """
    from pathlib import Path

    from miniflow import difftext
    from miniflow.comparing import compare
    from miniflow.readers import while_read
    from miniflow.terminal import has_colors

    found = compare(Path(obj["dirs"]["output_dir"]), run, other)
    colors = has_colors(sys.stdout.isatty(), os.environ)
    with while_read():
        click.echo(difftext.as_json(found) if as_json else difftext.as_text(found, has_colors=colors), color=True)
    return int(exit_code and found.has_any)
