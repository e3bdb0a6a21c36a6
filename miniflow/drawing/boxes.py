"""A graph drawn with box characters: each task a box, each dependency a line that goes down to it.

Lines of one task are one net, that branches; those of different tasks touch nowhere. Where they cross, the horizontal one is
interrupted. What is critical is drawn heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from miniflow.layout import Layered, layout
from miniflow.values import dataclass

MOST_NODES = 300
"""Of a graph with more, places that edges pass included, there is no drawing that anybody could follow."""
_GAP = 2
_LANE = 2
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8

# By the arms of a character: up, down, left, right.
_LIGHT = " │││─┘┐┤─└┌├─┴┬┼"
_HEAVY = " ┃┃┃━┛┓┫━┗┏┣━┻┳╋"
_ASCII = " |||-++|-++|-+++"
_ASCII_HEAVY = " ####++#=++#=+++"


@dataclass(frozen=True, slots=True)
class Pen:
    """The characters of lines, by their arms, and the heads of arrows."""

    light: str = _LIGHT
    heavy: str = _HEAVY
    head: str = "▼"


UNICODE = Pen()
ASCII = Pen(_ASCII, _ASCII_HEAVY, "v")


@dataclass(frozen=True, slots=True)
class _Net:
    """The lines from one node to those below that depend on it."""

    source: int
    at: int
    """Where it leaves its source."""
    targets: Mapping[int, int]
    """Where it enters each of its targets."""

    @property
    def span(self) -> tuple[int, int]:
        ends = [self.at, *self.targets.values()]
        return min(ends), max(ends)


def draw_boxes(
    upstream: Sequence[Sequence[int]],
    texts: Sequence[Sequence[str]],
    *,
    width: int,
    critical: Iterable[int] = (),
    steps: Iterable[tuple[int, int]] = (),
    pen: Pen = UNICODE,
) -> list[str] | None:
    """Return the lines of a drawing; None if it would be wider than `width`, or could not be followed.

    Args:
        upstream: What each box depends on.
        texts: The lines within each.
        width: In characters, each as wide as the other.
        critical: The boxes that are drawn heavy.
        steps: The dependencies that are, as pairs of upstream and task.
        pen: What to draw with.
    """
    if len(upstream) > MOST_NODES:
        return None
    layered = Layered(upstream)
    if len(layered.layer) > MOST_NODES:
        return None
    drawing = _Drawing(layered, texts, set(critical), set(steps), pen)
    return drawing.lines() if drawing.width <= width else None


class _Drawing:
    def __init__(
        self,
        layered: Layered,
        texts: Sequence[Sequence[str]],
        critical: set[int],
        steps: set[tuple[int, int]],
        pen: Pen,
    ) -> None:
        self._layered = layered
        self._texts = texts
        self._critical = critical
        self._pen = pen
        self._steps = {step for source, task in steps for step in pairwise([source, *layered.way(source, task), task])}
        sizes = [  # with a place for each line
            (max(max(map(len, lines), default=0) + 4.0, 2.0 * len(layered.above[task]) + 3), len(lines) + 2.0)
            for task, lines in enumerate(texts)
        ]
        self._widths = [int(size) for size, _ in sizes] + [_LANE] * (len(layered.layer) - len(texts))
        self._left = self._whole(layout(layered, sizes, gap=_GAP, row_gap=0, lane=_LANE).x)
        self.width = max((left + self._widths[node] for node, left in enumerate(self._left)), default=0)
        self._cells: dict[tuple[int, int], dict[int, int]] = {}
        """The arms of each net in each cell, by row and column."""
        self._heavy: set[tuple[int, int, int]] = set()
        """Row, column and net of what is heavy."""

    def _is_task(self, node: int) -> bool:
        return node < len(self._texts)

    def _whole(self, x: Sequence[float]) -> list[int]:
        """Return the left ends of all nodes, in characters.

        No edge passes a layer where another one leaves the layer above: the two would touch.
        """
        left = [0] * len(x)
        leaving: dict[int, int] = {}
        for row in self._layered.rows:
            free = 0
            for place, node in enumerate(row):
                if place and (self._is_task(node) or self._is_task(row[place - 1])):
                    free += _GAP
                left[node] = max(free, round(x[node] - self._widths[node] / 2))
                if not self._is_task(node):
                    (above,) = self._layered.above[node]
                    while leaving.get(left[node] + self._widths[node] // 2, above) != above:
                        left[node] += 1
                free = left[node] + self._widths[node]
            leaving = {left[node] + self._widths[node] // 2: node for node in row if self._layered.below[node]}
        return left

    def _middle(self, node: int) -> int:
        return self._left[node] + self._widths[node] // 2

    def lines(self) -> list[str]:
        canvas: list[list[str]] = []
        rows = self._layered.rows
        for number, row in enumerate(rows):
            top = len(canvas)
            height = max((len(self._texts[node]) + 2 for node in row if self._is_task(node)), default=0)
            canvas.extend([" "] * self.width for _ in range(height))
            nets = self._nets(row, rows[number + 1]) if number + 1 < len(rows) else []
            for node in row:
                if self._is_task(node):
                    self._draw_box(canvas, top + (height - len(self._texts[node]) - 2) // 2, node)
                else:
                    self._line(node, self._middle(node), top, top + height, is_heavy=self._goes_on_heavily(node))
            self._leave_boxes(canvas, top, height, nets)
            heads = self._connect(nets, len(canvas), tracks := self._tracks(nets))
            if nets:
                canvas.extend([" "] * self.width for _ in range(max(tracks.values(), default=-1) + 2))
                for row_of_head, column in heads:
                    canvas[row_of_head][column] = self._pen.head
        self._put_lines(canvas)
        return ["".join(line).rstrip() for line in canvas]

    def _goes_on_heavily(self, node: int) -> bool:
        return any((node, below) in self._steps for below in self._layered.below[node])

    def _draw_box(self, canvas: list[list[str]], top: int, node: int) -> None:
        chars = self._pen.heavy if node in self._critical else self._pen.light
        left, width = self._left[node], self._widths[node]

        def put(row: int, text: str) -> None:
            canvas[row][left : left + width] = text

        side, flat = chars[_UP | _DOWN], chars[_LEFT | _RIGHT] * (width - 2)
        put(top, chars[_DOWN | _RIGHT] + flat + chars[_DOWN | _LEFT])
        for number, line in enumerate(self._texts[node]):
            put(top + 1 + number, f"{side} {line.center(width - 4)} {side}")
        put(top + 1 + len(self._texts[node]), chars[_UP | _RIGHT] + flat + chars[_UP | _LEFT])

    def _leave_boxes(self, canvas: list[list[str]], top: int, height: int, nets: Iterable[_Net]) -> None:
        """Draw the beginnings of lines, down to where the layer ends."""
        for net in nets:
            if self._is_task(net.source):
                size = len(self._texts[net.source]) + 2
                bottom = top + (height - size) // 2 + size - 1
                is_heavy = net.source in self._critical
                canvas[bottom][net.at] = (self._pen.heavy if is_heavy else self._pen.light)[_DOWN | _LEFT | _RIGHT]
                self._line(net.source, net.at, bottom + 1, top + height, is_heavy=self._goes_on_heavily(net.source))

    def _nets(self, upper: Sequence[int], lower: Sequence[int]) -> list[_Net]:
        """Return the nets between two layers, each with its own place at each target, as far as there is room."""
        sources = {node: self._middle(node) for node in upper if self._layered.below[node]}
        entries: dict[int, dict[int, int]] = {node: {} for node in sources}
        for target in lower:
            above = sorted(self._layered.above[target], key=sources.__getitem__)
            for source, at in zip(above, self._entries(target, above, sources), strict=True):
                entries[source][target] = at
        return [_Net(source, at, entries[source]) for source, at in sources.items()]

    def _entries(self, target: int, above: Sequence[int], sources: Mapping[int, int]) -> Iterator[int]:
        """Yield where the lines from above enter a node: from left to right, straight down where that is possible."""
        if not self._is_task(target):
            yield self._middle(target)
            return
        inside = range(self._left[target] + 1, self._left[target] + self._widths[target] - 1)
        # Not below where another net begins: the two would touch. Nets begin at least two columns apart, and a box is more
        # than twice as wide as it has lines to it, so there are enough free columns; each line leaves some for those after it.
        free = [column for column in inside if column not in sources.values()]
        last = -1
        for number, source in enumerate(above):
            rest = len(above) - number - 1
            end = free[-rest] if rest else inside.stop
            usable = [column for column in {*free, sources[source]} if last < column < end and column in inside]
            wanted = sources[source] if sources[source] in inside else self._middle(target) + 2 * number - (len(above) - 1)
            last = min(usable, key=lambda column: (abs(column - wanted), column))
            yield last

    def _tracks(self, nets: Sequence[_Net]) -> dict[int, int]:
        """Return for each net that goes sideways the row it does so in, counted from the layer's end."""
        aside = [net for net in nets if net.span[0] < net.span[1]]
        # Those that lead away to one side would cross if the nearer one turned off later.
        aside.sort(key=lambda net: (net.span[1] > net.at, -net.at if net.span[1] > net.at else net.at))
        tracks: dict[int, int] = {}
        used: list[list[tuple[int, int]]] = []
        for net in aside:
            left, right = net.span
            track = 0
            while track < len(used) and any(left <= end + 1 and start <= right + 1 for start, end in used[track]):
                track += 1
            used.extend([] for _ in range(track + 1 - len(used)))
            used[track].append((left, right))
            tracks[net.source] = track
        return tracks

    def _connect(self, nets: Iterable[_Net], top: int, tracks: Mapping[int, int]) -> list[tuple[int, int]]:
        """Draw the nets from one layer to the next; return where the heads of arrows are."""
        last = top + max(tracks.values(), default=-1) + 1
        heads = []
        for net in nets:
            turn = top + tracks.get(net.source, 0)
            for target, at in net.targets.items():
                is_heavy = (net.source, target) in self._steps
                end = last if self._is_task(target) else last + 1
                if at == net.at:
                    self._line(net.source, at, top, end, is_heavy=is_heavy)
                else:
                    self._line(net.source, net.at, top, turn, is_heavy=is_heavy)
                    self._arm(net.source, turn, net.at, _UP | (_RIGHT if at > net.at else _LEFT), is_heavy)
                    for column in range(min(at, net.at) + 1, max(at, net.at)):
                        self._arm(net.source, turn, column, _LEFT | _RIGHT, is_heavy)
                    self._arm(net.source, turn, at, _DOWN | (_LEFT if at > net.at else _RIGHT), is_heavy)
                    self._line(net.source, at, turn + 1, end, is_heavy=is_heavy)
                if self._is_task(target):
                    heads.append((last, at))
        return heads

    def _line(self, net: int, column: int, top: int, end: int, *, is_heavy: bool) -> None:
        for row in range(top, end):
            self._arm(net, row, column, _UP | _DOWN, is_heavy)

    def _arm(self, net: int, row: int, column: int, arms: int, is_heavy: bool) -> None:
        cell = self._cells.setdefault((row, column), {})
        cell[net] = cell.get(net, 0) | arms
        if is_heavy:
            self._heavy.add((row, column, net))

    def _put_lines(self, canvas: list[list[str]]) -> None:
        for (row, column), nets in self._cells.items():
            # Of two that cross the one that goes down is whole.
            net = max(nets, key=lambda one: nets[one] & (_UP | _DOWN))
            chars = self._pen.heavy if (row, column, net) in self._heavy else self._pen.light
            canvas[row][column] = chars[nets[net]]
