"""`miniflow status`."""

from __future__ import annotations

from typing import Any

import click

from miniflow.simple import JSON_FLAG


@click.command("status")
@click.argument("run", required=False, metavar="[RUN]")
@click.option(
    "--follow", is_flag=True, help="Go on until the run has ended; exit with its exit status, or 1 if its runner died."
)
@click.option(JSON_FLAG, "as_json", is_flag=True, help="As a JSON object; with --follow the recorded events, one a line.")
@click.pass_obj
def command(obj: dict[str, Any], run: str | None, follow: bool, as_json: bool) -> int:
    """Show how a run is, or was: its state and times, its tasks, and what has failed.

    RUN is a run's id or a beginning of it, a flow's name for its latest run, or the path of a run directory; without it, the
    latest run of all flows.
    """
    from miniflow.runs import find_any_run
    from miniflow.showstatus import follow_status, show_status

    run_dir = find_any_run(obj["dirs"]["output_dir"], run)
    if follow:
        return follow_status(run_dir, as_json=as_json)
    show_status(run_dir, as_json=as_json)
    return 0
