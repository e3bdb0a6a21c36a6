"""The command `graph`: a flow in the flows directory, drawn."""

from __future__ import annotations

import shutil
from pathlib import Path

from miniflow.catalog import load_named_flow
from miniflow.drawing.dot import dot
from miniflow.drawing.flowgraph import FlowGraph, graph_of
from miniflow.drawing.mermaid import mermaid
from miniflow.drawing.svg import DrawnTask, graph_svg
from miniflow.drawing.text import colored, text
from miniflow.errors import InternalError
from miniflow.history import earlier_durations


def diagram(flow: str, form: str, *, is_unicode: bool, colors: bool, flows_dir: str, tasks_dir: str, output_dir: str) -> str:
    """Return the drawing of a flow, with the durations of its earlier runs.

    Args:
        flow: A name in the flows directory, or a path.
        form: text, mermaid, dot or svg.
        is_unicode: Whether more than ASCII may be in it.
        colors: Whether a text may have them.
        flows_dir: Where the flow is.
        tasks_dir: Not looked at.
        output_dir: Where its earlier runs are.

    Raises:
        FlowError: With every problem found.
    """
    loaded = load_named_flow(flow, flows_dir)
    graph = graph_of(loaded, earlier_durations(Path(output_dir), loaded.name, [task.id for task in loaded.tasks]))
    if graph is None:
        raise InternalError(f'flow "{loaded.name}" has been checked, and cannot be drawn')
    if form == "svg":
        drawn = graph_svg(
            [
                DrawnTask(task.id, needed, detail="\n".join(part for part in (task.description, graph.expected(n)) if part))
                for n, (task, needed) in enumerate(zip(loaded.tasks, graph.upstream, strict=True))
            ],
            title=f"flow {loaded.name}",
            description="\n".join(graph.summary()),
            critical_path=graph.critical_path if len(graph.critical_path) > 1 else (),
        )
        return drawn if is_unicode else drawn.encode("ascii", "xmlcharrefreplace").decode()
    return "".join(f"{line}\n" for line in _lines(graph, form, is_unicode, colors))


def _lines(graph: FlowGraph, form: str, is_unicode: bool, colors: bool) -> list[str]:
    if form == "text":
        lines = list(text(graph, width=shutil.get_terminal_size().columns, is_unicode=is_unicode))
        return list(map(colored, lines)) if colors else lines
    return list(mermaid(graph) if form == "mermaid" else dot(graph))
