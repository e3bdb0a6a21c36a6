"""A graph as SVG: one text without scripts, links to elsewhere or fonts of its own, for a file, a page or a notebook.

Tasks that depend on the same, and that the same depends on, stand together in a frame, and the edges lead to the frame: two
hundred measurements between a beginning and an end are one picture of a screen's size, with two edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from miniflow.drawing.labels import shortened
from miniflow.drawing.markup import MARKS, colour, escaped, palette
from miniflow.layout import Edge, Layered, Layout, alike, between_groups, layout
from miniflow.values import dataclass

LEAST_TOGETHER = 5
"""So many tasks of a kind stand in a frame."""
LONGEST_LABEL = 28
"""In characters; the whole stands in the task's title."""
_CHARACTER = 7.3
_HEIGHT = 28.0
_PADDING = 10.0
_IN_FRAME = 7.0
_MARGIN = 16.0
_LANE = 10.0
_WIDE = 1000.0
"""A drawing from top to bottom that would be wider is drawn from left to right, if that is narrower."""

Box = tuple[float, float, float, float]
"""Left, top, width, height."""


@dataclass(frozen=True, slots=True)
class DrawnTask:
    """What is drawn of a task."""

    id: str
    upstream: Sequence[int] = ()
    """Indices of the tasks that it depends on."""
    state: str = ""
    """As in the results; empty: it has not been run."""
    detail: str = ""
    """Shown when it is pointed at."""
    href: str = ""
    """Where it leads, within the same page."""


