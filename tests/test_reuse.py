"""What a resumed run takes over, decided without a process: random flows, failures, crashes and changes, against an oracle."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniflow.actions import AttemptEnded, Begin, Cancel, End, Finish, Reuse, Skip, Start, Stop
from miniflow.model import TRIGGER_RULES, TriggerRule
from miniflow.plan import Place, Plan, PlannedTask
from miniflow.results import Outcome
from miniflow.reuse import OldRun, TakenOver, old_run, plan_document, take_over
from miniflow.scheduler import Scheduler

PLACE = Place("/tasks", "/out", "/work", "python3")
SHA256 = {"s.py": "1" * 64}


def planned(index: int, upstream: Sequence[int], trigger_rule: Any = "all_success") -> PlannedTask:
    return PlannedTask(
        id=f"t{index}", description="", script="s.py", python=None, args=(), env={}, cwd=None, upstream=tuple(upstream),
        trigger_rule=trigger_rule, timeout_s=None, retry_delays_s=(), retry_on=(),
    )  # fmt: skip


def plan_of(tasks: Sequence[PlannedTask]) -> Plan:
    return Plan("x", "", "", PLACE, {}, tuple(tasks))


class Run:
    """A simulated run: its tasks' records, as the journal would have them, and which of them ran."""

    def __init__(
        self,
        tasks: Sequence[PlannedTask],
        failing: set[int],
        rng: random.Random,
        *,
        keep_going: bool = True,
        taken_over: TakenOver | None = None,
        actions: int = 10_000,
        stop_at: int = 10_000,
    ) -> None:
        """Run the tasks; the runner dies after so many actions, or is told to stop after so many stimuli."""
        self.records: dict[str, dict[str, Any]] = {}
        self.ran: list[int] = []
        self.plan = plan_of(tasks)
        self.taken_over = taken_over
        reusable = taken_over.reused if taken_over else {}
        scheduler = Scheduler(tasks, limit=3, order=range(len(tasks)), keep_going=keep_going, reusable=reusable)
        running: list[int] = []
        todo = list(scheduler.handle(Begin()))
        stimuli = 0
        for _ in range(actions):
            if not todo:
                stimuli += 1
                if stimuli == stop_at:
                    todo = [*scheduler.handle(Stop()), *todo]
                    continue
                task = running.pop(rng.randrange(len(running)))
                todo = list(scheduler.handle(AttemptEnded(task, Outcome(int(task in failing)))))
                scheduler.check()
            action = todo.pop(0)
            if isinstance(action, Start):
                running.append(action.task)
                self.ran.append(action.task)
            if isinstance(action, End):
                break
            self.record(action)

    def record(self, action: Any) -> None:
        task_id = f"t{action.task}"
        match action:
            case Start():
                self.records[task_id] = {"state": "running", "attempts": 1}
            case Finish(_, _, state):
                self.records[task_id] = {"state": state, "attempts": 1}
            case Skip(_, reason):
                self.records[task_id] = {"state": "skipped", "reason": reason, "attempts": 0}
            case Cancel(_, reason):
                self.records[task_id] = {"state": "cancelled", "reason": reason, "attempts": 0}
            case Reuse(task):
                assert self.taken_over is not None
                origin = self.taken_over.reused[task]
                self.records[task_id] = {"state": "succeeded", "reason": "reused", "attempts": 0, "reused_from": origin}

    def as_old(self, run_id: str) -> OldRun:
        """Return what a later run finds of this one."""
        document = b"".join(plan_document(self.plan, SHA256, self.taken_over))
        return old_run(run_id, json.loads(document), self.records, {})

    def state(self, index: int) -> tuple[str, str | None]:
        record = self.records.get(f"t{index}", {"state": "none"})
        return record["state"], record.get("reason") if record["state"] == "skipped" else None


@st.composite
def graphs(draw: st.DrawFn) -> list[PlannedTask]:
    size = draw(st.integers(1, 9))
    return [
        planned(
            index,
            draw(st.lists(st.integers(0, index - 1), unique=True, max_size=3)) if index else [],
            draw(st.sampled_from(("all_success", *TRIGGER_RULES))),
        )
        for index in range(size)
    ]


subsets = st.sets(st.integers(0, 8), max_size=4)
rngs = st.randoms(use_true_random=True)


def changed(tasks: Sequence[PlannedTask], which: set[int]) -> list[PlannedTask]:
    return [
        dataclasses.replace(task, args=(*task.args, "more")) if index in which else task for index, task in enumerate(tasks)
    ]


def expected_to_run(first: Run, second: Run, tasks: Sequence[PlannedTask], changes: set[int]) -> set[int]:
    """Return which tasks have to run the second time, of those whose rule lets them; in the words of the contract."""
    same: set[int] = set()
    to_run: set[int] = set()
    for index, task in enumerate(tasks):  # upstream stands before
        is_above_same = all(other in same for other in task.upstream)
        state, _ = second.state(index)
        if state == "skipped":
            if is_above_same and first.state(index) == second.state(index):
                same.add(index)
        elif first.state(index)[0] == "succeeded" and index not in changes and is_above_same:
            same.add(index)
        else:
            to_run.add(index)
    return to_run


