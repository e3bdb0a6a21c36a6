"""Where tasks stand in a drawing of their graph: in layers, with few crossings, and edges that are short and straight.

The layered method of K. Sugiyama, S. Tagawa and M. Toda, "Methods for visual understanding of hierarchical system structures",
IEEE Trans. SMC 11 (1981), in the form that E. Gansner, E. Koutsofios, S. North and K.-P. Vo gave it, "A technique for drawing
directed graphs", IEEE Trans. Softw. Eng. 19 (1993): layers, order within each, coordinates. Two things are done otherwise.
Edges from one task share their way through the layers between, where they would lie side by side. And coordinates are found
layer by layer, each placed as well as its neighbours allow, by the pool of adjacent violators (M. Ayer and others, Ann. Math.
Stat. 26, 1955).

The work is bounded, and the same graph has the same drawing. In a large graph there are fewer rounds, and once MOST_BENDS is
used up the longest edges lead straight to their ends: they are left out of the order, and may pass behind tasks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise

from miniflow.graph import downstream_of, topological_order
from miniflow.values import dataclass

Graph = Sequence[Sequence[int]]
"""For each task the indices of its upstream tasks, without cycles."""

MOST_BENDS = 10_000
"""How many places edges may pass through between the layers that they connect, in all."""
MOST_ROUNDS = 24
WORK = 300_000
"""Over how many nodes and edges all rounds go together, in a graph that is too large for so many."""
SMALL = 1200
"""With so many nodes and edges, neighbours are also tried the other way round."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A dependency, from the upper to the lower."""

    upstream: int
    task: int
    bends: tuple[tuple[float, int], ...]
    """Where it passes the layers between the two: x, and the number of the layer."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawing's measures, from (0, 0) at its upper left corner."""

    layers: Sequence[Sequence[int]]
    """The tasks from top to bottom, and of each layer from left to right."""
    rows: Sequence[tuple[float, float]]
    """The upper and the lower end of each layer."""
    x: Sequence[float]
    """The centre of each task, and after them of each place that edges pass: see `Layered`."""
    edges: Sequence[Edge]
    width: float
    height: float


def levels(upstream: Graph) -> list[int]:
    """Return for each task the number of its layer: of tasks on the longest path to it."""
    level = [0] * len(upstream)
    for task in topological_order(upstream):
        level[task] = 1 + max((level[other] for other in upstream[task]), default=-1)
    return level


def layers_of(upstream: Graph) -> list[list[int]]:
    """Return the tasks in layers, each below all that it depends on and as high as that allows; of few crossings within."""
    return Layered(upstream).tasks()


def layout(layered: Layered, sizes: Sequence[tuple[float, float]], *, gap: float, row_gap: float, lane: float) -> Layout:
    """Return where to draw tasks.

    Args:
        layered: The tasks, in order.
        sizes: Width and height of each task.
        gap: Between two tasks of a layer, at least.
        row_gap: Between two layers.
        lane: What an edge is wide where it passes a layer.
    """
    count = len(layered.upstream)
    widths = [width for width, _ in sizes] + [lane] * (len(layered.layer) - count)
    x = _coordinates(layered, widths, gap, count)
    left = min((centre - width / 2 for centre, width in zip(x, widths, strict=True)), default=0.0)
    x = [centre - left for centre in x]
    rows = []
    bottom = 0.0
    for number, row in enumerate(layered.rows):
        top = bottom + row_gap if number else 0.0
        bottom = top + max((sizes[node][1] for node in row if node < count), default=0.0)
        rows.append((top, bottom))
    edges = [
        Edge(other, task, tuple((x[node], layered.layer[node]) for node in layered.way(other, task)))
        for task, needed in enumerate(layered.upstream)
        for other in needed
    ]
    return Layout(
        layers=layered.tasks(),
        rows=rows,
        x=x,
        edges=edges,
        width=max((centre + width / 2 for centre, width in zip(x, widths, strict=True)), default=0.0),
        height=bottom,
    )


def alike(upstream: Graph, least: int) -> list[list[int]]:
    """Return the tasks in groups, by their first: those of one depend on the same tasks, and the same depend on them.

    Groups of fewer than `least` are taken apart.
    """
    downstream = downstream_of(upstream)
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for task, needed in enumerate(upstream):
        found.setdefault((tuple(sorted(needed)), tuple(downstream[task])), []).append(task)
    groups = []
    for group in found.values():
        groups.extend([group] if len(group) >= least else [[task] for task in group])
    return sorted(groups)


