"""What the scheduler is told, and what it says: stimuli in, actions out. Tasks are indices into the plan."""

from __future__ import annotations

from typing import Literal, TypeAlias

from miniflow.results import Outcome, Reason
from miniflow.values import dataclass

EndState: TypeAlias = Literal["succeeded", "failed", "cancelled"]
"""How a task that ran ends, and how a run does."""

# --- stimuli


@dataclass(frozen=True, slots=True)
class Begin:
    """The run begins."""


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The attempt that was running has ended."""

    task: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The attempt that was to start never did, as the run is being stopped."""

    task: int


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The delay before the next attempt is over."""

    task: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing may start any more."""

    reason: Literal["stopped", "timeout"] = "stopped"
    """Somebody wants it so, or the run has taken longer than its timeout."""


Stimulus: TypeAlias = Begin | AttemptEnded | NotStarted | RetryDue | Stop


# --- actions


@dataclass(frozen=True, slots=True)
class Start:
    """Start an attempt; an `AttemptEnded` is expected, or a `NotStarted`."""

    task: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Wait:
    """The attempt failed; a `RetryDue` is expected after the delay."""

    task: int
    attempt: int
    delay_s: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Finish:
    """The task ran and has come to its end."""

    task: int
    attempt: int
    state: EndState
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Reuse:
    """The task counts as succeeded without running: what it did before still holds."""

    task: int


@dataclass(frozen=True, slots=True)
class Skip:
    """The task's rule is false."""

    task: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Cancel:
    """The task has not run and will not."""

    task: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class End:
    """Every task has ended. Always the last action."""

    state: EndState


Action: TypeAlias = Start | Wait | Finish | Reuse | Skip | Cancel | End
