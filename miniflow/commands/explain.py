"""`miniflow explain`."""

from __future__ import annotations

import sys
from typing import Any

import click


@click.command("explain")
@click.argument("task", metavar="TASK")
@click.argument("run", required=False, metavar="[RUN]")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object, with the sentences and what they are made of.")
@click.pass_obj
def command(obj: dict[str, Any], task: str, run: str | None, as_json: bool) -> int:
    """Tell why a task ran or did not, what it waited for, how it ended, and how to run it again by hand.

    RUN is a run's id or a beginning of it, a flow's name for its latest run, or the path of a run directory; without it, the
    latest run of all flows.
    """
    import shutil
    from pathlib import Path

    from miniflow.explaining import explained
    from miniflow.runs import find_any_run

    run_dir = find_any_run(Path(obj["dirs"]["output_dir"]), run)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo(explained(run_dir, task, as_json=as_json, width=width))
    return 0
