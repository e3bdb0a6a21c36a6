"""The command `list`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from miniflow.catalog import flow_files, load_flow_file, stem
from miniflow.errors import FlowError
from miniflow.messages import complain
from miniflow.readers import while_read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def list_flows(flows_dir: str, as_json: bool, echo: Callable[[str], object]) -> int:
    """List the flows of a directory, and on standard error what is wrong with them; return the exit status.

    Args:
        flows_dir: The directory.
        as_json: Say all about each.
        echo: Writes a line on standard output.

    Raises:
        FlowError: The directory cannot be read.
    """
    rows: list[dict[str, Any]] = []
    broken: list[FlowError] = []
    for path in flow_files(flows_dir):
        try:
            flow = load_flow_file(path)
        except FlowError as error:
            broken.append(error)
            problems = [str(problem) for problem in error.problems]
            rows.append({"name": stem(path), "file": path, "problems": problems})
            continue
        rows.append(
            {
                "name": flow.name,
                "file": path,
                "description": flow.description,
                "version": flow.version,
                "tasks": len(flow.tasks),
                "params": list(flow.params),
            }
        )
    rows.sort(key=lambda row: row["name"])
    with while_read():
        if as_json:
            echo(json.dumps(rows, ensure_ascii=False, indent=1))
        elif sys.stdout.isatty():
            _echo_table(rows, echo)
        else:
            for row in rows:
                echo(row["name"])
    for problems_of_file in broken:
        complain(str(problems_of_file))
    return 2 if broken else 0


def _echo_table(rows: list[dict[str, Any]], echo: Callable[[str], object]) -> None:
    if not rows:
        complain("No flows here.")
        return
    from miniflow.sinks.console import harmless

    width = max(len(harmless(row["name"])) for row in rows)
    echo(f"{'FLOW':{width}}  TASKS  DESCRIPTION")
    for row in rows:
        if "problems" in row:
            count = len(row["problems"])
            echo(f"{harmless(row['name']):{width}}      -  broken: {count} problem{'s' if count > 1 else ''}")
        else:
            summary = (row["description"].strip().splitlines() or [""])[0]
            echo(f"{row['name']:{width}}  {row['tasks']:5}  {harmless(summary)}".rstrip())
