"""The state machine alone: no process, no clock. A simulation answers its actions; naive oracles say what should come."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniflow.errors import InternalError
from miniflow.graph import longest_path_first, topological_order
from miniflow.model import TRIGGER_RULES, TriggerRule
from miniflow.scheduler import (
    Action,
    AttemptEnded,
    Begin,
    Cancel,
    End,
    Finish,
    NotStarted,
    Outcome,
    RetryDue,
    Scheduler,
    Skip,
    Start,
    Stimulus,
    Stop,
    Wait,
)

OK = Outcome(0)
BAD = Outcome(1)
STOPPED = Outcome(143, "signal", "SIGTERM", stopped=True)


@dataclass(frozen=True)
class T:
    """A task, and the exit statuses of its attempts: what is not listed is 0."""

    upstream: tuple[int, ...] = ()
    trigger_rule: TriggerRule = "all_success"
    retry_delays_s: tuple[float, ...] = ()
    retry_on: tuple[int, ...] = ()
    statuses: tuple[int, ...] = ()

    def outcome(self, attempt: int) -> Outcome:
        return Outcome(self.statuses[attempt - 1] if attempt <= len(self.statuses) else 0)


def new_scheduler(
    tasks: Sequence[T], limit: int = 1, *, keep_going: bool = False, order: Sequence[int] | None = None
) -> Scheduler:
    if order is None:
        order = topological_order([task.upstream for task in tasks]) if limit == 1 else range(len(tasks))
    return Scheduler(tasks, limit=limit, order=order, keep_going=keep_going)


# --- a simulated executor


@dataclass
class Simulation:
    """Does what the scheduler says, with attempts and delays ending in an order that `rng` chooses."""

    tasks: Sequence[T]
    limit: int
    keep_going: bool
    rng: random.Random
    stop_at: int | None = None
    """Before which stimulus the run is told to stop."""
    order: Sequence[int] | None = None
    stimuli: list[Stimulus] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)
    ends: dict[int, str] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)
    """Tasks in the order of their first attempts."""
    choices: list[tuple[list[int], list[int]]] = field(default_factory=list)
    """For each stimulus: the tasks that started, and those that could have but for want of a slot."""
    attempts: Counter[int] = field(default_factory=Counter)
    verdict: str | None = None

    def run(self) -> Simulation:
        self.scheduler = new_scheduler(self.tasks, self.limit, keep_going=self.keep_going, order=self.order)
        self.give(Begin())
        while self.verdict is None:
            if self.stop_at == len(self.stimuli):
                self.give(Stop())
                continue
            task = self.rng.choice(sorted(self.running | self.waiting))
            if task in self.running:
                self.running.remove(task)
                self.give(AttemptEnded(task, self.outcome(task)))
            else:
                self.waiting.remove(task)
                self.give(RetryDue(task))
        return self

    def outcome(self, task: int) -> Outcome:
        if self.has_stopped and self.rng.random() < 0.7:
            return STOPPED
        return self.tasks[task].outcome(self.attempts[task])

    @property
    def has_stopped(self) -> bool:
        return any(isinstance(stimulus, Stop) for stimulus in self.stimuli)

    def give(self, stimulus: Stimulus) -> None:
        self.stimuli.append(stimulus)
        actions = self.scheduler.handle(stimulus)
        for action in actions:
            self.apply(action)
        self.scheduler.check()
        self.actions += actions
        started = [action.task for action in actions if isinstance(action, Start)]
        left = [task for task in range(len(self.tasks)) if self.scheduler.state(task) == "ready"]
        self.choices.append((started, left))
        could_start = [task for task in range(len(self.tasks)) if self.could_start(task)]
        if could_start:
            assert set(could_start) <= set(left)
            assert self.slots_taken == self.limit, "a slot idles while a task could start"

    def apply(self, action: Action) -> None:
        assert self.verdict is None, "nothing comes after the end"
        match action:
            case Start(task, attempt):
                assert not self.has_stopped
                assert task not in self.ends | dict.fromkeys(self.running | self.waiting)
                assert attempt == self.attempts[task] + 1
                if attempt == 1:
                    assert self.rule_is_true(task)
                    self.starts.append(task)
                self.attempts[task] = attempt
                self.running.add(task)
                assert self.slots_taken <= self.limit
            case Wait(task, attempt, delay_s):
                assert delay_s == self.tasks[task].retry_delays_s[attempt - 1]
                assert attempt == self.attempts[task]
                self.waiting.add(task)
            case Finish(task, attempt, state):
                assert attempt == self.attempts[task] >= 1
                self.waiting.discard(task)
                self.end(task, state)
            case Skip(task, reason):
                assert self.upstream_has_ended(task)
                self.end(task, "skipped", reason)
            case Cancel(task, reason):
                self.end(task, "cancelled", reason)
            case End(state):
                assert len(self.ends) == len(self.tasks)
                self.verdict = state

    def end(self, task: int, state: str, reason: str = "") -> None:
        assert task not in self.ends, "a task ends once"
        assert task not in self.running
        self.ends[task] = state
        self.reasons[task] = reason

    @property
    def slots_taken(self) -> int:
        return len(self.running) + (len(self.waiting) if self.limit == 1 else 0)

    def could_start(self, task: int) -> bool:
        return not self.has_stopped and task not in self.ends and not self.attempts[task] and self.rule_is_true(task)

    def upstream_has_ended(self, task: int) -> bool:
        return all(other in self.ends for other in self.tasks[task].upstream)

    def rule_is_true(self, task: int) -> bool:
        """Judge a task as the contract's table says, in its words."""
        if not self.upstream_has_ended(task):
            return False
        upstream = self.tasks[task].upstream
        match self.tasks[task].trigger_rule:
            case "all_success":
                return all(self.ends[other] == "succeeded" for other in upstream)
            case "all_done":
                return True
            case "one_failed":
                return any(self.ends[other] == "failed" or self.reasons[other] == "upstream_failed" for other in upstream)


