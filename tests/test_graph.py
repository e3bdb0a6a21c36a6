"""Properties of order and cycles, over random graphs; and graphs so long that recursion would break."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from miniflow.graph import downstream_of, find_cycles, longest_path, longest_path_first, topological_order
from miniflow.parse import flow_from_mapping
from miniflow.plan import Place, make_plan

Graph = list[list[int]]

LONG = 20_000
PLACE = Place(tasks_dir="/tasks", output_dir="/out", work_dir="/srv", python="python3")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph: for each task, the tasks it depends on; cycles and tasks that depend on themselves included."""
    size = draw(st.integers(0, 12))
    upstream = st.lists(st.integers(0, max(size - 1, 0)), unique=True, max_size=4)
    return [draw(upstream) for _ in range(size)]


@st.composite
def acyclic_graphs(draw: st.DrawFn) -> Graph:
    """A graph with edges from earlier to later tasks alone, its tasks then shuffled."""
    size = draw(st.integers(1, 12))
    new_index = draw(st.permutations(range(size)))
    graph: Graph = [[] for _ in range(size)]
    for task in range(1, size):
        graph[new_index[task]] = [new_index[other] for other in draw(st.sets(st.integers(0, task - 1), max_size=4))]
    return graph


def on_or_after_a_cycle(graph: Graph) -> set[int]:
    """Return the tasks that can never start, found the slow way: strike out what has all its upstream struck out."""
    left = set(range(len(graph)))
    while startable := {task for task in left if not left.intersection(graph[task])}:
        left -= startable
    return left


@given(acyclic_graphs())
def test_the_order_holds_every_task_once(graph: Graph) -> None:
    assert sorted(topological_order(graph)) == list(range(len(graph)))


@given(acyclic_graphs())
def test_every_task_stands_after_its_upstream(graph: Graph) -> None:
    order = topological_order(graph)
    assert all(order.index(needed) < order.index(task) for task, upstream in enumerate(graph) for needed in upstream)


@given(acyclic_graphs())
def test_among_the_tasks_that_could_be_next_the_lowest_is(graph: Graph) -> None:
    done: set[int] = set()
    for task in topological_order(graph):
        assert task == min(other for other in range(len(graph)) if other not in done and done.issuperset(graph[other]))
        done.add(task)


@given(graphs())
def test_tasks_on_a_cycle_and_after_it_are_missing_from_the_order(graph: Graph) -> None:
    assert set(topological_order(graph)) == set(range(len(graph))) - on_or_after_a_cycle(graph)


@given(graphs())
def test_there_is_a_cycle_if_and_only_if_tasks_are_missing_from_the_order(graph: Graph) -> None:
    assert bool(find_cycles(graph)) == bool(on_or_after_a_cycle(graph))


@given(graphs())
def test_in_a_cycle_every_task_depends_on_the_next_and_the_last_on_the_first(graph: Graph) -> None:
    for cycle in find_cycles(graph):
        assert all(needed in graph[task] for task, needed in zip(cycle, [*cycle[1:], cycle[0]], strict=True))


@given(graphs())
def test_no_task_is_on_two_of_the_cycles_or_twice_on_one(graph: Graph) -> None:
    named = [task for cycle in find_cycles(graph) for task in cycle]
    assert len(named) == len(set(named))


@given(graphs())
def test_downstream_is_upstream_turned_around_in_ascending_order(graph: Graph) -> None:
    downstream = downstream_of(graph)
    assert {(a, b) for a, others in enumerate(downstream) for b in others} == {
        (b, a) for a, others in enumerate(graph) for b in others
    }
    assert all(others == sorted(others) for others in downstream)


@given(acyclic_graphs(), st.data())
def test_the_task_with_the_heaviest_path_to_an_end_stands_first_and_the_lowest_of_those_with_equal_ones(
    graph: Graph, data: st.DataObject
) -> None:
    weights = [data.draw(st.integers(0, 3)) for _ in graph]

    def heaviest(task: int) -> int:
        """Walk every path."""
        return weights[task] + max((heaviest(other) for other, needed in enumerate(graph) if task in needed), default=0)

    assert longest_path_first(graph, weights) == sorted(range(len(graph)), key=lambda task: (-heaviest(task), task))


def test_the_heaviest_path_of_20_000_tasks_is_found_without_recursion() -> None:
    chain = [[task - 1] if task else [] for task in range(LONG)]
    assert longest_path_first([*chain, []], [0.5] * LONG + [LONG]) == [LONG, *range(LONG)]


def test_no_tasks_have_an_order_and_no_cycle() -> None:
    assert topological_order([]) == []
    assert find_cycles([]) == []


def test_a_chain_of_20_000_tasks_is_ordered_from_its_end() -> None:
    chain = [[task + 1] for task in range(LONG - 1)] + [[]]
    assert topological_order(chain) == list(range(LONG - 1, -1, -1))


def test_a_cycle_of_20_000_tasks_is_found() -> None:
    ring = [[(task + 1) % LONG] for task in range(LONG)]
    assert find_cycles(ring) == [list(range(LONG))]


def test_a_task_that_20_000_others_wait_for_and_one_that_waits_for_them() -> None:
    fan = [[], *([0] for _ in range(LONG)), list(range(1, LONG + 1))]
    assert topological_order(fan) == list(range(LONG + 2))


def test_a_flow_of_20_000_tasks_in_a_chain_is_read_and_planned() -> None:
    tasks = [{"id": f"t{n}", "script": "a.py", "depends_on": [f"t{n + 1}"]} for n in range(LONG - 1)]
    flow = flow_from_mapping({"name": "x", "tasks": [*tasks, {"id": f"t{LONG - 1}", "script": "a.py"}]})
    assert make_plan(flow, None, PLACE).order() == list(range(LONG - 1, -1, -1))


def test_a_flow_of_20_000_tasks_without_dependencies_is_planned_in_the_files_order() -> None:
    flow = flow_from_mapping({"name": "x", "tasks": [{"id": f"t{n}", "script": "a.py"} for n in range(LONG)]})
    assert make_plan(flow, None, PLACE).order() == list(range(LONG))


@given(acyclic_graphs(), st.data())
def test_the_longest_path_is_one_and_weighs_the_most(graph: Graph, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 9), min_size=len(graph), max_size=len(graph)))
    path = longest_path(graph, weights)

    assert all(before in graph[task] for before, task in pairwise(path))
    heaviest: dict[int, int] = {}
    for task in topological_order(graph):
        heaviest[task] = weights[task] + max((heaviest[other] for other in graph[task]), default=0)
    assert sum(weights[task] for task in path) == max(heaviest.values())


def test_the_longest_path_of_nothing_is_empty_and_tasks_that_weigh_nothing_are_on_it() -> None:
    assert longest_path([], []) == []
    assert longest_path([[], [0], [1]], [0, 1, 0]) == [0, 1]
