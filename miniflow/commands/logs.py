"""`miniflow logs`."""

from __future__ import annotations

from typing import Any

import click


@click.command("logs")
@click.argument("run", required=False, metavar="[RUN]")
@click.argument("task", required=False, metavar="[TASK]")
@click.option("--follow", is_flag=True, help="Go on with what is printed while the run, or the task, goes on.")
@click.option("--raw", is_flag=True, help="Just what was printed: no names, and control characters as they are.")
@click.option("--stderr", is_flag=True, help="What was printed on standard error alone.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="What was printed in the N-th attempt alone.")
@click.option("--json", "as_json", is_flag=True, help="The recorded events, one JSON object a line.")
@click.pass_obj
def command(
    obj: dict[str, Any],
    run: str | None,
    task: str | None,
    follow: bool,
    raw: bool,
    stderr: bool,
    attempt: int | None,
    as_json: bool,
) -> int:
    """Show what the tasks of a run have printed, or one of them.

    RUN is a run's id or a beginning of it, a flow's name for its latest run, or the path of a run directory; without it, the
    latest run of all flows. One word alone that names no run is a TASK of that one.
    """
    from pathlib import Path

    from miniflow.errors import UsageError
    from miniflow.logs import Choice
    from miniflow.runtasks import find_run_and_task
    from miniflow.showlogs import show_logs

    if raw and as_json:
        raise UsageError("--raw and --json do not go together")
    run_dir, task_id = find_run_and_task(Path(obj["dirs"]["output_dir"]), run, task)
    choice = Choice("stderr" if stderr else None, attempt)
    show_logs(run_dir, task_id, choice, kind="raw" if raw else "json" if as_json else "people", follow=follow)
    return 0