@st.composite
def graphs(draw: st.DrawFn, max_size: int = 12) -> list[T]:
    """Tasks with edges from earlier to later alone, shuffled, so that file order and dependency order differ."""
    size = draw(st.integers(1, max_size))
    place = draw(st.permutations(range(size)))
    tasks: list[T] = [T()] * size
    for index in range(size):
        upstream = draw(st.lists(st.integers(0, index - 1), unique=True, max_size=3)) if index else []
        statuses = draw(st.lists(st.sampled_from([0, 1, 1, 75]), max_size=3))
        tasks[place[index]] = T(
            upstream=tuple(place[other] for other in upstream),
            trigger_rule=draw(st.sampled_from(TRIGGER_RULES)),
            retry_delays_s=tuple(draw(st.lists(st.sampled_from([0.0, 1.0, 2.5]), max_size=2))),
            retry_on=draw(st.sampled_from([(), (75,)])),
            statuses=tuple(statuses),
        )
    return tasks


rngs = st.randoms(use_true_random=True)
limits = st.integers(1, 5)


def expected_ends(tasks: Sequence[T]) -> dict[int, tuple[str, str]]:
    """Return how each task ends under keep-going, by the words of the contract."""
    ends: dict[int, tuple[str, str]] = {}
    for index in topological_order([task.upstream for task in tasks]):
        task = tasks[index]
        above = [ends[other] for other in task.upstream]
        any_failure = any(state == "failed" or reason == "upstream_failed" for state, reason in above)
        if task.trigger_rule == "all_success" and any(state != "succeeded" for state, _ in above):
            ends[index] = ("skipped", "upstream_failed" if any_failure else "upstream_skipped")
        elif task.trigger_rule == "one_failed" and not any_failure:
            ends[index] = ("skipped", "no_failure")
        else:
            state = "failed"
            for attempt in range(1, len(task.retry_delays_s) + 2):
                status = task.outcome(attempt).exit_status
                if status == 0:
                    state = "succeeded"
                    break
                if task.retry_on and status not in task.retry_on:
                    break
            ends[index] = (state, "")
    return ends


# --- properties


@given(graphs(), limits, st.booleans(), rngs, st.one_of(st.none(), st.integers(0, 20)))
def test_every_run_keeps_the_invariants_whatever_happens_in_it(
    tasks: list[T], limit: int, keep_going: bool, rng: random.Random, stop_at: int | None
) -> None:
    run = Simulation(tasks, limit, keep_going, rng, stop_at).run()

    assert isinstance(run.actions[-1], End)
    assert sum(isinstance(action, End) for action in run.actions) == 1
    assert run.ends.keys() == set(range(len(tasks)))
    if not run.has_stopped:
        assert run.verdict == ("failed" if "failed" in run.ends.values() else "succeeded")


