"""What can be wrong between tasks: ids that clash, dependencies that do not exist, cycles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from miniflow.graph import find_cycles
from miniflow.jsontext import Found
from miniflow.model import Task
from miniflow.suggest import did_you_mean, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def graph_problems(tasks: Sequence[Task], items: Sequence[Any], *, hints: int) -> Iterator[Found]:
    """Yield what is wrong between the tasks of a flow.

    Args:
        tasks: As they were read; one whose id is no id has none.
        items: The same as they stand in the flow file; the task itself where nothing of that is needed to say what is wrong.
        hints: For how many unknown dependencies a near miss is looked for; among many tasks that takes a while.
    """
    index_of = {task.id: index for index, task in enumerate(tasks)}
    if "" in index_of or len({task_id.lower() for task_id in index_of}) < len(tasks):
        index_of = {}
        yield from _id_problems(tasks, items, index_of)
    elif _is_in_order(tasks, index_of):
        return  # as most flows are written
    upstream: list[list[int]] = []
    for index, task in enumerate(tasks):
        try:
            upstream.append([index_of[needed] for needed in task.depends_on])
            continue
        except KeyError:
            upstream.append([index_of[needed] for needed in task.depends_on if needed in index_of])
        depends_on = task.depends_on if items[index] is task else items[index]["depends_on"]
        for found in _unknown_dependencies(index, task.id, depends_on, index_of, hints):
            hints -= 1
            yield found
    for cycle in find_cycles(upstream):
        names = [tasks[index].id for index in [*cycle, cycle[0]]]
        if len(names) > 21:
            names[10:-10] = [f"... {len(names) - 20} more ..."]
        yield Found(("tasks", cycle[0], "depends_on"), f"cycle: {' → '.join(names)} (each task depends on the next)")


def _id_problems(tasks: Sequence[Task], items: Sequence[Any], index_of: dict[str, int]) -> Iterator[Found]:
    """Yield the clashes of ids, and note which task is meant by each id."""
    folded: dict[str, int] = {}
    for index, task in enumerate(tasks):
        if not task.id:  # reported already; but what depends on it is not wrong as well
            if isinstance(items[index], dict) and isinstance(wrong_id := items[index].get("id"), str):
                index_of.setdefault(wrong_id, index)
            continue
        first = folded.setdefault(task.id.lower(), index)
        if first != index:
            yield Found(("tasks", index, "id"), _clash(task.id, tasks[first].id, first))
        index_of.setdefault(task.id, index)


def _is_in_order(tasks: Sequence[Task], index_of: Mapping[str, int]) -> bool:
    """Return whether every task stands after all that it depends on: then there is no cycle, and none that is unknown."""
    for index, task in enumerate(tasks):
        for needed in task.depends_on:
            if index_of.get(needed, index) >= index:
                return False
    return True


def _clash(task_id: str, other: str, first: int) -> str:
    if other == task_id:
        return f"the id {quoted(task_id)} is taken by tasks[{first}]; ids are unique"
    return (
        f"the id {quoted(task_id)} differs from {quoted(other)} of tasks[{first}] in case alone;"
        " they would share file names on some file systems"
    )


def _unknown_dependencies(index: int, task_id: str, depends_on: Any, known: Mapping[str, int], hints: int) -> Iterator[Found]:
    for position, needed in enumerate([depends_on] if isinstance(depends_on, str) else depends_on):
        if isinstance(needed, str) and needed not in known:
            hint = did_you_mean(needed, [other for other in known if other != task_id]) if hints > 0 else ""
            hints -= 1
            yield Found(("tasks", index, "depends_on", position), f"no task {quoted(needed)}{hint}")