@settings(max_examples=75)
@given(
    graphs(),
    subsets,
    subsets,
    subsets,
    st.dictionaries(st.integers(0, 8), st.sampled_from(TRIGGER_RULES), max_size=2),
    rngs,
    st.booleans(),
    st.integers(0, 30),
)
def test_exactly_that_runs_which_has_to(
    tasks: list[PlannedTask],
    failing: set[int],
    failing_later: set[int],
    changes: set[int],
    rules: dict[int, TriggerRule],
    rng: random.Random,
    keep_going: bool,
    actions: int,
) -> None:
    first = Run(tasks, failing, rng, keep_going=keep_going, actions=actions if rng.random() < 0.5 else 10_000)
    later = [
        dataclasses.replace(task, trigger_rule=rules.get(index, task.trigger_rule))
        for index, task in enumerate(changed(tasks, changes))
    ]
    taken_over = take_over(plan_of(later), SHA256, first.as_old("first"))

    second = Run(later, failing_later, rng, taken_over=taken_over)

    assert set(second.ran) == expected_to_run(first, second, tasks, changes)
    # What was decided before the run is what came of it: all that is taken over is so, and nothing else.
    for index in range(len(tasks)):
        if index in taken_over.reused:
            assert second.records[f"t{index}"]["reused_from"] == "first"
        if index in taken_over.skipped:
            assert second.state(index) == ("skipped", taken_over.skipped[index])
    assert taken_over.reused.keys() | taken_over.skipped.keys() | taken_over.reasons.keys() == set(range(len(tasks)))
    assert set(second.ran) <= taken_over.reasons.keys()


@settings(max_examples=75)
@given(graphs(), st.lists(st.tuples(subsets, st.integers(0, 25), st.integers(1, 6)), min_size=1, max_size=5), rngs)
def test_however_often_it_is_broken_off_or_stopped_nothing_that_succeeded_runs_again(
    tasks: list[PlannedTask], breaks: list[tuple[set[int], int, int]], rng: random.Random
) -> None:
    """As long as nothing changes, and what failed above it does not run again."""
    run = Run(tasks, set(), rng, actions=breaks[0][1])
    succeeded: set[int] = set()
    for number, (_, actions, stop_at) in enumerate([*breaks[1:], (set(), 10_000, 10_000)]):
        succeeded |= {index for index in range(len(tasks)) if run.state(index)[0] == "succeeded"}
        taken_over = take_over(run.plan, SHA256, run.as_old(f"run {number}"))
        run = Run(tasks, set(), rng, taken_over=taken_over, actions=actions, stop_at=stop_at if rng.random() < 0.3 else 10_000)
        assert not succeeded & set(run.ran)
    whole = Run(tasks, set(), rng)
    assert {index: run.state(index) for index in range(len(tasks))} == {
        index: whole.state(index) for index in range(len(tasks))
    }


@pytest.mark.parametrize("limit", [1, 2])
def test_a_reusable_task_succeeds_where_it_would_become_ready_and_takes_no_slot(limit: int) -> None:
    tasks = [planned(0, ()), planned(1, (0,)), planned(2, ()), planned(3, (1,))]
    scheduler = Scheduler(tasks, limit=limit, order=[0, 1, 2, 3], reusable=[0, 1])

    actions = scheduler.handle(Begin())

    starts = [Start(2, 1), Start(3, 1)]
    assert actions[:2] == [Reuse(0), Reuse(1)]
    assert actions[2:] == starts[:limit]
    scheduler.check()


def test_a_rule_that_is_false_counts_before_what_could_be_reused() -> None:
    scheduler = Scheduler([planned(0, ()), planned(1, (0,), "one_failed")], limit=1, order=[0, 1], reusable=[0, 1])

    assert scheduler.handle(Begin()) == [Reuse(0), Skip(1, "no_failure"), End("succeeded")]


def test_after_a_stop_nothing_is_reused() -> None:
    scheduler = Scheduler([planned(0, ())], limit=1, order=[0], reusable=[0])

    assert scheduler.handle(Stop()) == [Cancel(0, "stopped"), End("cancelled")]


def test_many_tasks_are_taken_over_at_once() -> None:
    tasks = [planned(index, (index - 1,) if index else ()) for index in range(20_000)]
    scheduler = Scheduler(tasks, limit=1, order=range(20_000), reusable=range(20_000))

    actions = scheduler.handle(Begin())

    assert actions == [*map(Reuse, range(20_000)), End("succeeded")]


def test_a_script_that_cannot_be_read_is_never_the_same() -> None:
    tasks = [planned(0, ())]
    run = Run(tasks, set(), random.Random(0))  # noqa: S311
    document = run.plan.to_json({"s.py": None})
    old = old_run("first", document, run.records, {})

    assert take_over(plan_of(tasks), {"s.py": None}, old).reasons == {0: "script_changed"}
    assert take_over(plan_of(tasks), SHA256, old).reasons == {0: "script_changed"}
