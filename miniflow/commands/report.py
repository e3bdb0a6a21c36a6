"""`miniflow report`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from miniflow.errors import MiniFlowError, UsageError


@click.command("report")
@click.argument("run", required=False, metavar="[RUN]")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to write it; - is standard output. Default: report.html in the run's directory.",
)
@click.option("--open", "opens", is_flag=True, help="Show it in a browser.")
@click.pass_obj
def command(obj: dict[str, Any], run: str | None, output: str | None, opens: bool) -> int:
    """Write a run as one HTML file that needs nothing besides, and print its path.

    RUN is the id of a run or the beginning of one, a flow's name for its latest run, or a run's directory; without it, the
    latest run of all.
    """
    if output == "":
        raise UsageError("--output is empty; name a file, or leave the option away")
    if output == "-" and opens:
        raise UsageError("--open needs a file: it does not go with --output -")
    from miniflow.files import check_is_file, write_atomically
    from miniflow.report.collect import collect
    from miniflow.report.page import page
    from miniflow.runs import find_any_run

    run_dir = find_any_run(Path(os.path.expanduser(obj["dirs"]["output_dir"])), run)
    path = run_dir.path / "report.html" if output is None else Path(output)
    if output != "-":
        check_is_file(path, "--output")
    content = page(collect(run_dir, Path() if output == "-" else path.parent))
    if output == "-":
        click.echo(content, nl=False)
        return 0
    write_atomically(path, content)
    relative = os.path.relpath(path)
    click.echo(str(path) if relative.startswith("..") else relative)
    if opens:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            raise MiniFlowError(f"no browser was found to show {path} in; open it yourself")
    return 0
