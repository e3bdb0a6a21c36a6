"""How far a run is: what runs, how many tasks have ended and how, how long the rest will take. No clock: times are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from miniflow.events import Event, RunStarted, TaskCancelled, TaskFinished, TaskRetrying, TaskReused, TaskSkipped, TaskStarted
from miniflow.graph import longest_paths
from miniflow.values import dataclass


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that has started and not ended."""

    id: str
    began_s: float
    """When its first attempt started."""
    attempt: int
    waits: bool
    """Whether it waits for its next attempt."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """How long the tasks of a plan take, as far as that is known before they have run."""

    task_s: Sequence[float]
    path_s: Sequence[float]
    """From the beginning of each to the end of all that depends on it, one after the other."""
    longest_first: Sequence[int]
    """The tasks by `path_s`."""
    are_guesses: bool
    """Whether nothing is known: then each task counts for one."""


def estimate(task_ids: Sequence[str], upstream: Sequence[Sequence[int]], known_s: Mapping[str, float]) -> Estimates:
    """Return what is to be expected of tasks; one that nothing is known of counts for their median.

    Args:
        task_ids: Of all tasks.
        upstream: For each the indices of its upstream tasks.
        known_s: How long tasks took before.
    """
    unknown_s = sorted(known_s.values())[len(known_s) // 2] if known_s else 1.0
    task_s = [known_s.get(task_id, unknown_s) for task_id in task_ids]
    path_s = longest_paths(upstream, task_s)
    return Estimates(task_s, path_s, sorted(range(len(task_s)), key=path_s.__getitem__, reverse=True), not known_s)


class Progress:
    """Follows a run by its events.

    Args:
        task_ids: Of all tasks.
    """

    def __init__(self, task_ids: Sequence[str]) -> None:
        self.total = len(task_ids)
        self.succeeded = 0
        self.failed = 0
        self.not_run = 0
        """Skipped, cancelled, or stopped."""
        self.running: dict[str, RunningTask] = {}
        """In the order in which they started."""
        self._index_of = {task_id: index for index, task_id in enumerate(task_ids)}
        self._slots = 1
        self._has_begun = bytearray(self.total)
        """Of each task whether it has left those that wait, by running or otherwise."""
        self._took_s: list[float] = []
        self._estimates: Estimates | None = None
        self._waiting_s = 0.0
        self._longest = 0

    @property
    def done(self) -> int:
        """How many tasks have ended."""
        return self.succeeded + self.failed + self.not_run

    @property
    def waiting(self) -> int:
        """How many tasks have not begun."""
        return self.total - self.done - len(self.running)

    def expect(self, estimates: Estimates) -> None:
        """From now on, say how long the rest will take."""
        self._estimates = estimates
        self._waiting_s = sum(took for took, has_begun in zip(estimates.task_s, self._has_begun, strict=True) if not has_begun)
        self._longest = 0

    def apply(self, event: Event, now_s: float) -> None:
        """Note what has happened."""
        match event:
            case RunStarted():
                self._slots = event.parallel
            case TaskStarted():
                self._begin(event.task_id)
                before = self.running.get(event.task_id)
                began_s = now_s if before is None else before.began_s
                self.running[event.task_id] = RunningTask(event.task_id, began_s, event.attempt, waits=False)
            case TaskRetrying() if event.task_id in self.running:
                began_s = self.running[event.task_id].began_s
                self.running[event.task_id] = RunningTask(event.task_id, began_s, event.attempt, waits=True)
            case TaskFinished():
                self._begin(event.task_id)  # one that could not be started has not
                if self.running.pop(event.task_id, None):
                    self._took_s.append(event.duration_s)
                self.succeeded += event.state == "succeeded"
                self.failed += event.state == "failed"
                self.not_run += event.state == "cancelled"
            case TaskReused():
                self._begin(event.task_id)
                self.succeeded += 1
            case TaskSkipped() | TaskCancelled():
                self._begin(event.task_id)
                self.not_run += 1

    def _begin(self, task_id: str) -> None:
        index = self._index_of[task_id]
        if not self._has_begun[index]:
            self._has_begun[index] = True
            if self._estimates is not None:
                self._waiting_s -= self._estimates.task_s[index]

    def remaining_s(self, now_s: float) -> float | None:
        """Return how many seconds the run will still take, if that can be said: no less than the longest path needs."""
        estimates = self._estimates
        if estimates is None:
            return None
        scale = 1.0
        if estimates.are_guesses:
            if not self._took_s:
                return None
            usual_s = sum(self._took_s) / len(self._took_s)
            # What ends first is what is short: one that still runs, and for longer than that, counts as well.
            longer_s = [now_s - task.began_s for task in self.running.values() if now_s - task.began_s > usual_s]
            scale = (sum(self._took_s) + sum(longer_s)) / (len(self._took_s) + len(longer_s))
        running_s = list(self._running_s(estimates, scale, now_s))
        work_s = sum(task_s for task_s, _ in running_s) + max(self._waiting_s, 0.0) * scale
        paths_s = [path_s for _, path_s in running_s]
        # Those that have begun do not wait again: each is passed over once.
        while self._longest < self.total and self._has_begun[estimates.longest_first[self._longest]]:
            self._longest += 1
        if self._longest < self.total:
            paths_s.append(estimates.path_s[estimates.longest_first[self._longest]] * scale)
        return max(work_s / self._slots, *paths_s, 0.0)

    def _running_s(self, estimates: Estimates, scale: float, now_s: float) -> Iterable[tuple[float, float]]:
        """Yield for each task that runs how long it will, and with it all that depends on it."""
        for task in self.running.values():
            index = self._index_of[task.id]
            task_s = estimates.task_s[index] * scale
            left_s = max(task_s - (now_s - task.began_s), 0.0)
            yield left_s, estimates.path_s[index] * scale - task_s + left_s