@settings(max_examples=75)
@given(graphs(), limits, rngs)
def test_under_keep_going_every_task_ends_as_the_rules_say_whatever_the_order(
    tasks: list[T], limit: int, rng: random.Random
) -> None:
    run = Simulation(tasks, limit, keep_going=True, rng=rng).run()

    assert {task: (state, run.reasons[task]) for task, state in run.ends.items()} == expected_ends(tasks)


@settings(max_examples=75)
@given(graphs(), limits, rngs)
def test_under_fail_fast_no_task_for_which_success_counts_starts_after_a_failure(
    tasks: list[T], limit: int, rng: random.Random
) -> None:
    run = Simulation(tasks, limit, keep_going=False, rng=rng).run()

    has_failed = False
    for action in run.actions:
        has_failed = has_failed or (isinstance(action, Finish) and action.state == "failed")
        if has_failed and isinstance(action, Start) and action.attempt == 1:
            assert tasks[action.task].trigger_rule != "all_success"
    cancelled = [task for task, state in run.ends.items() if state == "cancelled"]
    assert {run.reasons[task] for task in cancelled} <= {"fail_fast"}
    assert not cancelled or run.verdict == "failed"
    for task in cancelled:  # it is told of those alone that could have started
        assert tasks[task].trigger_rule == "all_success"
        assert all(run.ends[other] == "succeeded" for other in tasks[task].upstream)


@given(graphs(), limits, st.booleans(), rngs, st.one_of(st.none(), st.integers(0, 20)))
def test_the_same_stimuli_bring_the_same_actions(
    tasks: list[T], limit: int, keep_going: bool, rng: random.Random, stop_at: int | None
) -> None:
    run = Simulation(tasks, limit, keep_going, rng, stop_at).run()

    again = new_scheduler(tasks, limit, keep_going=keep_going)

    assert [action for stimulus in run.stimuli for action in again.handle(stimulus)] == run.actions


@settings(max_examples=75)
@given(graphs(), rngs)
def test_with_one_slot_tasks_start_in_the_order_of_the_script(tasks: list[T], rng: random.Random) -> None:
    run = Simulation(tasks, 1, keep_going=True, rng=rng).run()

    order = topological_order([task.upstream for task in tasks])
    assert run.starts == [task for task in order if task in run.attempts]


@settings(max_examples=75)
@given(graphs(), st.integers(2, 5), st.booleans(), rngs)
def test_with_more_slots_the_ready_task_that_is_first_in_the_order_starts_first(
    tasks: list[T], limit: int, keep_going: bool, rng: random.Random
) -> None:
    run = Simulation(tasks, limit, keep_going, rng).run()

    for started, left in run.choices:
        assert started == sorted(started)
        assert not (started and left) or max(started) < min(left)


@settings(max_examples=75)
@given(graphs(), st.integers(2, 5), st.booleans(), rngs)
def test_with_more_slots_the_ready_task_with_the_longest_path_before_it_starts_first(
    tasks: list[T], limit: int, keep_going: bool, rng: random.Random
) -> None:
    weights = [rng.randrange(4) for _ in tasks]
    order = longest_path_first([task.upstream for task in tasks], weights)
    run = Simulation(tasks, limit, keep_going, rng, order=order).run()

    place_of = {task: place for place, task in enumerate(order)}
    for started, left in run.choices:
        places = [place_of[task] for task in started]
        assert places == sorted(places)
        assert not (started and left) or places[-1] < min(place_of[task] for task in left)


@settings(max_examples=75)
@given(graphs(max_size=15), st.integers(1, 5), st.data())
def test_the_whole_takes_no_longer_than_the_bound_of_list_scheduling(tasks: list[T], slots: int, data: st.DataObject) -> None:
    """Makespan ≤ work/m + (1 - 1/m)·critical path. R. L. Graham, SIAM J. Appl. Math. 17 (1969)."""
    tasks = [T(task.upstream) for task in tasks]
    duration = [data.draw(st.integers(1, 20)) for _ in tasks]
    scheduler = new_scheduler(tasks, slots)
    in_flight: list[tuple[int, int]] = []
    now = 0
    actions = scheduler.handle(Begin())
    while not any(isinstance(action, End) for action in actions):
        for action in actions:
            if isinstance(action, Start):
                heapq.heappush(in_flight, (now + duration[action.task], action.task))
        now, task = heapq.heappop(in_flight)
        actions = scheduler.handle(AttemptEnded(task, OK))

    path: dict[int, int] = {}
    for task in topological_order([task.upstream for task in tasks]):
        path[task] = duration[task] + max((path[other] for other in tasks[task].upstream), default=0)
    critical = max(path.values())
    assert critical <= now
    assert now * slots <= sum(duration) + (slots - 1) * critical


