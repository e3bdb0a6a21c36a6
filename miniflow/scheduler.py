"""What to do next: a state machine. A stimulus in, actions out; no clock, no I/O, no async.

    pending ──► ready ──► running ──► succeeded | failed | cancelled
      │           │         ▲  │
      ▼           ▼         │  ▼
    skipped   cancelled    waiting to be tried again

A task whose success is taken over from an earlier run succeeds where it would become ready.

Of the tasks that are ready, the one that stands first in the order that the scheduler was given starts first: what that order
is good for, sameness with the script or an early end, is for others to know.

`handle` is the only method that changes the state of a run, and `_set` the only writer of a task's state.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Sequence
from heapq import heappop, heappush
from typing import Any, Literal, Protocol, TypeAlias

from miniflow.actions import (
    Action,
    AttemptEnded,
    Begin,
    Cancel,
    End,
    EndState,
    Finish,
    NotStarted,
    RetryDue,
    Reuse,
    Skip,
    Start,
    Stimulus,
    Stop,
    Wait,
)
from miniflow.errors import InternalError
from miniflow.graph import downstream_of
from miniflow.model import TRIGGER_RULES, TriggerRule
from miniflow.results import OUT_OF_TIME, Outcome, Reason

State: TypeAlias = Literal["pending", "ready", "running", "waiting", "succeeded", "failed", "skipped", "cancelled"]
"""`ready`: its rule is true, and it waits for a slot. `waiting`: between two attempts."""

ENDED: frozenset[State] = frozenset({"succeeded", "failed", "skipped", "cancelled"})

_TRANSITIONS: dict[State, tuple[State, ...]] = {
    "pending": ("ready", "succeeded", "skipped", "cancelled"),
    "ready": ("running", "cancelled"),
    "running": ("waiting", "succeeded", "failed", "cancelled"),
    "waiting": ("running", "ready", "cancelled"),
}

# States are kept as numbers, a byte each, and what may follow one as a set of bits.
_STATES: tuple[State, ...] = ("pending", "ready", "running", "waiting", "succeeded", "failed", "skipped", "cancelled")
_PENDING, _READY, _RUNNING, _WAITING, _SUCCEEDED, _FAILED, _SKIPPED, _CANCELLED = range(len(_STATES))
_MAY_FOLLOW = [sum(1 << _STATES.index(after) for after in _TRANSITIONS.get(state, ())) for state in _STATES]


class Schedulable(Protocol):
    """What the scheduler needs to know of a task (`plan.PlannedTask` is one)."""

    @property
    def upstream(self) -> Sequence[int]: ...
    @property
    def trigger_rule(self) -> TriggerRule: ...
    @property
    def retry_delays_s(self) -> Sequence[float]: ...
    @property
    def retry_on(self) -> Sequence[int]: ...


# What the upstream of a task has come to, as a set of bits; none of them says that all of it has succeeded.
_ANY_FAILED, _ANY_CANCELLED, _ANY_SKIPPED = 1, 2, 4

_RAN: dict[int, tuple[EndState, int]] = {
    _SUCCEEDED: ("succeeded", 0),
    _FAILED: ("failed", _ANY_FAILED),
    _CANCELLED: ("cancelled", _ANY_CANCELLED),
}
"""How a task that ran has ended: in a word, and what that is to those downstream."""


def _reason_to_skip(rule: TriggerRule, ends: int) -> Reason | None:
    if rule == "one_failed":
        return None if ends & _ANY_FAILED else "no_failure"
    if not ends or rule == "all_done":
        return None
    return "upstream_failed" if ends & (_ANY_FAILED | _ANY_CANCELLED) else "upstream_skipped"


_REASONS_TO_SKIP = {rule: [_reason_to_skip(rule, ends) for ends in range(8)] for rule in TRIGGER_RULES}


class Scheduler:
    """Decides which attempts run.

    Args:
        tasks: In the file's order; `upstream` holds indices, and no cycles.
        limit: How many attempts may be in flight, at least 1.
        order: All tasks, the first to start first.
        keep_going: Whether tasks start after another has failed.
        reusable: Tasks that count as succeeded without running, if their rule is true.
    """

    def __init__(
        self,
        tasks: Sequence[Schedulable],
        *,
        limit: int,
        order: Sequence[int],
        keep_going: bool = False,
        reusable: Collection[int] = (),
    ) -> None:
        self._tasks = tasks
        self._limit = limit
        self._keep_going = keep_going
        self._reusable = frozenset(reusable)
        self._states = bytearray(len(tasks))  # all pending
        self._attempts = [0] * len(tasks)
        self._open_upstream = [len(task.upstream) for task in tasks]
        self._upstream_ends = bytearray(len(tasks))
        self._downstream = downstream_of([task.upstream for task in tasks])
        # Arrays, as lists of so many numbers take ten times as much.
        self._order = array("I", order)
        self._place_of = array("I", bytes(self._order.itemsize * len(tasks)))
        for place, task in enumerate(order):
            self._place_of[task] = place
        self._ready: list[int] = []  # heap of places; may hold those of tasks that are cancelled by now
        self._slots_taken = 0
        self._waiting: set[int] = set()
        self._last_outcome: dict[int, Outcome] = {}  # of tasks between two attempts
        self._not_ended = len(tasks)
        self._failures = 0
        self._stop_reason: Literal["stopped", "timeout"] | None = None
        self._has_stopped_any = False
        self._begun = False
        self._ended = False
        self._handlers: dict[type[Stimulus], Callable[[Any, list[Action]], None]] = {
            Begin: self._begin,
            AttemptEnded: self._attempt_ended,
            NotStarted: self._not_started,
            RetryDue: self._retry_due,
            Stop: self._stop,
        }

    def state(self, task: int) -> State:
        """Return the state of a task."""
        return _STATES[self._states[task]]

    def handle(self, stimulus: Stimulus) -> list[Action]:
        """Apply one stimulus; return what is to be done, in order.

        Raises:
            InternalError: The stimulus makes no sense in the state that the run is in.
        """
        actions: list[Action] = []
        self._handlers[type(stimulus)](stimulus, actions)
        if self._ready:
            self._fill_slots(actions)
        if self._not_ended == 0 and not self._ended:
            self._ended = True
            actions.append(End(self._verdict()))
        return actions

    def check(self) -> None:
        """Verify what must hold between any two stimuli.

        Raises:
            InternalError: It does not.
        """
        states = [_STATES[state] for state in self._states]
        running = states.count("running")
        held = len(self._waiting) if self._limit == 1 else 0
        if not (running + held == self._slots_taken <= self._limit):
            raise InternalError(f"{running} running, {self._slots_taken} slots taken, limit {self._limit}")
        if self._not_ended != sum(state not in ENDED for state in states):
            raise InternalError("the count of tasks that have not ended is wrong")
        if self._waiting != {task for task, state in enumerate(states) if state == "waiting"}:
            raise InternalError("tasks wait that should not, or the other way round")
        if self._begun and "ready" in states and self._slots_taken < self._limit:
            raise InternalError("a slot is free while a task is ready")
        if self._begun and self._not_ended and not (running or self._waiting):
            raise InternalError("nothing runs, and not all tasks have ended")
        for task, state in enumerate(states):
            open_upstream = sum(states[other] not in ENDED for other in self._tasks[task].upstream)
            if open_upstream != self._open_upstream[task]:
                raise InternalError(f"task {task} waits for {self._open_upstream[task]} tasks, not {open_upstream}")
            if open_upstream and state not in ("pending", "cancelled"):
                raise InternalError(f"task {task} is {state} before its upstream has ended")

    # --- stimuli ----------------------------------------------------------------------------------------------

    def _begin(self, _: Begin, actions: list[Action]) -> None:
        if self._begun:
            raise InternalError("the run has begun already")
        self._begun = True
        self._judge([task for task, count in enumerate(self._open_upstream) if count == 0], actions)

    def _attempt_ended(self, stimulus: AttemptEnded, actions: list[Action]) -> None:
        task, outcome = stimulus.task, stimulus.outcome
        if self._states[task] != _RUNNING:
            raise self._unexpected(task, "its attempt ended")
        if outcome.exit_status == 0 and not outcome.stopped:
            self._slots_taken -= 1
            self._finish(task, _SUCCEEDED, outcome, actions)
        elif outcome.stopped or (self._stop_reason and self._may_retry(task, outcome)):
            self._slots_taken -= 1
            self._has_stopped_any = True
            self._finish(task, _CANCELLED, self._as_stopped(outcome), actions)
        elif self._may_retry(task, outcome):
            if self._limit > 1:  # with one slot a retry waits in it, as in the script
                self._slots_taken -= 1
            self._set(task, _WAITING)
            self._waiting.add(task)
            self._last_outcome[task] = outcome
            attempt = self._attempts[task]
            actions.append(Wait(task, attempt, self._tasks[task].retry_delays_s[attempt - 1], outcome))
        else:
            self._slots_taken -= 1
            self._failures += 1
            if self._failures == 1 and not self._keep_going:
                self._cancel_ready(actions, task, outcome)
            else:
                self._finish(task, _FAILED, outcome, actions)

    def _not_started(self, stimulus: NotStarted, actions: list[Action]) -> None:
        task = stimulus.task
        if self._states[task] != _RUNNING:
            raise self._unexpected(task, "its attempt was not started")
        self._slots_taken -= 1
        self._attempts[task] -= 1
        self._cancel(task, self._stop_reason or "stopped", actions)

    def _retry_due(self, stimulus: RetryDue, actions: list[Action]) -> None:
        task = stimulus.task
        if self._stop_reason and self._states[task] == _CANCELLED:
            return  # the run was stopped meanwhile
        if self._states[task] != _WAITING:
            raise self._unexpected(task, "its retry is due")
        self._waiting.remove(task)
        if self._limit == 1:
            self._set(task, _RUNNING)
            self._attempts[task] += 1
            actions.append(Start(task, self._attempts[task]))
        else:
            self._set(task, _READY)
            heappush(self._ready, self._place_of[task])

    def _stop(self, stimulus: Stop, actions: list[Action]) -> None:
        if self._stop_reason:
            return
        self._stop_reason = stimulus.reason
        if self._limit == 1:
            self._slots_taken -= len(self._waiting)
        self._waiting.clear()
        for task, state in enumerate(self._states):
            if state in (_PENDING, _READY, _WAITING):
                self._cancel(task, stimulus.reason, actions)

    # --- what they are made of --------------------------------------------------------------------------------

    def _unexpected(self, task: int, what: str) -> InternalError:
        return InternalError(f"task {task}: {what}, but it is {self.state(task)} after {self._attempts[task]} attempts")

    def _may_retry(self, task: int, outcome: Outcome) -> bool:
        policy = self._tasks[task]
        return (
            self._attempts[task] <= len(policy.retry_delays_s)
            and outcome.reason not in ("spawn", "lost")
            and (not policy.retry_on or outcome.exit_status in policy.retry_on)
        )

    def _finish(self, task: int, state: int, outcome: Outcome, actions: list[Action]) -> None:
        word, ends = _RAN[state]
        actions.append(Finish(task, self._attempts[task], word, outcome))
        judged = self._end_task(task, state, ends)
        if judged:
            self._judge(judged, actions)

    def _cancel(self, task: int, reason: Reason, actions: list[Action]) -> None:
        """End a task that is not running; if it has been running before, by what its last attempt came to."""
        if reason != "fail_fast":
            self._has_stopped_any = True
        if self._attempts[task]:
            outcome = self._as_stopped(self._last_outcome[task])
            actions.append(Finish(task, self._attempts[task], "cancelled", outcome))
        else:
            actions.append(Cancel(task, reason))
        self._judge(self._end_task(task, _CANCELLED, _ANY_CANCELLED), actions)

    def _as_stopped(self, outcome: Outcome) -> Outcome:
        """Return how a task that was stopped ended: in its own way, unless it was out of the run's time."""
        if self._stop_reason != "timeout" or outcome.reason == "lost":
            return outcome
        return Outcome(124, "timeout", error=OUT_OF_TIME, stopped=True)

    def _cancel_ready(self, actions: list[Action], failed: int, outcome: Outcome) -> None:
        """The first failure under fail-fast: what could have started no longer may."""
        kept = []
        cancelled = []
        for place in sorted(self._ready):
            task = self._order[place]
            if self._states[task] != _READY:
                continue
            if self._may_start(task):
                kept.append(place)
            else:
                cancelled.append(task)
        self._ready = kept  # sorted, hence a heap
        self._finish(failed, _FAILED, outcome, actions)
        for task in cancelled:
            self._cancel(task, "fail_fast", actions)

    def _may_start(self, task: int) -> bool:
        """Whether fail-fast lets a task start; one that has started before goes on with its retries."""
        return (
            self._keep_going
            or self._failures == 0
            or self._tasks[task].trigger_rule != "all_success"
            or self._attempts[task] > 0
        )

    def _judge(self, tasks: list[int], actions: list[Action]) -> None:
        """Judge the rules of tasks whose upstream has ended, and of those for which that becomes true by it."""
        if self._stop_reason:
            return  # all that have not started are cancelled already
        for task in tasks:  # which grows meanwhile
            reason = _REASONS_TO_SKIP[self._tasks[task].trigger_rule][self._upstream_ends[task]]
            if reason is not None:
                actions.append(Skip(task, reason))
                ends = _ANY_FAILED if reason == "upstream_failed" else _ANY_SKIPPED
                tasks += self._end_task(task, _SKIPPED, ends)
            elif task in self._reusable:
                actions.append(Reuse(task))
                tasks += self._end_task(task, _SUCCEEDED, 0)
            elif self._failures == 0 or self._may_start(task):
                self._set(task, _READY)
                heappush(self._ready, self._place_of[task])
            else:
                actions.append(Cancel(task, "fail_fast"))
                tasks += self._end_task(task, _CANCELLED, _ANY_CANCELLED)

    def _fill_slots(self, actions: list[Action]) -> None:
        while self._ready and self._slots_taken < self._limit:
            task = self._order[heappop(self._ready)]
            if self._states[task] != _READY:
                continue
            self._set(task, _RUNNING)
            self._slots_taken += 1
            self._attempts[task] = attempt = self._attempts[task] + 1
            actions.append(Start(task, attempt))

    def _verdict(self) -> EndState:
        # A run that was told to stop, but had nothing left to stop, has ended as its tasks did.
        if self._has_stopped_any:
            return "cancelled"
        return "failed" if self._failures else "succeeded"

    def _end_task(self, task: int, state: int, ends: int) -> list[int]:
        """Set a task's last state; return the tasks whose upstream has all ended by it."""
        self._set(task, state)
        self._not_ended -= 1
        downstream = self._downstream[task]
        if ends:
            for other in downstream:
                self._upstream_ends[other] |= ends
        states, open_upstream = self._states, self._open_upstream
        judged = []
        for other in downstream:
            open_upstream[other] = left = open_upstream[other] - 1
            if not left and states[other] == _PENDING:
                judged.append(other)
        return judged

    def _set(self, task: int, state: int) -> None:
        before = self._states[task]
        if not _MAY_FOLLOW[before] >> state & 1:
            raise InternalError(f"task {task} cannot become {_STATES[state]}: it is {_STATES[before]}")
        self._states[task] = state