def between_groups(upstream: Graph, groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return for each group of `alike` the groups upstream of it: each of its tasks depends on all tasks of those."""
    group_of = {task: number for number, group in enumerate(groups) for task in group}
    return [sorted({group_of[other] for other in upstream[group[0]]}) for group in groups]


class Layered:
    """Tasks in layers, in an order with few crossings.

    Where an edge passes layers it has a node on each of these: then all edges lead to the next layer. These nodes are numbered
    after the tasks.
    """

    def __init__(self, upstream: Graph) -> None:
        self.upstream = upstream
        self.layer = levels(upstream)
        self._chains = self._lay_chains(upstream)
        self.above: list[list[int]] = [[] for _ in self.layer]
        for task, needed in enumerate(upstream):
            for other in needed:
                way = self.way(other, task)
                if way or self.layer[task] == self.layer[other] + 1:
                    self.above[task].append(way[-1] if way else other)
        for source, chain in self._chains.items():
            for upper, lower in zip([source, *chain], chain, strict=False):
                self.above[lower].append(upper)
        self.below = downstream_of(self.above)
        self.rows: list[list[int]] = [[] for _ in range(max(self.layer, default=-1) + 1)]
        for node in self._depth_first():
            self.rows[self.layer[node]].append(node)
        self._order()

    def tasks(self) -> list[list[int]]:
        """Return the layers without what is no task."""
        return [[node for node in row if node < len(self.upstream)] for row in self.rows]

    def _lay_chains(self, upstream: Graph) -> dict[int, list[int]]:
        """Add the nodes on the way of long edges; those of one source share one chain, as long as its longest edge."""
        reach = [0] * len(upstream)
        for task, needed in enumerate(upstream):
            for other in needed:
                reach[other] = max(reach[other], self.layer[task] - self.layer[other] - 1)
        chains = {}
        left = MOST_BENDS
        for source in sorted(range(len(upstream)), key=reach.__getitem__):
            left -= reach[source]
            if left < 0:
                break
            if reach[source]:
                start = len(self.layer)
                chains[source] = list(range(start, start + reach[source]))
                self.layer.extend(range(self.layer[source] + 1, self.layer[source] + 1 + reach[source]))
        return chains

    def way(self, upstream: int, task: int) -> list[int]:
        """Return the nodes that an edge passes; none if it leads to the next layer, or straight to its end."""
        return self._chains.get(upstream, [])[: self.layer[task] - self.layer[upstream] - 1]

    def _depth_first(self) -> list[int]:
        """Return all nodes, what stands below each soon after it: a tree is then in order at once."""
        seen = [False] * len(self.layer)
        found = []
        for root in range(len(self.layer)):
            if self.above[root] or seen[root]:
                continue
            waiting = [root]
            while waiting:
                node = waiting.pop()
                if not seen[node]:
                    seen[node] = True
                    found.append(node)
                    waiting.extend(reversed(self.below[node]))
        return found

    def _order(self) -> None:
        """Sort each layer so that few edges cross, by the barycentres of what stands above, then below, and so on."""
        size = len(self.layer) + sum(map(len, self.above))
        best, fewest = self.rows, self._crossings()
        for number in range(min(MOST_ROUNDS, WORK // (size + 1) + 2)):
            if fewest == 0:
                break
            self.rows = [list(row) for row in self.rows]
            downwards = number % 2 == 0
            for row in self.rows[1:] if downwards else reversed(self.rows[:-1]):
                self._sort(row, self.above if downwards else self.below)
            if size <= SMALL:
                self._transpose()
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(row) for row in self.rows], crossings
        self.rows = best

    def _sort(self, row: list[int], neighbours: Graph) -> None:
        """Sort one layer by the mean position of each node's neighbours; a node without any keeps its place."""
        placed = [(place, node) for place, node in enumerate(row) if neighbours[node]]
        if not placed:
            return
        fixed = self.rows[self.layer[neighbours[placed[0][1]][0]]]
        position = {node: place for place, node in enumerate(fixed)}
        mean = {node: sum(position[other] for other in neighbours[node]) / len(neighbours[node]) for _, node in placed}
        for (place, _), node in zip(placed, sorted((node for _, node in placed), key=mean.__getitem__), strict=True):
            row[place] = node

    def _transpose(self) -> None:
        """Exchange neighbours where that removes crossings, until there is nothing to gain."""
        position = {node: place for row in self.rows for place, node in enumerate(row)}
        for _ in range(MOST_ROUNDS):
            has_gained = False
            for row in self.rows:
                for place in range(len(row) - 1):
                    left, right = row[place], row[place + 1]
                    gain = 0
                    for neighbours in (self.above, self.below):
                        ours = sorted(position[node] for node in neighbours[left])
                        theirs = sorted(position[node] for node in neighbours[right])
                        gain += _inversions(ours, theirs) - _inversions(theirs, ours)
                    if gain > 0:
                        row[place], row[place + 1] = right, left
                        position[left], position[right] = place + 1, place
                        has_gained = True
            if not has_gained:
                break

    def _crossings(self) -> int:
        """Return how many pairs of edges cross.

        Source: W. Barth, M. Jünger, P. Mutzel, "Simple and efficient bilayer cross counting", Graph Drawing 2002; a sorted list
        stands for their tree, as that is what is fast here.
        """
        crossings = 0
        for upper, lower in zip(self.rows, self.rows[1:], strict=False):
            position = {node: place for place, node in enumerate(lower)}
            ends: list[int] = []
            for node in upper:
                reached = sorted(position[other] for other in self.below[node])
                crossings += sum(len(ends) - bisect_right(ends, end) for end in reached)
                for end in reached:
                    ends.insert(bisect_right(ends, end), end)
        return crossings


def _inversions(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many edges cross between two neighbours of a layer; their ends are sorted."""
    count = 0
    for end in right:
        count += len(left) - bisect_right(left, end)
    return count


def _coordinates(layered: Layered, widths: Sequence[float], gap: float, tasks: int) -> list[float]:
    """Return the centre of each node: near the mean of its neighbours, in the order of its layer, and apart from the next."""
    x = [0.0] * len(widths)
    for row in layered.rows:
        offsets = _offsets(row, widths, gap, tasks)
        for node, offset in zip(row, offsets, strict=True):
            x[node] = offset - offsets[-1] / 2

    def place(rows: Iterable[Sequence[int]], *sides: Graph) -> None:
        for row in rows:
            wanted, weights = [], []
            for node in row:
                weight, total = 0.01, 0.01 * x[node]  # with no neighbours, where it is
                for side in sides:
                    for other in side[node]:
                        pull = 1 if node < tasks or other < tasks else 30
                        weight += pull
                        total += pull * x[other]
                wanted.append(total / weight)
                weights.append(weight)
            offsets = _offsets(row, widths, gap, tasks)
            pooled = _pooled([at - offset for at, offset in zip(wanted, offsets, strict=True)], weights)
            for node, at, offset in zip(row, pooled, offsets, strict=True):
                x[node] = at + offset

    rows = layered.rows
    place(rows, layered.above)
    place(reversed(rows), layered.below)
    for _ in range(min(2 * MOST_ROUNDS, WORK // (len(x) + 1) // 4 + 2)):
        place(rows, layered.above, layered.below)
        place(reversed(rows), layered.above, layered.below)
    return x


def _offsets(row: Sequence[int], widths: Sequence[float], gap: float, tasks: int) -> list[float]:
    """Return how far the nodes of a layer stand from its first, if they stand close; two edges need no gap between them."""
    offsets = [0.0]
    for left, right in pairwise(row):
        between = gap if left < tasks or right < tasks else 0.0
        offsets.append(offsets[-1] + (widths[left] + widths[right]) / 2 + between)
    return offsets


def _pooled(wanted: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return values that never fall and are, by weighted squares, as near as can be to what is wanted."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, weight in zip(wanted, weights, strict=True):
        pool = value, weight, 1
        while pools and pools[-1][0] > pool[0]:
            mean, heavy, count = pools.pop()
            together = heavy + pool[1]
            pool = (mean * heavy + pool[0] * pool[1]) / together, together, count + pool[2]
        pools.append(pool)
    return [mean for mean, _, count in pools for _ in range(count)]
