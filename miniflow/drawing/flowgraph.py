"""What all drawings of a flow are made of: its tasks, what they depend on, how long they take, the critical path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from miniflow.durations import format_duration
from miniflow.graph import longest_path, topological_order
from miniflow.layout import levels
from miniflow.model import Flow
from miniflow.values import dataclass

_MOST_NAMED = 12
"""So many tasks of a path are named; of a longer one the beginning and the end."""


@dataclass(frozen=True, slots=True)
class FlowGraph:
    """A flow without cycles, as it is drawn."""

    name: str
    task_ids: Sequence[str]
    upstream: Sequence[Sequence[int]]
    durations_s: Sequence[float | None]
    """How long each task is expected to take; None where nothing is known."""
    critical_path: Sequence[int]
    """The path that takes longest, or has the most tasks where nothing is known; a task of which nothing is known counts as
    much as the median of the others."""

    def expected(self, task: int) -> str:
        """Return how long a task is expected to take, in words; nothing where that is not known."""
        seconds = self.durations_s[task]
        return "" if seconds is None else rounded(seconds)

    def summary(self) -> list[str]:
        """Return what the drawing means, in sentences: how much there is, the critical path, how long it will take."""
        in_layers = Counter(levels(self.upstream))
        tasks, layers = _counted(len(self.task_ids), "task"), _counted(len(in_layers), "layer")
        lines = [f"{tasks} in {layers}, at most {max(in_layers.values(), default=0)} side by side"]
        path = [self.task_ids[task] for task in self.critical_path]
        if len(path) > 1:
            end = _MOST_NAMED // 2
            if len(path) > _MOST_NAMED:
                path = [*path[:end], f"({len(path) - 2 * end} more)", *path[-end:]]
            lines.append(f"critical path: {' -> '.join(path)}")
        unknown = self.durations_s.count(None)
        if unknown < len(self.durations_s):
            weights = _weights(self.durations_s)
            least = sum(weights[task] for task in self.critical_path)
            line = f"expected: {rounded(least)} at least, {rounded(sum(weights))} one after the other, by earlier runs"
            lines.append(line + (f" ({_counted(unknown, 'task')} guessed)" if unknown else ""))
        return lines


def graph_of(flow: Flow, durations_s: Mapping[str, float]) -> FlowGraph | None:
    """Return a flow's graph; None if it has cycles, or tasks that are not there: a flow that was built and not checked.

    Args:
        flow: Its parameters need not be known.
        durations_s: How long tasks took, as far as that is known, by their ids.
    """
    index = {task.id: number for number, task in enumerate(flow.tasks)}
    depends_on = [[task.depends_on] if isinstance(task.depends_on, str) else task.depends_on for task in flow.tasks]
    if len(index) < len(flow.tasks) or not all(other in index for needed in depends_on for other in needed):
        return None
    upstream = [[index[other] for other in dict.fromkeys(needed)] for needed in depends_on]
    if len(topological_order(upstream)) < len(upstream):
        return None
    durations = [durations_s.get(task.id) for task in flow.tasks]
    return FlowGraph(flow.name, list(index), upstream, durations, longest_path(upstream, _weights(durations)))


def _weights(durations_s: Sequence[float | None]) -> list[float]:
    known = sorted(seconds for seconds in durations_s if seconds is not None)
    usual = known[len(known) // 2] if known else 1.0
    return [usual if seconds is None else seconds for seconds in durations_s]


def rounded(seconds: float) -> str:
    """Return seconds as people say them: two digits after the point below ten, and none from a hundred on."""
    return format_duration(round(seconds, 2 if seconds < 10 else 1 if seconds < 100 else 0))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