# --- facts


def test_no_more_than_the_limit_starts_and_the_first_in_the_file_does() -> None:
    scheduler = new_scheduler([T(), T(), T()], limit=2)

    assert scheduler.handle(Begin()) == [Start(0, 1), Start(1, 1)]
    assert scheduler.handle(AttemptEnded(1, OK)) == [Finish(1, 1, "succeeded", OK), Start(2, 1)]


def test_a_run_without_tasks_ends_as_soon_as_it_begins() -> None:
    assert new_scheduler([]).handle(Begin()) == [End("succeeded")]


def test_the_end_is_the_last_action() -> None:
    scheduler = new_scheduler([T(), T(upstream=(0,))])
    scheduler.handle(Begin())

    actions = scheduler.handle(AttemptEnded(0, BAD))

    assert actions == [Finish(0, 1, "failed", BAD), Skip(1, "upstream_failed"), End("failed")]


@pytest.mark.parametrize("limit", [1, 2])
def test_a_retry_that_waits_holds_its_slot_only_if_that_is_the_only_one(limit: int) -> None:
    tasks = [T(retry_delays_s=(5.0,)), T(), T()]
    scheduler = new_scheduler(tasks, limit)
    scheduler.handle(Begin())

    actions = scheduler.handle(AttemptEnded(0, BAD))

    assert actions == [Wait(0, 1, 5.0, BAD)] + ([] if limit == 1 else [Start(2, 1)])


def test_a_retry_that_is_due_starts_at_once_in_the_slot_it_held() -> None:
    scheduler = new_scheduler([T(retry_delays_s=(5.0,)), T()])
    scheduler.handle(Begin())
    scheduler.handle(AttemptEnded(0, BAD))

    assert scheduler.handle(RetryDue(0)) == [Start(0, 2)]


def test_a_retry_that_is_due_queues_by_its_place_in_the_file() -> None:
    tasks = [T(), T(retry_delays_s=(5.0,)), T(), T()]
    scheduler = new_scheduler(tasks, limit=2)
    scheduler.handle(Begin())
    scheduler.handle(AttemptEnded(1, BAD))

    assert scheduler.handle(RetryDue(1)) == []
    assert scheduler.handle(AttemptEnded(0, OK)) == [Finish(0, 1, "succeeded", OK), Start(1, 2)]


def test_a_task_fails_when_its_retries_are_used_up() -> None:
    scheduler = new_scheduler([T(retry_delays_s=(0.0,))])
    scheduler.handle(Begin())
    scheduler.handle(AttemptEnded(0, BAD))
    scheduler.handle(RetryDue(0))

    assert scheduler.handle(AttemptEnded(0, BAD)) == [Finish(0, 2, "failed", BAD), End("failed")]


@pytest.mark.parametrize("outcome", [Outcome(127, "spawn"), Outcome(1, "lost"), Outcome(3)])
def test_what_another_attempt_would_not_mend_is_not_tried_again(outcome: Outcome) -> None:
    scheduler = new_scheduler([T(retry_delays_s=(0.0,), retry_on=(75,) if outcome.reason == "exit" else ())])
    scheduler.handle(Begin())

    assert scheduler.handle(AttemptEnded(0, outcome)) == [Finish(0, 1, "failed", outcome), End("failed")]


@pytest.mark.parametrize("outcome", [Outcome(124, "timeout"), Outcome(137, "signal", "SIGKILL"), Outcome(255)])
def test_a_timeout_and_a_death_by_signal_are_tried_again(outcome: Outcome) -> None:
    scheduler = new_scheduler([T(retry_delays_s=(0.5,))])
    scheduler.handle(Begin())

    assert scheduler.handle(AttemptEnded(0, outcome)) == [Wait(0, 1, 0.5, outcome)]


