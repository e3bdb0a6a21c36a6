"""Which part of a flow to run: these tasks alone, these and what follows, these and what leads to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from miniflow.errors import MAX_SHOWN_PROBLEMS, UsageError
from miniflow.graph import downstream_of
from miniflow.suggest import did_you_mean, quoted
from miniflow.values import dataclass


@dataclass(frozen=True, slots=True)
class Selection:
    """The ids that a part of a flow is named by, at least one."""

    only: tuple[str, ...] = ()
    """Exactly these, besides what the others select."""
    from_: tuple[str, ...] = ()
    """These and all downstream of them."""
    until: tuple[str, ...] = ()
    """These and all upstream of them; together with `from_`, what lies between."""

    def named(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield `only`, `from` and `until`, as far as they are given, with their ids."""
        for name, ids in (("only", self.only), ("from", self.from_), ("until", self.until)):
            if ids:
                yield name, ids


def selected(selection: Selection, flow: str, ids: Sequence[str], upstream: Sequence[Sequence[int]]) -> list[int]:
    """Return the indices of the selected tasks, in the flow's order.

    Args:
        selection: What is selected.
        flow: The flow's name, for messages.
        ids: The ids of all its tasks.
        upstream: For each task, the indices of the tasks it depends on.

    Raises:
        UsageError: An id is no task's (each is named), or nothing lies between.
    """
    index_of = {task_id: index for index, task_id in enumerate(ids)}
    _check_ids(selection, flow, index_of)
    chosen = {index_of[task_id] for task_id in selection.only}
    after = _reached([index_of[task_id] for task_id in selection.from_], downstream_of(upstream))
    before = _reached([index_of[task_id] for task_id in selection.until], upstream)
    if selection.from_ and selection.until:
        between = after & before
        if not between:
            first, last = (" or ".join(map(quoted, some[:5])) for some in (selection.from_, selection.until))
            raise UsageError(f"from, until: nothing of flow {quoted(flow)} lies between {first} and {last}")
        chosen |= between
    else:
        chosen |= after | before
    return sorted(chosen)


def upstream_within(chosen: Sequence[int], upstream: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return which of the chosen tasks each of them waits for: those it depends on, also by way of tasks that are not chosen.

    Args:
        chosen: Indices of tasks.
        upstream: For each task, the indices of the tasks it depends on.
    """
    known: dict[int, tuple[int, ...]] = {task: (task,) for task in chosen}
    """What waiting for a task comes to, among the chosen."""
    for task in chosen:
        pending = list(upstream[task])
        while pending:
            open_upstream = [needed for needed in upstream[pending[-1]] if needed not in known]
            if pending[-1] not in known and open_upstream:
                pending += open_upstream
            else:
                last = pending.pop()
                known.setdefault(last, _merged(known, upstream[last]))
    return [_merged(known, upstream[task]) for task in chosen]


def _merged(known: dict[int, tuple[int, ...]], tasks: Sequence[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys([near for task in tasks for near in known[task]]))


def _check_ids(selection: Selection, flow: str, index_of: dict[str, int]) -> None:
    problems: list[str] = []
    for name, ids in selection.named():
        for task_id in ids:
            if task_id not in index_of:
                hint = did_you_mean(task_id, index_of) if len(problems) < MAX_SHOWN_PROBLEMS else ""
                problems.append(f"{name}: flow {quoted(flow)} has no task {quoted(task_id)}{hint}")
    if problems:
        more = len(problems) - MAX_SHOWN_PROBLEMS
        raise UsageError("\n".join([*problems[:MAX_SHOWN_PROBLEMS], *([f"... and {more} more"] if more > 0 else [])]))


def _reached(starts: Iterable[int], neighbours: Sequence[Sequence[int]]) -> set[int]:
    """Return the tasks, and all that can be reached from them."""
    found = set(starts)
    pending = list(found)
    while pending:
        for other in neighbours[pending.pop()]:
            if other not in found:
                found.add(other)
                pending.append(other)
    return found
