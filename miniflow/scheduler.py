"""What to do next: a state machine. A stimulus in, actions out; no clock, no I/O, no async.

    pending ──► ready ──► running ──► succeeded | failed | cancelled
      │           │         ▲  │
      ▼           ▼         │  ▼
    skipped   cancelled    waiting to be tried again

A task whose success is taken over from an earlier run succeeds where it would become ready.

`handle` is the only method that changes the state of a run, and `_set` the only writer of a task's state.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from typing import Literal, Protocol, TypeAlias, assert_never

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
from miniflow.model import TriggerRule
from miniflow.results import OUT_OF_TIME, Outcome, Reason

State: TypeAlias = Literal["pending", "ready", "running", "waiting", "succeeded", "failed", "skipped", "cancelled"]
"""`ready`: its rule is true, and it waits for a slot. `waiting`: between two attempts."""

ENDED: frozenset[State] = frozenset({"succeeded", "failed", "skipped", "cancelled"})

_TRANSITIONS: dict[State, frozenset[State]] = {
    "pending": frozenset({"ready", "succeeded", "skipped", "cancelled"}),
    "ready": frozenset({"running", "cancelled"}),
    "running": frozenset({"waiting", "succeeded", "failed", "cancelled"}),
    "waiting": frozenset({"running", "ready", "cancelled"}),
}


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


# What the upstream of a task has come to, as a set of bits.
_FAILED, _CANCELLED, _SKIPPED = 1, 2, 4


class Scheduler:
    """Decides which attempts run.

    Args:
        tasks: In the file's order; `upstream` holds indices, and no cycles.
        limit: How many attempts may be in flight, at least 1.
        order: The script's order of the tasks. With a limit of 1 it decides what comes next; otherwise the file's order does.
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
        self._states: list[State] = ["pending"] * len(tasks)
        self._attempts = [0] * len(tasks)
        self._open_upstream = [len(task.upstream) for task in tasks]
        self._upstream_ends = [0] * len(tasks)
        self._downstream = downstream_of([task.upstream for task in tasks])
        # Lower goes first. In the script a task stands where its upstream lets it stand, whatever happens to others; so at
        # a limit of 1 that place counts, and elsewhere the place in the file.
        self._rank: Sequence[int] = range(len(tasks))
        if limit == 1:
            rank = [0] * len(tasks)
            for place, task in enumerate(order):
                rank[task] = place
            self._rank = rank
        self._ready: list[tuple[int, int]] = []  # heap of (rank, task); may hold tasks that are cancelled by now
        self._slots_taken = 0
        self._waiting: set[int] = set()
        self._last_outcome: dict[int, Outcome] = {}  # of tasks between two attempts
        self._not_ended = len(tasks)
        self._failures = 0
        self._stop_reason: Literal["stopped", "timeout"] | None = None
        self._has_stopped_any = False
        self._begun = False
        self._ended = False

    def state(self, task: int) -> State:
        """Return the state of a task."""
        return self._states[task]

    def handle(self, stimulus: Stimulus) -> list[Action]:
        """Apply one stimulus; return what is to be done, in order.

        Raises:
            InternalError: The stimulus makes no sense in the state that the run is in.
        """
        actions: list[Action] = []
        match stimulus:
            case Begin():
                self._begin(actions)
            case AttemptEnded(task, outcome):
                self._attempt_ended(task, outcome, actions)
            case NotStarted(task):
                self._not_started(task, actions)
            case RetryDue(task):
                self._retry_due(task, actions)
            case Stop(reason):
                self._stop(reason, actions)
            case _:
                assert_never(stimulus)
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
        states = self._states
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

    def _begin(self, actions: list[Action]) -> None:
        if self._begun:
            raise InternalError("the run has begun already")
        self._begun = True
        self._judge([task for task, count in enumerate(self._open_upstream) if count == 0], actions)

    def _attempt_ended(self, task: int, outcome: Outcome, actions: list[Action]) -> None:
        self._expect(task, "running", "its attempt ended")
        attempt = self._attempts[task]
        if outcome.stopped or (self._stop_reason and outcome.exit_status and self._may_retry(task, outcome)):
            self._slots_taken -= 1
            self._has_stopped_any = True
            self._finish(task, "cancelled", self._as_stopped(outcome), actions)
        elif outcome.exit_status == 0:
            self._slots_taken -= 1
            self._finish(task, "succeeded", outcome, actions)
        elif self._may_retry(task, outcome):
            if self._limit > 1:  # with one slot a retry waits in it, as in the script
                self._slots_taken -= 1
            self._set(task, "waiting")
            self._waiting.add(task)
            self._last_outcome[task] = outcome
            actions.append(Wait(task, attempt, self._tasks[task].retry_delays_s[attempt - 1], outcome))
        else:
            self._slots_taken -= 1
            self._failures += 1
            if self._failures == 1 and not self._keep_going:
                self._cancel_ready(actions, task, outcome)
            else:
                self._finish(task, "failed", outcome, actions)

    def _not_started(self, task: int, actions: list[Action]) -> None:
        self._expect(task, "running", "its attempt was not started")
        self._slots_taken -= 1
        self._attempts[task] -= 1
        self._cancel(task, self._stop_reason or "stopped", actions)

    def _retry_due(self, task: int, actions: list[Action]) -> None:
        if self._stop_reason and self._states[task] == "cancelled":
            return  # the run was stopped meanwhile
        self._expect(task, "waiting", "its retry is due")
        self._waiting.remove(task)
        if self._limit == 1:
            self._set(task, "running")
            self._attempts[task] += 1
            actions.append(Start(task, self._attempts[task]))
        else:
            self._set(task, "ready")
            heapq.heappush(self._ready, (self._rank[task], task))

    def _stop(self, reason: Literal["stopped", "timeout"], actions: list[Action]) -> None:
        if self._stop_reason:
            return
        self._stop_reason = reason
        if self._limit == 1:
            self._slots_taken -= len(self._waiting)
        self._waiting.clear()
        for task, state in enumerate(self._states):
            if state in ("pending", "ready", "waiting"):
                self._cancel(task, reason, actions)

    # --- what they are made of --------------------------------------------------------------------------------

    def _expect(self, task: int, state: State, what: str) -> None:
        if self._states[task] != state:
            attempts = self._attempts[task]
            raise InternalError(f"task {task}: {what}, but it is {self._states[task]} after {attempts} attempts")

    def _may_retry(self, task: int, outcome: Outcome) -> bool:
        policy = self._tasks[task]
        return (
            self._attempts[task] <= len(policy.retry_delays_s)
            and outcome.reason not in ("spawn", "lost")
            and (not policy.retry_on or outcome.exit_status in policy.retry_on)
        )

    def _finish(self, task: int, state: EndState, outcome: Outcome, actions: list[Action]) -> None:
        actions.append(Finish(task, self._attempts[task], state, outcome))
        ends = {"succeeded": 0, "failed": _FAILED, "cancelled": _CANCELLED}[state]
        self._judge(self._end_task(task, state, ends), actions)

    def _cancel(self, task: int, reason: Reason, actions: list[Action]) -> None:
        """End a task that is not running; if it has been running before, by what its last attempt came to."""
        if reason != "fail_fast":
            self._has_stopped_any = True
        if self._attempts[task]:
            outcome = self._as_stopped(self._last_outcome[task])
            actions.append(Finish(task, self._attempts[task], "cancelled", outcome))
        else:
            actions.append(Cancel(task, reason))
        self._judge(self._end_task(task, "cancelled", _CANCELLED), actions)

    def _as_stopped(self, outcome: Outcome) -> Outcome:
        """Return how a task that was stopped ended: in its own way, unless it was out of the run's time."""
        if self._stop_reason != "timeout" or outcome.reason == "lost":
            return outcome
        return Outcome(124, "timeout", error=OUT_OF_TIME, stopped=True)

    def _cancel_ready(self, actions: list[Action], failed: int, outcome: Outcome) -> None:
        """The first failure under fail-fast: what could have started no longer may."""
        kept = []
        cancelled = []
        for rank, task in sorted(self._ready):
            if self._states[task] != "ready":
                continue
            if self._may_start(task):
                kept.append((rank, task))
            else:
                cancelled.append(task)
        self._ready = kept  # sorted, hence a heap
        self._finish(failed, "failed", outcome, actions)
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
        worklist = tasks
        while worklist:
            found: list[int] = []
            for task in worklist:
                reason = self._reason_to_skip(task)
                if reason is not None:
                    actions.append(Skip(task, reason))
                    found += self._end_task(task, "skipped", _FAILED if reason == "upstream_failed" else _SKIPPED)
                elif task in self._reusable:
                    actions.append(Reuse(task))
                    found += self._end_task(task, "succeeded", 0)
                elif self._may_start(task):
                    self._set(task, "ready")
                    heapq.heappush(self._ready, (self._rank[task], task))
                else:
                    actions.append(Cancel(task, "fail_fast"))
                    found += self._end_task(task, "cancelled", _CANCELLED)
            worklist = found

    def _reason_to_skip(self, task: int) -> Reason | None:
        ends = self._upstream_ends[task]
        match self._tasks[task].trigger_rule:
            case "all_success":
                if ends & (_FAILED | _CANCELLED):
                    return "upstream_failed"
                return "upstream_skipped" if ends & _SKIPPED else None
            case "one_failed":
                return None if ends & _FAILED else "no_failure"
            case "all_done":
                return None

    def _fill_slots(self, actions: list[Action]) -> None:
        while self._ready and self._slots_taken < self._limit:
            _, task = heapq.heappop(self._ready)
            if self._states[task] != "ready":
                continue
            self._set(task, "running")
            self._slots_taken += 1
            self._attempts[task] += 1
            actions.append(Start(task, self._attempts[task]))

    def _verdict(self) -> EndState:
        # A run that was told to stop, but had nothing left to stop, has ended as its tasks did.
        if self._has_stopped_any:
            return "cancelled"
        return "failed" if self._failures else "succeeded"

    def _end_task(self, task: int, state: State, ends: int) -> list[int]:
        """Set a task's last state; return the tasks whose upstream has all ended by it."""
        self._set(task, state)
        self._not_ended -= 1
        judged = []
        for other in self._downstream[task]:
            self._upstream_ends[other] |= ends
            self._open_upstream[other] -= 1
            if self._open_upstream[other] == 0 and self._states[other] == "pending":
                judged.append(other)
        return judged

    def _set(self, task: int, state: State) -> None:
        before = self._states[task]
        if state not in _TRANSITIONS.get(before, ()):
            raise InternalError(f"task {task} cannot become {state}: it is {before}")
        self._states[task] = state
