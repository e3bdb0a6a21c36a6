"""Runs attempts as processes of this machine, each the leader of a session of its own.

No coroutine a stream: both pipes and the process are watched together, see `watch`. The process is awaited by a pidfd and
reaped by `waitid`: `Popen.wait` and `Popen.poll` say 0 when somebody else has reaped the child, which would turn a failure into
a success.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from miniflow.executors import Attempt, Observer
from miniflow.executors.process import POLL_S, Process
from miniflow.executors.start import Room, Started, is_scarcity, not_started, start
from miniflow.executors.strays import Search, Strays
from miniflow.executors.watch import Watches, new_watches
from miniflow.lifeline import Lifeline
from miniflow.results import Outcome

PATIENCE = 12
"""How often to try to start a process while nothing else runs: the ends of those that ran are still being recorded. Not
for how long: on a busy machine that takes its time."""


class LocalExecutor:
    """Runs each attempt as a subprocess."""

    def __init__(self, lifeline: Lifeline | None = None) -> None:
        self._processes: set[Process] = set()
        self._lifeline = lifeline or Lifeline()
        self._room = Room()
        self._search = Search()
        self._watches: Watches | None = None

    def before_waiting(self, call: Callable[[], None]) -> bool:
        """See `Executor.before_waiting`."""
        return self._watches is not None and self._watches.before_waiting(call)

    def kill(self) -> None:
        """See `Executor.kill`."""
        for process in self._processes:
            process.kill()

    def close(self) -> None:
        """See `Executor.close`."""
        if self._watches is not None:
            self._watches.close()
            self._watches = None

    async def run(self, attempt: Attempt, observer: Observer) -> None:
        """See `Executor.run`."""
        watches = self._watches = self._watches or new_watches()
        guarded = self._lifeline.begin(attempt.marks)
        try:
            started = self._start_now(attempt, watches) or await self._start_in_turn(attempt, observer, watches)
        except anyio.get_cancelled_exc_class():  # anything else may have come in the midst of it
            self._lifeline.ended(guarded)
            raise
        if isinstance(started, Outcome):
            self._lifeline.ended(guarded)
            observer.ended(started)
            return
        # From the start to the `try` nothing is awaited: a process is never without somebody who ends it.
        process = Process(started, observer, Strays(self._search, guarded))
        self._processes.add(process)
        try:
            try:
                self._lifeline.started(guarded, started.pid, started.start_time)
                observer.started(started.pid, started.start_time)
                if attempt.timeout_s is None:
                    await process.wait_exit()
                elif await _is_out_of_time(process, attempt.timeout_s):
                    process.ended_by = "timeout"
                    self._lifeline.stopping(guarded)
                    await process.stop(attempt.grace_s)
            except BaseException:  # cancelled, or the record cannot be written: the process must not outlive us
                if not process.is_gone():
                    process.ended_by = process.ended_by or "stop"
                    self._lifeline.stopping(guarded)
                    await process.stop(attempt.grace_s)
                raise
            finally:
                await process.finish()
        finally:
            self._processes.remove(process)
            outcome = process.close()
            self._lifeline.ended(guarded)
            self._room.tell_next()
            observer.ended(outcome)
        if process.observer_error is not None:
            raise process.observer_error

    def _start_now(self, attempt: Attempt, watches: Watches) -> Started | Outcome | None:
        """Start the process, or say why it cannot be started; None: it has to wait for others."""
        if self._room.is_awaited:
            return None
        try:
            return start(attempt, len(self._processes), watches)
        except OSError as error:
            return None if is_scarcity(error) else not_started(error)

    async def _start_in_turn(self, attempt: Attempt, observer: Observer, watches: Watches) -> Started | Outcome:
        if self._room.is_awaited:
            observer.delayed()
            await self._room.wait(is_first=False)
        try:
            return await self._try_to_start(attempt, observer, watches)
        finally:
            self._room.tell_next()

    async def _try_to_start(self, attempt: Attempt, observer: Observer, watches: Watches) -> Started | Outcome:
        """Start the process. If the system has no more to give, wait for another attempt to end, as long as others run."""
        tries = 0
        while True:
            try:
                return start(attempt, len(self._processes), watches)
            except OSError as error:
                tries += 1
                if not is_scarcity(error) or (not self._processes and tries > PATIENCE):
                    return not_started(error)
            observer.delayed()
            if self._processes:
                await self._room.wait(is_first=True)
                tries = 0
            else:
                await self._room.hold(POLL_S)


async def _is_out_of_time(process: Process, timeout_s: float) -> bool:
    """Wait for the end of a process, or of its time."""
    with anyio.move_on_after(timeout_s) as scope:
        await process.wait_exit()
    return scope.cancelled_caught and not process.is_gone()
