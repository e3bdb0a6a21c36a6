"""`miniflow graph`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from miniflow.commands import system_errors


@click.command("graph")
@click.argument("flow", metavar="FLOW")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "dot", "svg"]),
    default="text",
    show_default=True,
    help="A drawing for the terminal, or in the language of Mermaid or Graphviz, or an image.",
)
@click.option("-o", "--output", metavar="FILE", help="Where to write it. Default, and with -: standard output.")
@click.pass_obj
def command(obj: dict[str, Any], /, flow: str, form: str, output: str | None) -> int:
    """Draw the tasks of FLOW, what they depend on, and which of them decide how long it takes.

    FLOW is a name in the flows directory, or a path; its parameters and scripts are not needed. How long the tasks take is
    known from earlier runs in the output directory.
    """
    from pathlib import Path

    from miniflow.diagrams import diagram
    from miniflow.files import check_is_file, write_atomically
    from miniflow.terminal import has_colors

    path = None if output is None or output == "-" else Path(output)
    if path is not None:
        check_is_file(path, "--output")
    is_unicode = path is not None or (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    colors = path is None and has_colors(sys.stdout.isatty(), os.environ)
    with system_errors():
        drawn = diagram(flow, form, is_unicode=is_unicode, colors=colors, **obj["dirs"])
        if path is not None:
            write_atomically(path, drawn.encode())
            return 0
    click.echo(drawn, nl=False, color=True)  # whether there are any is decided
    return 0
