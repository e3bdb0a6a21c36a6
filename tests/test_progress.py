"""How far a run is, and how long the rest will take."""

from __future__ import annotations

from typing import Any

import pytest

from miniflow.durations import format_elapsed
from miniflow.events import RunStarted, TaskCancelled, TaskFinished, TaskRetrying, TaskReused, TaskSkipped, TaskStarted
from miniflow.progress import Progress, estimate

AT: Any = (0, "f", "r")


def started(progress: Progress, task_id: str, now_s: float, attempt: int = 1) -> None:
    progress.apply(TaskStarted(*AT, task_id, attempt, 1, ()), now_s)


def ended(progress: Progress, task_id: str, now_s: float, took_s: float = 1, state: Any = "succeeded") -> None:
    progress.apply(TaskFinished(*AT, task_id, 1, state, 0, "exit", None, None, took_s, 1), now_s)


def of(upstream: list[list[int]], known_s: dict[str, float], slots: int = 1) -> Progress:
    """Return the progress of a run of tasks t0, t1 …"""
    ids = [f"t{n}" for n in range(len(upstream))]
    progress = Progress(ids)
    progress.apply(RunStarted(*AT, len(ids), slots, keep_going=False, params=()), 0)
    progress.expect(estimate(ids, upstream, known_s))
    return progress


def test_each_task_counts_once_however_it_ends() -> None:
    progress = of([[]] * 8, {})
    for n in range(3):
        started(progress, f"t{n}", 0)
    ended(progress, "t0", 1)
    ended(progress, "t1", 1, state="failed")
    progress.apply(TaskSkipped(*AT, "t3", "upstream_failed"), 1)
    progress.apply(TaskCancelled(*AT, "t4", "fail_fast"), 1)
    progress.apply(TaskReused(*AT, "t5", "r0"), 1)
    ended(progress, "t6", 1, state="failed")  # it could not be started

    assert (progress.succeeded, progress.failed, progress.not_run) == (2, 2, 2)
    assert (list(progress.running), progress.waiting, progress.done) == (["t2"], 1, 6)


def test_a_task_that_waits_for_its_next_attempt_still_runs_since_its_first() -> None:
    progress = of([[]], {})
    started(progress, "t0", 5)
    progress.apply(TaskRetrying(*AT, "t0", 1, 30, 1, "exit"), 6)
    assert progress.running["t0"].waits

    started(progress, "t0", 36, attempt=2)

    task = progress.running["t0"]
    assert (task.began_s, task.attempt, task.waits) == (5, 2, False)


def test_the_rest_is_what_the_tasks_took_before_divided_over_the_slots() -> None:
    progress = of([[]] * 4, {"t0": 10, "t1": 10, "t2": 20, "t3": 20}, slots=2)
    assert progress.remaining_s(0) == 30

    started(progress, "t2", 0)
    started(progress, "t3", 0)
    assert progress.remaining_s(15) == 15

    ended(progress, "t2", 15, 15)
    assert progress.remaining_s(15) == 12.5


def test_the_rest_is_no_less_than_the_longest_path() -> None:
    progress = of([[], [0], [1], []], {f"t{n}": 10 for n in range(4)}, slots=100)
    assert progress.remaining_s(0) == 30

    started(progress, "t0", 0)
    assert progress.remaining_s(4) == 26
    assert progress.remaining_s(400) == 20  # it takes longer than it did: it may end at any moment


def test_a_task_that_nothing_is_known_of_takes_as_long_as_the_others() -> None:
    assert of([[]] * 4, {"t0": 1, "t1": 2, "t2": 30}).remaining_s(0) == 35


def test_where_nothing_is_known_the_rest_is_told_once_a_task_has_ended() -> None:
    progress = of([[]] * 5, {})
    started(progress, "t0", 0)
    assert progress.remaining_s(1) is None

    ended(progress, "t0", 4, 4)

    assert progress.remaining_s(4) == 16


def test_where_nothing_is_known_a_task_that_takes_longer_than_others_tells_that_the_rest_may_as_well() -> None:
    progress = of([[], [], [1]], {}, slots=2)
    started(progress, "t0", 0)
    started(progress, "t1", 0)
    ended(progress, "t0", 2, 2)
    assert progress.remaining_s(2) == 2

    assert progress.remaining_s(10) == 6  # as 2 and 10 are 6 on the average


def test_without_estimates_nothing_is_told_and_with_them_at_any_time_of_the_run() -> None:
    ids = ["t0", "t1"]
    progress = Progress(ids)
    started(progress, "t0", 0)
    assert progress.remaining_s(1) is None

    progress.expect(estimate(ids, [[], []], {"t0": 3, "t1": 5}))

    assert progress.remaining_s(1) == 7


def test_at_the_end_nothing_is_left() -> None:
    progress = of([[], [0]], {"t0": 3, "t1": 5})
    for task_id in ("t0", "t1"):
        started(progress, task_id, 0)
        ended(progress, task_id, 1)

    assert progress.remaining_s(2) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (-1, "0.0s"), (3.44, "3.4s"), (9.94, "9.9s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m00s"), (65, "1m05s"),
     (3599.6, "1h00m"), (7380, "2h03m"), (100_000, "1d03h")],
)  # fmt: skip
def test_a_clock_shows_two_units_at_most(seconds: float, text: str) -> None:
    assert format_elapsed(seconds) == text