def graph_svg(tasks: Sequence[DrawnTask], *, title: str, description: str = "", critical_path: Sequence[int] = ()) -> str:
    """Return a drawing of tasks, which have no cycles.

    Its element has the class `miniflow-graph`, and its colours are the variables of `markup.palette`. Each task is a `g` of the
    classes `task`, its state, and `critical` if it is on the critical path.

    Args:
        tasks: In the flow's order.
        title: What it is a drawing of, for those who do not see it.
        description: More of it.
        critical_path: Indices of the tasks of a chain.
    """
    upstream = [sorted(set(task.upstream)) for task in tasks]
    groups = alike(upstream, LEAST_TOGETHER)
    picture = _Picture(tasks, groups, between_groups(upstream, groups))
    width, height = picture.size
    critical = set(critical_path)
    group_of = {task: number for number, group in enumerate(groups) for task in group}
    steps = {(group_of[a], group_of[b]) for a, b in pairwise(critical_path) if a in upstream[b]}
    has_links = any(task.href for task in tasks)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="miniflow-graph" role="{"group" if has_links else "img"}"'
        f' aria-label="{escaped(title)}" viewBox="0 0 {_number(width)} {_number(height)}"'
        f' width="{_number(width)}" height="{_number(height)}">',
        f"<title>{escaped(title)}</title>",
        *([f"<desc>{escaped(description)}</desc>"] if description else []),
        f"<style>{_style()}</style>",
        f'<rect class="background" width="{_number(width)}" height="{_number(height)}"/>',
        *picture.edges("edge", lambda edge: edge not in steps),
        *picture.edges("edge critical", lambda edge: edge in steps),
        *picture.frames(),
        *(_task(tasks[n], picture.boxes[n], n in critical, picture.label_length) for group in groups for n in group),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Picture:
    """Where everything is, in the coordinates of the SVG."""

    def __init__(self, tasks: Sequence[DrawnTask], groups: Sequence[Sequence[int]], upstream: Sequence[Sequence[int]]) -> None:
        self._groups = groups
        self.label_length = min(max((len(task.id) for task in tasks), default=0), LONGEST_LABEL)
        characters = max(self.label_length + (2 if any(task.state for task in tasks) else 0), 3)
        self._box_width = round(characters * _CHARACTER + 2 * _PADDING)
        self._columns = [self._columns_of(len(group)) for group in groups]
        self._sizes = [self._size_of(len(group), columns) for group, columns in zip(groups, self._columns, strict=True)]
        layered = Layered(upstream)
        drawn = layout(layered, self._sizes, gap=14, row_gap=44, lane=_LANE)
        self._goes_right = False
        if drawn.width > _WIDE:
            turned = layout(layered, [(height, width) for width, height in self._sizes], gap=9, row_gap=60, lane=_LANE)
            if turned.height < drawn.width:
                drawn, self._goes_right = turned, True
        self._layout: Layout = drawn
        self._row_of = {group: row for row, found in enumerate(drawn.layers) for group in found}
        width, height = (drawn.height, drawn.width) if self._goes_right else (drawn.width, drawn.height)
        self.size = width + 2 * _MARGIN, height + 2 * _MARGIN
        self._frames: list[Box] = [self._frame_of(group) for group in range(len(groups))]
        self.boxes: dict[int, Box] = {}
        for number, group in enumerate(groups):
            left, top, _, _ = self._frames[number]
            inner = _IN_FRAME if len(group) > 1 else 0.0
            for place, task in enumerate(group):
                row, column = divmod(place, self._columns[number])
                self.boxes[task] = (
                    left + inner + column * (self._box_width + _IN_FRAME),
                    top + inner + row * (_HEIGHT + _IN_FRAME),
                    self._box_width,
                    _HEIGHT,
                )

    def _columns_of(self, count: int) -> int:
        """Return how many tasks of a frame stand side by side, so that it is about as wide as a page, or wider than high."""
        fit = max(int(_WIDE // (self._box_width + _IN_FRAME)), 1)
        return min(count, fit, math.ceil(math.sqrt(count * 1.8 * (_HEIGHT + _IN_FRAME) / (self._box_width + _IN_FRAME))))

    def _size_of(self, count: int, columns: int) -> tuple[float, float]:
        if count == 1:
            return self._box_width, _HEIGHT
        rows = -(-count // columns)
        return (
            columns * self._box_width + (columns + 1) * _IN_FRAME,
            rows * _HEIGHT + (rows + 1) * _IN_FRAME,
        )

    def _frame_of(self, group: int) -> Box:
        width, height = self._sizes[group]
        across = self._layout.x[group]
        along = sum(self._row(group)) / 2
        x, y = (along, across) if self._goes_right else (across, along)
        return _MARGIN + x - width / 2, _MARGIN + y - height / 2, width, height

    def frames(self) -> Iterable[str]:
        """Yield the frames around tasks of a kind."""
        for number, group in enumerate(self._groups):
            if len(group) > 1:
                yield f'<rect class="frame" {_rectangle(self._frames[number])} rx="9"><title>{len(group)} tasks</title></rect>'

    def edges(self, css_class: str, is_wanted: Callable[[tuple[int, int]], bool]) -> Iterable[str]:
        """Yield the ways from each group, and the heads of all arrows."""
        ends: dict[int, list[Edge]] = {}
        for edge in self._layout.edges:
            if is_wanted((edge.upstream, edge.task)):
                ends.setdefault(edge.upstream, []).append(edge)
        heads = []
        for source, edges in ends.items():
            x, y, bottom = self._layout.x[source], self._lower_end(source), self._row(source)[1]
            # Edges of one source share their way, and leave it one by one.
            longest = max(edges, key=lambda edge: len(edge.bends))
            stops = [(x, y, bottom), *((at, *self._layout.rows[row]) for at, row in longest.bends)]
            way = [self._way(a, b) for a, b in pairwise(stops)]
            for edge in edges:
                x, top, y = self._layout.x[edge.task], self._row(edge.task)[0], self._upper_end(edge.task)
                way.append(self._way(stops[len(edge.bends)], (x, top, y)))
                heads.append(self._head(x, y))
            yield f'<path class="{css_class}" d="{"".join(way)}"/>'
        if heads:
            yield f'<path class="{css_class} head" d="{"".join(heads)}"/>'

    def _row(self, group: int) -> tuple[float, float]:
        return self._layout.rows[self._row_of[group]]

    def _upper_end(self, group: int) -> float:
        return sum(self._row(group)) / 2 - self._thickness(group) / 2

    def _lower_end(self, group: int) -> float:
        return self._upper_end(group) + self._thickness(group)

    def _thickness(self, group: int) -> float:
        return self._sizes[group][0 if self._goes_right else 1]

    def _way(self, start: tuple[float, float, float], stop: tuple[float, float, float]) -> str:
        """Return the way from one layer through the gap to the next, and to its end there: each x, from y and to y."""
        (x, y, leaves), (to_x, enters, to_y) = start, stop
        half = (leaves + enters) / 2
        begin = f"M{self._point(x, y)}" + (f"L{self._point(x, leaves)}" if leaves > y else "")
        curve = f"C{self._point(x, half)} {self._point(to_x, half)} {self._point(to_x, enters)}"
        return begin + curve + (f"L{self._point(to_x, to_y)}" if to_y > enters else "")

    def _head(self, x: float, y: float) -> str:
        return f"M{self._point(x, y)}L{self._point(x - 3.5, y - 7)}L{self._point(x + 3.5, y - 7)}Z"

    def _point(self, across: float, along: float) -> str:
        x, y = (along, across) if self._goes_right else (across, along)
        return f"{_number(_MARGIN + x)},{_number(_MARGIN + y)}"


def _task(task: DrawnTask, box: Box, is_critical: bool, label_length: int) -> str:
    left, top, width, height = box
    classes = " ".join(["task", *([task.state] if task.state in MARKS else []), *(["critical"] if is_critical else [])])
    mark = f'<tspan class="mark">{MARKS[task.state]}</tspan> ' if task.state in MARKS else ""
    title = ": ".join(part for part in (task.id, task.state) if part) + (f"\n{task.detail}" if task.detail else "")
    text = (
        f'<g class="{classes}"><title>{escaped(title)}</title>'
        f'<rect class="back" {_rectangle(box)} rx="5"/><rect class="face" {_rectangle(box)} rx="5"/>'
        f'<text x="{_number(left + width / 2)}" y="{_number(top + height / 2 + 4)}">{mark}'
        f"{escaped(shortened(task.id, label_length))}</text></g>"
    )
    return f'<a href="{escaped(task.href)}">{text}</a>' if task.href else text


def _style() -> str:
    """Return the style sheet; of the states those colours alone that a drawing can have."""
    scope = ".miniflow-graph"
    rules = {
        ".background": colour("background"),
        ".edge": f"fill:none;stroke-width:1.3;{colour('line', 'stroke')}",
        ".edge.head": f"stroke:none;{colour('line')}",
        ".edge.critical": f"stroke-width:2.6;{colour('critical', 'stroke')}",
        ".edge.critical.head": f"stroke:none;{colour('critical')}",
        ".frame": f"stroke-dasharray:3 3;{colour('background')};{colour('line', 'stroke')}",
        ".back": colour("box"),
        ".face": f"fill-opacity:0;stroke-width:1.2;{colour('line', 'stroke')}",
        "text": f"text-anchor:middle;font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;{colour('text')}",
        "a": "text-decoration:none",
    }
    for state in MARKS:
        rules[f".{state} .face"] = f"fill-opacity:.14;{colour(state)};{colour(state, 'stroke')}"
        rules[f".{state} .mark"] = f"font-weight:bold;{colour(state)}"
    rules[".critical .face"] = f"stroke-width:2.6;{colour('critical', 'stroke')}"
    rules[".critical text"] = "font-weight:bold"
    rules["a:focus .face"] = f"stroke-width:4;{colour('text', 'stroke')}"
    own = "".join(f"{scope} {selector}{{{declarations}}}" for selector, declarations in rules.items())
    return f"{palette(scope)}{own}"


def _rectangle(box: Box) -> str:
    return " ".join(f'{name}="{_number(value)}"' for name, value in zip(("x", "y", "width", "height"), box, strict=True))


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
