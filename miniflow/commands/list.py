"""`miniflow list`."""

from __future__ import annotations

from typing import Any

import click

from miniflow.simple import JSON_FLAG


@click.command("list")
@click.option(
    JSON_FLAG,
    "as_json",
    is_flag=True,
    help="As a JSON array, with file, description, version, number of tasks and names of parameters.",
)
@click.pass_obj
def command(obj: dict[str, Any], as_json: bool) -> int:
    """List the flows.

    The names alone where standard output is no terminal. A file that is broken is listed by its own name, and its problems are
    reported on standard error.
    """
    from miniflow.listing import list_flows

    return list_flows(obj["dirs"]["flows_dir"], as_json, echo=click.echo)
