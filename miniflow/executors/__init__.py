"""Ways to run an attempt of a task. An executor knows how to run one, and nothing of flows, schedules or logs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from miniflow.events import Stream
from miniflow.results import Outcome
from miniflow.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Attempt:
    """Everything an executor needs."""

    argv: Sequence[str]
    env: Mapping[bytes, bytes] = field(repr=False)
    """The whole environment, as the system is given it."""
    cwd: str
    timeout_s: float | None
    grace_s: float
    """Between asking a process to end and killing it."""
    marks: tuple[bytes, ...] = ()
    """Those entries of `env`, as `NAME=value`, by which whoever belongs to the attempt can be known: nobody else has all."""


def encoded(text: str) -> bytes:
    """Return a text as a program is given it: what the locale has no bytes for as UTF-8, as the bash script has it."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode(errors="surrogateescape")


class Observer(Protocol):
    """What an executor tells while an attempt runs."""

    def started(self, pid: int, start_time: int | None = None) -> None:
        """The process is there; `start_time` is when the system started it, in clock ticks since boot, where that is known."""

    def delayed(self) -> None:
        """Something is going to be awaited before the process can start."""

    def output(self, stream: Stream, data: bytes) -> None:
        """The task has printed."""

    async def wait_for_room(self) -> None:
        """Wait until more output is welcome: back-pressure. The end of an attempt need not wait for it."""

    def ended(self, outcome: Outcome) -> None:
        """The attempt is over, and nothing of it is left."""


class Executor(Protocol):
    """One way to run attempts; used for any number of them at once."""

    async def run(self, attempt: Attempt, observer: Observer) -> None:
        """Run one attempt to its end, and tell `observer.ended` last, exactly once.

        Once it has told `observer.started`, it awaits something before `observer.ended`: others must have their turn.

        It is not called when it is cancelled already: whoever calls it looks for that first.
        When cancelled: stop all that it started, tell `observer.ended`, then let the cancellation go on.
        An attempt that cannot be started is an outcome, not an exception.
        """

    def before_waiting(self, call: Callable[[], None], /) -> bool:
        """Have something called, once, as soon as no attempt has anything to tell: before the event loop waits for that.

        Args:
            call: Raises nothing. Takes the place of what is to be called already.

        Returns:
            Whether it will be called, unless all is closed before. Where it is not known when that is, it never will.
        """

    def kill(self) -> None:
        """End all attempts that are being stopped at once, without the rest of their grace."""

    def close(self) -> None:
        """Let go of what it holds; no attempt runs any more."""
