"""A graph for a terminal: drawn with boxes if it fits, else its layers as a list."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from miniflow.drawing.boxes import ASCII, UNICODE, draw_boxes
from miniflow.drawing.flowgraph import FlowGraph
from miniflow.drawing.labels import series, shortened
from miniflow.layout import alike, between_groups, levels

LEAST_TOGETHER = 4
"""So many tasks of a kind stand in one box."""
MOST_IN_A_BOX = 24
"""So many are named there."""
MOST_IN_A_LIST = 8
MOST_REPEATED = 6
_LABEL = 32
_WIDEST_BOX = 60
_NUMBER = re.compile(r"[0-9]+")
# Heavy lines, and the names in the list that stand for them.
_CRITICAL = re.compile(r"[━┃┏┓┗┛┣┫┳┻╋]+|\*[\w.-]+")


def text(graph: FlowGraph, *, width: int, is_unicode: bool = True) -> Iterator[str]:
    """Yield the lines of a drawing that is no wider than `width`, but for names that are longer, and what it means."""
    mark = "…" if is_unicode else "..."
    drawing = _drawn(graph, width, mark, is_unicode)
    yield from _listed(graph, width, mark, "←" if is_unicode else "<-") if drawing is None else drawing
    if graph.task_ids:
        yield ""
    for line in graph.summary():
        shown = line.replace("->", "→") if is_unicode else line
        yield from textwrap.wrap(shown, max(width, 20), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def colored(line: str) -> str:
    """Return a line of `text` with what is critical in the colour for that."""
    return _CRITICAL.sub("\x1b[1;33m\\g<0>\x1b[0m", line)


def _drawn(graph: FlowGraph, width: int, mark: str, is_unicode: bool) -> list[str] | None:
    groups = alike(graph.upstream, LEAST_TOGETHER)
    group_of = {task: number for number, group in enumerate(groups) for task in group}
    path = graph.critical_path if len(graph.critical_path) > 1 else ()
    boxes = [group_of[task] for task in path]
    return draw_boxes(
        between_groups(graph.upstream, groups),
        [_in_box(graph, group, set(path), min(width - 4, _WIDEST_BOX), mark) for group in groups],
        width=width,
        critical=boxes,
        steps=pairwise(boxes),
        pen=UNICODE if is_unicode else ASCII,
    )


def _in_box(graph: FlowGraph, group: Sequence[int], critical: set[int], width: int, mark: str) -> list[str]:
    """Return the lines in the box of a task, or of tasks of a kind."""
    if len(group) == 1:
        return [_label(graph, group[0], mark)]
    names = [_label(graph, task, mark) for task in group]
    lines = [f"{len(group)} tasks"]
    if len(group) <= MOST_IN_A_BOX:
        widest = max(map(len, names))
        columns = max(1, min((width + 2) // (widest + 2), -(-len(names) // 3)))
        for start in range(0, len(names), columns):
            lines.append("  ".join(f"{name:{widest}}" for name in names[start : start + columns]))
        lines[1:] = [f"{line:{len(lines[1])}}" for line in lines[1:]]
    else:
        ends = [names[0], mark, names[-1]]
        lines.extend([" ".join(ends)] if len(" ".join(ends)) <= width else ends)
    lines.extend(f"critical: {_label(graph, task, mark)}" for task in group if task in critical)
    return lines


def _label(graph: FlowGraph, task: int, mark: str) -> str:
    expected = graph.expected(task)
    return shortened(graph.task_ids[task], _LABEL, mark) + (f" ({expected})" if expected else "")


def _listed(graph: FlowGraph, width: int, mark: str, arrow: str) -> Iterator[str]:
    """Yield the layers, in the flow's order: in each, what depends on the same stands together."""
    critical = set(graph.critical_path) if len(graph.critical_path) > 1 else set()
    layers: list[dict[tuple[int, ...], list[int]]] = []
    for task, level in enumerate(levels(graph.upstream)):
        layers.extend({} for _ in range(level + 1 - len(layers)))
        layers[level].setdefault(tuple(graph.upstream[task]), []).append(task)
    indent = len(str(len(layers))) + 2
    for number, together in enumerate(layers, 1):
        lines = []
        for needed, tasks in together.items():
            names = [f"{'*' if task in critical else ''}{graph.task_ids[task]}" for task in tasks]
            line = series(names, MOST_IN_A_LIST, mark)
            if len(names) > MOST_IN_A_LIST:
                line += "".join(f", {name}" for name in names[1:-1] if name.startswith("*"))
            if needed:
                line += f" {arrow} " + series([graph.task_ids[other] for other in needed], MOST_IN_A_LIST, mark)
            lines.append(line)
        for place, line in enumerate(_without_repetition(lines, mark)):
            yield from textwrap.wrap(
                line,
                max(width, 20),
                initial_indent=f"{number if place == 0 else '':>{indent - 2}}  ",
                subsequent_indent=" " * (indent + 4),
                break_long_words=False,
                break_on_hyphens=False,
            )
    if critical:
        yield ""
        yield "* on the critical path"


def _without_repetition(lines: Sequence[str], mark: str) -> Iterator[str]:
    """Yield lines; of many that differ in numbers alone, and follow each other, the first and the last."""
    for _, found in groupby(lines, lambda line: _NUMBER.sub("0", line)):
        same = list(found)
        if len(same) <= MOST_REPEATED:
            yield from same
        else:
            yield from (same[0], f"{mark} {len(same) - 2} more, which differ in numbers alone", same[-1])