def test_fail_fast_lets_what_runs_finish_and_cancels_what_could_have_started() -> None:
    scheduler = new_scheduler([T(), T(), T(), T(trigger_rule="all_done")], limit=2)
    scheduler.handle(Begin())

    assert scheduler.handle(AttemptEnded(0, BAD)) == [
        Finish(0, 1, "failed", BAD),
        Cancel(2, "fail_fast"),
        Start(3, 1),
    ]
    assert scheduler.handle(AttemptEnded(1, OK)) == [Finish(1, 1, "succeeded", OK)]
    assert scheduler.handle(AttemptEnded(3, OK)) == [Finish(3, 1, "succeeded", OK), End("failed")]


def test_fail_fast_lets_a_task_that_has_begun_use_up_its_retries() -> None:
    scheduler = new_scheduler([T(), T(retry_delays_s=(1.0,))], limit=2)
    scheduler.handle(Begin())
    scheduler.handle(AttemptEnded(1, BAD))
    scheduler.handle(AttemptEnded(0, BAD))

    assert scheduler.handle(RetryDue(1)) == [Start(1, 2)]


def test_fail_fast_keeps_a_retry_that_waits_for_a_slot() -> None:
    scheduler = new_scheduler([T(), T(retry_delays_s=(1.0,)), T()], limit=2)
    scheduler.handle(Begin())
    scheduler.handle(AttemptEnded(1, BAD))
    scheduler.handle(RetryDue(1))

    assert scheduler.handle(AttemptEnded(0, BAD)) == [Finish(0, 1, "failed", BAD), Start(1, 2)]


def test_fail_fast_runs_what_a_failure_is_the_cue_for() -> None:
    tasks = [T(), T((0,)), T((1,), "one_failed"), T((0,), "one_failed")]
    scheduler = new_scheduler(tasks)
    scheduler.handle(Begin())

    assert scheduler.handle(AttemptEnded(0, BAD)) == [
        Finish(0, 1, "failed", BAD),
        Skip(1, "upstream_failed"),
        Start(2, 1),
    ]


def test_what_depends_on_a_task_cancelled_by_fail_fast_is_skipped_as_if_that_had_failed() -> None:
    tasks = [T(), T(), T((1,)), T((1,), "one_failed")]
    scheduler = new_scheduler(tasks)
    scheduler.handle(Begin())

    actions = scheduler.handle(AttemptEnded(0, BAD))

    assert actions == [
        Finish(0, 1, "failed", BAD),
        Cancel(1, "fail_fast"),
        Skip(2, "upstream_failed"),
        Skip(3, "no_failure"),
        End("failed"),
    ]


def test_a_task_skipped_for_want_of_a_failure_takes_along_those_that_need_its_success() -> None:
    scheduler = new_scheduler([T(), T((0,), "one_failed"), T((1,)), T((2,))])
    scheduler.handle(Begin())

    assert scheduler.handle(AttemptEnded(0, OK)) == [
        Finish(0, 1, "succeeded", OK),
        Skip(1, "no_failure"),
        Skip(2, "upstream_skipped"),
        Skip(3, "upstream_skipped"),
        End("succeeded"),
    ]


def test_after_a_stop_nothing_starts_whatever_its_rule() -> None:
    scheduler = new_scheduler([T(), T(trigger_rule="all_done"), T((0,), "all_done")])
    scheduler.handle(Begin())

    assert scheduler.handle(Stop()) == [Cancel(1, "stopped"), Cancel(2, "stopped")]
    assert scheduler.handle(AttemptEnded(0, STOPPED)) == [Finish(0, 1, "cancelled", STOPPED), End("cancelled")]


def test_a_task_that_succeeds_or_fails_of_itself_while_the_run_is_stopped_is_recorded_so() -> None:
    scheduler = new_scheduler([T(), T()], limit=2)
    scheduler.handle(Begin())
    scheduler.handle(Stop())

    assert scheduler.handle(AttemptEnded(0, OK)) == [Finish(0, 1, "succeeded", OK)]
    assert scheduler.handle(AttemptEnded(1, BAD)) == [Finish(1, 1, "failed", BAD), End("failed")]


def test_a_task_stopped_between_two_attempts_ends_as_cancelled_with_what_its_last_attempt_came_to() -> None:
    scheduler = new_scheduler([T(retry_delays_s=(5.0,))])
    scheduler.handle(Begin())
    scheduler.handle(AttemptEnded(0, BAD))

    assert scheduler.handle(Stop()) == [Finish(0, 1, "cancelled", BAD), End("cancelled")]
    assert scheduler.handle(RetryDue(0)) == []


