"""A graph as Mermaid draws it, which GitHub, GitLab and many editors show in Markdown: https://mermaid.js.org."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from miniflow.drawing.flowgraph import FlowGraph
from miniflow.drawing.markup import LIGHT

# Mermaid takes any label for Markdown (https://github.com/mermaid-js/mermaid/issues/5824): `_x_` would be in italics, and
# `1.` a list, which it refuses. The codes of characters are replaced after that.
_EMPHASIS = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LIST_OR_LINK = re.compile(r"[0-9]+\.$|www\.", re.IGNORECASE)


def mermaid(graph: FlowGraph) -> Iterator[str]:
    """Yield the lines of a flow chart; a task is `t` and its number, as ids may be words of the language."""
    yield "flowchart TD"
    for line in graph.summary():
        yield f"  %% {line}"
    for task, task_id in enumerate(graph.task_ids):
        expected = graph.expected(task)
        yield f'  t{task}["{_label(task_id)}{f" ({expected})" if expected else ""}"]'
    steps = set(pairwise(graph.critical_path))
    critical = []
    edges = [(other, task) for task, needed in enumerate(graph.upstream) for other in needed]
    for number, (other, task) in enumerate(edges):
        yield f"  t{other} --> t{task}"
        if (other, task) in steps:
            critical.append(str(number))
    if critical:
        yield f"  classDef critical stroke:{LIGHT['critical']},stroke-width:3px"
        yield f"  class {','.join(f't{task}' for task in graph.critical_path)} critical"
        yield f"  linkStyle {','.join(critical)} stroke:{LIGHT['critical']},stroke-width:3px"


def _label(task_id: str) -> str:
    text = _EMPHASIS.sub("#95;", task_id)
    return text.replace(".", "#46;") if _LIST_OR_LINK.match(task_id) else text
