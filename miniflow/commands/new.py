"""`miniflow new`."""

from __future__ import annotations

import os
from typing import Any

import click


@click.command("new")
@click.argument("name", metavar="NAME")
@click.pass_obj
def command(obj: dict[str, Any], name: str) -> int:
    """Make a flow and a script to start from.

    The flow is called NAME, and so are both files. Nothing that is there is overwritten.
    """
    from miniflow.catalog import shown
    from miniflow.signals import Deferred
    from miniflow.starter import how_to_run, start_flow

    directories = obj["dirs"]
    with Deferred():
        made = start_flow(name, flows_dir=directories["flows_dir"], tasks_dir=directories["tasks_dir"])
    for path in made:
        click.echo(f"made {shown(path)}")
    click.echo(f"run it: {how_to_run(name, directories, os.environ)}")
    return 0
