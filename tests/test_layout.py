"""Where tasks stand in a drawing: properties over random graphs, known pictures, and bounded work."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniflow import layout as module
from miniflow.layout import Layered, Layout, alike, between_groups, layers_of, layout
from tests.test_graph import Graph, acyclic_graphs

SIZES = st.tuples(st.floats(1, 300), st.floats(1, 300))


def drawn(graph: Graph, sizes: list[tuple[float, float]] | None = None) -> Layout:
    return layout(Layered(graph), sizes or [(100, 30)] * len(graph), gap=10, row_gap=40, lane=8)


def layer_of(layers: list[list[int]]) -> dict[int, int]:
    return {task: number for number, layer in enumerate(layers) for task in layer}


def random_graph(tasks: int, edges: int, seed: int = 0) -> Graph:
    rng = random.Random(seed)  # noqa: S311
    graph: list[set[int]] = [set() for _ in range(tasks)]
    for _ in range(edges):
        task = rng.randrange(1, tasks)
        graph[task].add(rng.randrange(task))
    return [sorted(needed) for needed in graph]


@given(acyclic_graphs())
def test_every_task_stands_in_one_layer_below_all_its_upstream_and_no_lower_than_needed(graph: Graph) -> None:
    layer = layer_of(layers_of(graph))

    assert sorted(layer) == list(range(len(graph)))
    for task, needed in enumerate(graph):
        assert layer[task] == max((layer[other] + 1 for other in needed), default=0)


@given(acyclic_graphs(), st.data())
def test_no_two_tasks_overlap_and_every_edge_leads_downwards(graph: Graph, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(SIZES, min_size=len(graph), max_size=len(graph)))
    found = drawn(graph, sizes)

    for number, layer in enumerate(found.layers):
        top, bottom = found.rows[number]
        assert all(sizes[task][1] <= bottom - top + 1e-6 for task in layer)
        for left, right in pairwise(layer):
            assert found.x[left] + sizes[left][0] / 2 + 10 <= found.x[right] - sizes[right][0] / 2 + 1e-6
    assert all(below[0] == above[1] + 40 for above, below in pairwise(found.rows))
    layer = layer_of([list(each) for each in found.layers])
    assert [(edge.upstream, edge.task) for edge in found.edges] == [
        (other, task) for task, needed in enumerate(graph) for other in needed
    ]
    for edge in found.edges:
        rows = [layer[edge.upstream], *(row for _, row in edge.bends), layer[edge.task]]
        assert rows == list(range(rows[0], rows[-1] + 1))


@given(acyclic_graphs())
def test_no_edge_passes_through_a_task(graph: Graph) -> None:
    found = drawn(graph)

    for edge in found.edges:
        for x, row in edge.bends:
            assert all(abs(x - found.x[task]) >= 50 for task in found.layers[row])


@given(acyclic_graphs())
def test_everything_is_within_the_drawing(graph: Graph) -> None:
    found = drawn(graph)

    assert all(50 - 1e-6 <= x <= found.width - 50 + 1e-6 for x in found.x[: len(graph)])
    assert found.rows[0][0] == 0
    assert found.rows[-1][1] == found.height


def test_the_same_graph_has_the_same_drawing() -> None:
    graph = random_graph(200, 500)

    assert drawn(graph) == drawn(graph)


def test_nothing_has_a_drawing() -> None:
    assert drawn([]) == Layout([], [], [], [], 0.0, 0.0)


def test_a_tree_and_chains_are_drawn_without_a_crossing() -> None:
    tree = [[], *([(task - 1) // 2] for task in range(1, 63))]
    shuffled = [[], [], [], [2], [0], [1], [5], [3], [4]]

    for graph in (tree, shuffled):
        assert Layered(graph)._crossings() == 0


def test_crossings_are_counted_as_they_are_seen() -> None:
    layered = Layered([[], [], [0, 1], [0, 1]])

    assert layered._crossings() == 1
    for row in layered.rows:
        row.sort()
    assert layered._crossings() == 1


def test_ordering_removes_crossings(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(60, 90)
    few = Layered(graph)._crossings()
    monkeypatch.setattr(module, "MOST_ROUNDS", 0)

    assert few < 0.6 * Layered(graph)._crossings()


def test_a_chain_stands_in_a_line_and_a_fork_is_balanced() -> None:
    assert len(set(drawn([[], [0], [1], [2]]).x)) == 1
    fork = drawn([[], [0], [0], [0], [1, 2, 3]]).x
    assert fork[0] == pytest.approx(fork[2]) == pytest.approx(fork[4])


def test_long_edges_of_one_task_share_their_way() -> None:
    found = drawn([[], [0], [1], [2, 0], [3, 0]])

    third, fourth = (edge for edge in found.edges if edge.upstream == 0 and edge.task in (3, 4))
    assert len(third.bends) == 2
    assert fourth.bends[:2] == third.bends


def test_beyond_a_number_of_bends_the_longest_edges_lead_straight_to_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BENDS", 2)
    found = drawn([[], [0], [1, 0], [2], [3, 1], [4, 0]])

    bends = {(edge.upstream, edge.task): len(edge.bends) for edge in found.edges}
    assert bends == {(0, 1): 0, (0, 2): 0, (1, 2): 0, (2, 3): 0, (3, 4): 0, (1, 4): 2, (4, 5): 0, (0, 5): 0}


@pytest.mark.parametrize(
    "graph", [random_graph(5000, 15_000), [[], *([task] for task in range(5000))]], ids=["random", "chain"]
)
def test_the_work_is_bounded(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    sorted_rows = 0
    sort = Layered._sort

    def counting(self: Layered, row: list[int], neighbours: module.Graph) -> None:
        nonlocal sorted_rows
        sorted_rows += len(row)
        sort(self, row, neighbours)

    monkeypatch.setattr(Layered, "_sort", counting)
    found = drawn(graph)

    assert sorted(task for layer in found.layers for task in layer) == list(range(len(graph)))
    assert sorted_rows <= module.WORK + 2 * (len(graph) + module.MOST_BENDS)


@given(acyclic_graphs(), st.integers(1, 4))
def test_alike_are_tasks_with_the_same_upstream_and_downstream(graph: Graph, least: int) -> None:
    groups = alike(graph, least)
    downstream = [{task for task, needed in enumerate(graph) if other in needed} for other in range(len(graph))]

    assert sorted(task for group in groups for task in group) == list(range(len(graph)))
    for group in groups:
        assert len(group) == 1 or len(group) >= least
        assert len({(frozenset(graph[task]), frozenset(downstream[task])) for task in group}) == 1


@given(acyclic_graphs())
def test_between_groups_stands_for_all_that_is_between_their_tasks(graph: Graph) -> None:
    groups = alike(graph, 2)
    upstream = between_groups(graph, groups)

    meant = {(other, task) for n, group in enumerate(groups) for g in upstream[n] for task in group for other in groups[g]}
    assert meant == {(other, task) for task, needed in enumerate(graph) for other in needed}
