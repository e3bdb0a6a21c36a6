"""What the scheduler is told, and what it says: stimuli in, actions out. Tasks are indices into the plan.

A decision makes three of these values. msgspec's are made in C, in a fifth of the time that a frozen dataclass takes.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from miniflow.results import Outcome, Reason

EndState: TypeAlias = Literal["succeeded", "failed", "cancelled"]
"""How a task that ran ends, and how a run does."""

# --- stimuli


class Begin(Struct, frozen=True):
    """The run begins."""


class AttemptEnded(Struct, frozen=True):
    """The attempt that was running has ended."""

    task: int
    outcome: Outcome


class NotStarted(Struct, frozen=True):
    """The attempt that was to start never did, as the run is being stopped."""

    task: int


class RetryDue(Struct, frozen=True):
    """The delay before the next attempt is over."""

    task: int


class Stop(Struct, frozen=True):
    """Nothing may start any more."""

    reason: Literal["stopped", "timeout"] = "stopped"
    """Somebody wants it so, or the run has taken longer than its timeout."""


Stimulus: TypeAlias = Begin | AttemptEnded | NotStarted | RetryDue | Stop


# --- actions


class Start(Struct, frozen=True):
    """Start an attempt; an `AttemptEnded` is expected, or a `NotStarted`."""

    task: int
    attempt: int


class Wait(Struct, frozen=True):
    """The attempt failed; a `RetryDue` is expected after the delay."""

    task: int
    attempt: int
    delay_s: float
    outcome: Outcome


class Finish(Struct, frozen=True):
    """The task ran and has come to its end."""

    task: int
    attempt: int
    state: EndState
    outcome: Outcome


class Reuse(Struct, frozen=True):
    """The task counts as succeeded without running: what it did before still holds."""

    task: int


class Skip(Struct, frozen=True):
    """The task's rule is false."""

    task: int
    reason: Reason


class Cancel(Struct, frozen=True):
    """The task has not run and will not."""

    task: int
    reason: Reason


class End(Struct, frozen=True):
    """Every task has ended. Always the last action."""

    state: EndState


Action: TypeAlias = Start | Wait | Finish | Reuse | Skip | Cancel | End