def test_a_failed_attempt_that_would_be_tried_again_is_cancelled_by_a_stop() -> None:
    scheduler = new_scheduler([T(retry_delays_s=(5.0,))])
    scheduler.handle(Begin())
    scheduler.handle(Stop())

    assert scheduler.handle(AttemptEnded(0, BAD)) == [Finish(0, 1, "cancelled", BAD), End("cancelled")]


def test_an_attempt_that_was_not_started_counts_as_none() -> None:
    scheduler = new_scheduler([T(), T(retry_delays_s=(0.0,))], limit=2)
    scheduler.handle(Begin())
    scheduler.handle(AttemptEnded(1, BAD))
    scheduler.handle(RetryDue(1))
    scheduler.handle(Stop())

    assert scheduler.handle(NotStarted(0)) == [Cancel(0, "stopped")]
    assert scheduler.handle(NotStarted(1)) == [Finish(1, 1, "cancelled", BAD), End("cancelled")]


def test_a_stop_that_finds_nothing_left_to_stop_leaves_the_verdict_to_the_tasks() -> None:
    scheduler = new_scheduler([T(), T(), T()], limit=2)
    scheduler.handle(Begin())
    scheduler.handle(AttemptEnded(0, BAD))  # fail-fast cancels the third
    scheduler.handle(Stop())

    assert scheduler.handle(AttemptEnded(1, OK))[-1] == End("failed")


def test_a_run_that_is_stopped_before_it_begins_is_cancelled() -> None:
    scheduler = new_scheduler([T(), T((0,))])

    assert scheduler.handle(Stop()) == [Cancel(0, "stopped"), Cancel(1, "stopped"), End("cancelled")]
    assert scheduler.handle(Stop()) == []


@pytest.mark.parametrize(
    "stimuli",
    [
        [AttemptEnded(0, OK)],
        [RetryDue(0)],
        [Begin(), Begin()],
        [Begin(), RetryDue(0)],
        [Begin(), AttemptEnded(1, OK)],
        [Begin(), AttemptEnded(1, STOPPED)],
        [Begin(), NotStarted(1)],
        [Begin(), AttemptEnded(2, BAD)],
        [Begin(), AttemptEnded(0, OK), AttemptEnded(0, OK)],
        [Begin(), AttemptEnded(0, OK), RetryDue(0)],
        [Begin(), AttemptEnded(0, BAD), AttemptEnded(0, BAD)],
        [Begin(), AttemptEnded(0, BAD), AttemptEnded(0, STOPPED)],
        [Begin(), AttemptEnded(0, BAD), RetryDue(0), RetryDue(0)],
        [Begin(), Stop(), AttemptEnded(1, STOPPED)],
        [Stop(), AttemptEnded(0, OK)],
    ],
    ids=str,
)
def test_a_stimulus_that_makes_no_sense_is_refused(stimuli: list[Stimulus]) -> None:
    scheduler = new_scheduler([T(retry_delays_s=(1.0,)), T(), T((0,))])
    for stimulus in stimuli[:-1]:
        scheduler.handle(stimulus)

    with pytest.raises(InternalError):
        scheduler.handle(stimuli[-1])


def test_what_is_refused_names_the_task_and_its_state() -> None:
    scheduler = new_scheduler([T(), T()])
    scheduler.handle(Begin())

    with pytest.raises(InternalError, match="task 1: its attempt ended, but it is ready after 0 attempts"):
        scheduler.handle(AttemptEnded(1, OK))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("_slots_taken", 0), ("_slots_taken", 2), ("_not_ended", 3), ("_waiting", {0}), ("_open_upstream", [0, 0, 0])],
)
def test_a_broken_invariant_is_noticed(attribute: str, value: Any) -> None:
    scheduler = new_scheduler([T(), T((0,))])
    scheduler.handle(Begin())
    setattr(scheduler, attribute, value)

    with pytest.raises(InternalError):
        scheduler.check()


@pytest.mark.parametrize("limit", [1, 64])
def test_a_chain_and_a_fan_of_many_tasks_need_no_recursion(limit: int) -> None:
    size = 20_000
    chain = [T((index - 1,) if index else ()) for index in range(size)]
    scheduler = new_scheduler([*chain, *(T((0,)) for _ in range(size))], limit)
    scheduler.handle(Begin())

    actions = scheduler.handle(AttemptEnded(0, BAD))

    assert actions[-1] == End("failed")
    assert sum(isinstance(action, Skip) for action in actions) == 2 * size - 1
