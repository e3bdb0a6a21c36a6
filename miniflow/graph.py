"""Order and cycles of a graph given as, for each task, the indices of its upstream tasks."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def downstream_of(upstream: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return for each task the tasks that depend on it, in ascending order."""
    downstream: list[list[int]] = [[] for _ in upstream]
    for task, needed in enumerate(upstream):
        for other in needed:
            downstream[other].append(task)
    return downstream


def topological_order(upstream: Sequence[Sequence[int]]) -> list[int]:
    """Return all tasks so that each stands after its upstream; among those that could be next, the lowest index.

    With a cycle, the tasks on it and after it are missing.

    Source: A. B. Kahn, "Topological sorting of large networks", CACM 5 (1962), with a heap as its set of candidates.
    """
    if all(not needed or max(needed) < task for task, needed in enumerate(upstream)):
        return list(range(len(upstream)))  # as most flows are written
    waiting_for = [len(needed) for needed in upstream]
    downstream = downstream_of(upstream)
    ready = [task for task, count in enumerate(waiting_for) if count == 0]  # ascending, hence a heap
    order = []
    while ready:
        task = heapq.heappop(ready)
        order.append(task)
        for other in downstream[task]:
            waiting_for[other] -= 1
            if waiting_for[other] == 0:
                heapq.heappush(ready, other)
    return order


def find_cycles(upstream: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return cycles that have no task in common: at least one unless the graph is acyclic.

    Each cycle is a list in which every task depends on the next one, and the last on the first.
    """
    order = topological_order(upstream)
    if len(order) == len(upstream):
        return []
    ordered = set(order)
    # Each task left has an upstream task that is left: walking up must come back to where it has been.
    done: set[int] = set(ordered)
    cycles = []
    for start in range(len(upstream)):
        position: dict[int, int] = {}
        walk: list[int] = []
        task: int | None = start
        while task is not None and task not in done and task not in position:
            position[task] = len(walk)
            walk.append(task)
            task = next((other for other in upstream[task] if other not in ordered), None)
        if task is not None and task in position:
            cycles.append(walk[position[task] :])
        done.update(walk)
    return cycles


def longest_paths(upstream: Sequence[Sequence[int]], weights: Sequence[float]) -> list[float]:
    """Return for each task of a graph without cycles what the heaviest path from it to an end weighs, with its own weight."""
    weighs = [0.0] * len(upstream)  # what stands downstream, and at last the task with it
    for task in reversed(topological_order(upstream)):
        weighs[task] += weights[task]
        for other in upstream[task]:
            if weighs[other] < weighs[task]:
                weighs[other] = weighs[task]
    return weighs


def longest_path(upstream: Sequence[Sequence[int]], weights: Sequence[float]) -> list[int]:
    """Return the tasks of a path that weighs the most, in a graph without cycles; of such that weigh the same, an early one."""
    weighs = [0.0] * len(upstream)
    before: list[int | None] = [None] * len(upstream)
    for task in topological_order(upstream):
        for other in upstream[task]:
            if before[task] is None or weighs[other] > weighs[task]:
                before[task], weighs[task] = other, weighs[other]
        weighs[task] += weights[task]
    path = []
    last = max(range(len(upstream)), key=weighs.__getitem__, default=None)
    while last is not None:
        path.append(last)
        last = before[last]
    return path[::-1]


def longest_path_first(upstream: Sequence[Sequence[int]], weights: Sequence[float]) -> list[int]:
    """Return all tasks of a graph without cycles: first the one from which a path to an end weighs the most.

    The task's own weight counts; of those that weigh the same the lowest index stands first.

    Source: list scheduling by the longest remaining path; T. C. Hu, "Parallel sequencing and assembly line problems",
    Operations Research 9 (1961).
    """
    weighs = longest_paths(upstream, weights)
    return sorted(range(len(upstream)), key=weighs.__getitem__, reverse=True)  # which is stable, too
