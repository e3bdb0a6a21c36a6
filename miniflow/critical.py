"""What the duration of a run was made of: how much later each task could have ended, and the chain that made it so long.

Tasks are indices, `upstream` holds for each the indices of what it depends on, and times are seconds since the run's start.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from miniflow.graph import topological_order


def slack_s(upstream: Sequence[Sequence[int]], took_s: Sequence[float], ended_s: Sequence[float]) -> list[float]:
    """Return how many seconds later each task could have ended without the last task's ending later.

    What is downstream of it is taken to start at once and to take as long as it did; that slots are few does not count.

    Source: the backward pass of the critical path method; J. E. Kelley, M. R. Walker, "Critical-path planning and scheduling",
    IRE-AIEE-ACM (1959).
    """
    latest = [max(ended_s, default=0.0)] * len(upstream)
    for task in reversed(topological_order(upstream)):
        begin = latest[task] - took_s[task]
        for other in upstream[task]:
            if begin < latest[other]:
                latest[other] = begin
    return [round(max(0.0, last - end), 6) for last, end in zip(latest, ended_s, strict=True)]


def critical_path(
    upstream: Sequence[Sequence[int]],
    started_s: Sequence[float | None],
    ended_s: Sequence[float],
    attempts: Sequence[tuple[float, float, int]],
    parallel: int,
) -> list[int]:
    """Return the chain of tasks that ends with the one that ended last, each of which the next one waited for.

    What a task waited for is the task whose end gave it its slot, if all slots were taken when it could have started; else
    the one of its upstream that ended last. Tasks that did not run are not part of it: what decided that they would not is.

    Args:
        upstream: What each task depends on.
        started_s: When each task started; None if it did not run.
        ended_s: When each task ended, or it was known that it would not run.
        attempts: Start, end and task of each attempt.
        parallel: How many attempts may run at once.
    """
    ran = [task for task, start in enumerate(started_s) if start is not None]
    if not ran:
        return []
    freed_s, freed_by = _slots_freed(attempts, parallel)
    path: list[int] = []
    seen: set[int] = set()  # a clock that was set back must not send us round
    task: int | None = max(ran, key=lambda index: ended_s[index])
    while task is not None and task not in seen:
        seen.add(task)
        before = max(upstream[task], key=lambda index: ended_s[index], default=None)
        start = started_s[task]
        if start is not None:
            path.append(task)
        ready_s = 0.0 if before is None else ended_s[before]
        # One that was cancelled while it waited for a slot was so by a failure, whose end gave a slot as well.
        place = bisect_right(freed_s, ended_s[task] if start is None else start) - 1
        if place >= 0 and freed_s[place] > ready_s:
            before = freed_by[place]
        task = before
    return path[::-1]


def _slots_freed(attempts: Sequence[tuple[float, float, int]], parallel: int) -> tuple[list[float], list[int]]:
    """Return when an attempt ended while all slots were taken, in order, and of which task it was."""
    # At one instant ends come first: a slot is given on when it is free.
    changes = sorted([(end, 0, task) for _, end, task in attempts] + [(start, 1, task) for start, _, task in attempts])
    freed_s: list[float] = []
    freed_by: list[int] = []
    running = 0
    for at_s, is_start, task in changes:
        if is_start:
            running += 1
            continue
        if running >= parallel:
            freed_s.append(at_s)
            freed_by.append(task)
        running -= 1
    return freed_s, freed_by
