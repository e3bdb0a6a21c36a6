"""A graph in the language of Graphviz: https://graphviz.org/doc/info/lang.html."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from miniflow.drawing.flowgraph import FlowGraph
from miniflow.drawing.markup import LIGHT


def dot(graph: FlowGraph) -> Iterator[str]:
    """Yield the lines of a directed graph. Names and ids need no escape within quotes."""
    bold = f'color="{LIGHT["critical"]}" penwidth=2.5'
    yield f'digraph "{graph.name}" {{'
    for line in graph.summary():
        yield f"  // {line}"
    yield '  node [shape=box style=rounded fontname="monospace" fontsize=11];'
    critical = set(graph.critical_path) if len(graph.critical_path) > 1 else set()
    for task, task_id in enumerate(graph.task_ids):
        expected = graph.expected(task)
        attributes = [*([f'label="{task_id}\\n{expected}"'] if expected else []), *([bold] if task in critical else [])]
        yield f'  "{task_id}"' + (f" [{' '.join(attributes)}];" if attributes else ";")
    steps = set(pairwise(graph.critical_path))
    for task, needed in enumerate(graph.upstream):
        for other in needed:
            marked = f" [{bold}]" if (other, task) in steps else ""
            yield f'  "{graph.task_ids[other]}" -> "{graph.task_ids[task]}"{marked};'
    yield "}"
