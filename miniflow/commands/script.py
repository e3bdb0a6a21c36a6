"""`miniflow script`."""

from __future__ import annotations

import sys
from typing import Any

import click

from miniflow.arguments import plan_options
from miniflow.commands import system_errors
from miniflow.commands.planning import planning_options


@click.command("script")
@click.argument("flow", metavar="FLOW")
@planning_options
@click.pass_obj
def command(obj: dict[str, Any], /, flow: str, **planning: Any) -> int:
    """Print the bash script of FLOW.

    It is the one that `run --dry-run` writes into a file. FLOW is a name in the flows directory, or a path.
    """
    from miniflow.bash import script_parts
    from miniflow.prepare import plan_flow

    with system_errors():
        plan = plan_flow(flow, **plan_options(**planning), **obj["dirs"])
    for part in script_parts(plan):
        sys.stdout.buffer.write(part)
    return 0
