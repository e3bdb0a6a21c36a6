"""Runs attempts as processes of this machine, each the leader of a session of its own.

One coroutine an attempt, and none a stream: an epoll (or kqueue) object of its own watches both pipes and the process, and
the event loop watches that. The process is awaited by a pidfd and reaped by `waitid`: `Popen.wait` and `Popen.poll` say 0
when somebody else has reaped the child, which would turn a failure into a success.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel

from miniflow.errors import InternalError
from miniflow.events import Stream
from miniflow.executors import Attempt, Observer
from miniflow.executors.start import Room, Started, is_scarcity, not_started, start
from miniflow.executors.strays import Search, Strays
from miniflow.guardian import Guarded, is_group_alive
from miniflow.lifeline import Lifeline
from miniflow.results import Outcome

READ_BYTES = 64 * 1024  # as much as a pipe holds
STRAGGLER_GRACE_S = 1.0
"""How long a task's end waits for processes it has left behind that hold its pipes."""
PIPE_BYTES = 1024 * 1024
"""The most that a pipe holds, even if its task enlarges it; only root may go beyond."""
POLL_S = 0.02
"""How often to look where nothing can be waited for: a group is empty, a reader is behind."""
KILL_WAIT_S = 10.0
"""How long to wait for a process that was killed; one in an uninterruptible system call may stay."""
BROKEN_OFF_WAIT_S = 1.0
"""The same where nothing can be awaited any more, and the event loop stands still."""
PATIENCE_S = 0.25
"""How long to try to start a process while nothing else runs: the ends of those that ran are still being recorded."""


class LocalExecutor:
    """Runs each attempt as a subprocess."""

    def __init__(self, lifeline: Lifeline | None = None) -> None:
        self._processes: set[_Process] = set()
        self._lifeline = lifeline or Lifeline()
        self._room = Room()
        self._search = Search()

    def kill(self) -> None:
        """See `Executor.kill`."""
        for process in self._processes:
            process.kill()

    async def run(self, attempt: Attempt, observer: Observer) -> None:
        """See `Executor.run`."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        number = self._lifeline.begin(attempt.marks)
        try:
            started = await self._start(attempt)
        except anyio.get_cancelled_exc_class():  # anything else may have come in the midst of it
            self._lifeline.ended(number)
            raise
        if isinstance(started, Outcome):
            self._lifeline.ended(number)
            observer.ended(started)
            return
        # From the start to the `try` nothing is awaited: a process is never without somebody who ends it.
        process = _Process(started, observer, Strays(self._search, _guarded(attempt, started)))
        self._processes.add(process)
        try:
            try:
                if started.start_time is not None:
                    self._lifeline.started(number, started.popen.pid, started.start_time)
                observer.started(started.popen.pid, started.start_time)
                with anyio.move_on_after(attempt.timeout_s) as scope:
                    await process.wait_exit()
                if scope.cancelled_caught and not process.is_gone():
                    process.ended_by = "timeout"
                    self._lifeline.stopping(number)
                    await process.stop(attempt.grace_s)
            except BaseException:  # cancelled, or the record cannot be written: the process must not outlive us
                if not process.is_gone():
                    process.ended_by = process.ended_by or "stop"
                    self._lifeline.stopping(number)
                    await process.stop(attempt.grace_s)
                raise
            finally:
                await process.finish()
        finally:
            self._processes.remove(process)
            outcome = process.close()
            self._lifeline.ended(number)
            self._room.tell_next()
            observer.ended(outcome)
        if process.observer_error is not None:
            raise process.observer_error

    async def _start(self, attempt: Attempt) -> Started | Outcome:
        if self._room.is_awaited:
            await self._room.wait(is_first=False)
        try:
            return await self._try_to_start(attempt)
        finally:
            self._room.tell_next()

    async def _try_to_start(self, attempt: Attempt) -> Started | Outcome:
        """Start the process. If the system has no more to give, wait for another attempt to end, as long as others run."""
        give_up_at = None
        while True:
            try:
                return start(attempt, len(self._processes))
            except OSError as error:
                give_up_at = give_up_at or anyio.current_time() + PATIENCE_S
                if not is_scarcity(error) or (not self._processes and anyio.current_time() >= give_up_at):
                    return not_started(error)
            if self._processes:
                await self._room.wait(is_first=True)
                give_up_at = None
            else:
                await anyio.sleep(POLL_S)


def _guarded(attempt: Attempt, started: Started) -> Guarded:
    guarded = Guarded(tuple(map(os.fsencode, attempt.marks)))
    guarded.leader = started.popen.pid
    if started.start_time is not None:
        guarded.led_by(started.popen.pid, started.start_time)
    return guarded


class _Process:
    """A running process, its pipes, and the group it leads."""

    def __init__(self, started: Started, observer: Observer, strays: Strays) -> None:
        self._popen = popen = started.popen
        assert popen.stdout is not None
        assert popen.stderr is not None
        self._selector = started.selector
        self._observer = observer
        self._strays = strays
        self.observer_error: BaseException | None = None
        """What the observer raised when it was told of output; it is told of none after that."""
        self.has_exited = False
        self.ended_by: str | None = None
        """`timeout` or `stop` if the process was asked to end, and why."""
        self._pipes: dict[int, Stream] = {}
        streams: tuple[tuple[Stream, int], ...] = (
            ("stdout", popen.stdout.fileno()),
            ("stderr", popen.stderr.fileno()),
        )
        self._group_deadline: float | None = None
        """Until when what is left of the group is waited for, once it was asked to end."""
        self._has_living_group = True
        """Whether somebody in its group was no zombie, when that was looked at the last time."""
        self._look_at_group_at = 0.0
        self._look_pause_s = POLL_S
        self._outcome: Outcome | None = None
        """How the process ended, once it was reaped."""
        self._exit_fd = started.exit_fd
        self._is_watched = False
        try:
            for stream, descriptor in streams:
                os.set_blocking(descriptor, False)
                self._selector.register(descriptor, selectors.EVENT_READ)
                self._pipes[descriptor] = stream
            if self._exit_fd is not None:
                self._selector.register(self._exit_fd, selectors.EVENT_READ)
                self._is_watched = True
        except OSError:  # no memory. What can't be watched can't be run
            return

    async def wait_exit(self) -> None:
        """Pass output on until the process has ended."""
        if not self._is_watched:
            self.ended_by = "unwatched"
            await self.stop(0)
        while not self.has_exited:
            await anyio.wait_readable(self._selector_fd())
            self._pump()
            if self.observer_error is not None:
                raise self.observer_error
            if not self.has_exited:
                await self._observer.wait_for_room()

    async def stop(self, grace_s: float) -> None:
        """End the process, its group and its strays: SIGTERM, and SIGKILL after the grace period. Never cancelled."""
        self._group_deadline = anyio.current_time() + grace_s
        self._strays.begin()
        with anyio.CancelScope(shield=True):
            self._signal_group(signal.SIGTERM)
            self._signal_group(signal.SIGCONT)  # a stopped process hears SIGTERM once it goes on
            with anyio.move_on_after(grace_s):
                await self._strays.are_left(kill=False)
                await self._pump_until_exit()
            if not self.has_exited:
                self._signal_group(signal.SIGKILL)
                with anyio.move_on_after(KILL_WAIT_S):
                    await self._pump_until_exit()

    def kill(self) -> None:
        """End the process, its group and its strays at once."""
        if not self.is_gone():
            # Whoever awaits it may see its end before the cancellation that this is a part of.
            self.ended_by = self.ended_by or "stop"
        self._group_deadline = float("-inf")
        self._strays.begin()
        self._signal_group(signal.SIGKILL)
        self._strays.kill()

    async def finish(self) -> None:
        """Reap the process, pass on what is left in its pipes, and end what it has left behind. Never cancelled.

        What is left of its group has a second after SIGTERM or, after a stop, the rest of the grace period. Whoever else holds
        a pipe of it has a second too. Of the readers of the output none is waited for for long, so that none of it is lost:
        what the process has printed fits a pipe.
        """
        if not self.is_gone():  # `stop` was broken off, or in vain
            return
        with anyio.CancelScope(shield=True):
            self._read_rest()
            # The process is a zombie, so its id is nobody else's; once it is reaped, what is left of the group keeps it.
            self._signal_group(signal.SIGTERM)
            self._signal_group(signal.SIGCONT)
            self._outcome = self._reap()
            pipes_deadline = anyio.current_time() + STRAGGLER_GRACE_S
            if self._group_deadline is None:
                self._group_deadline = pipes_deadline
            while anyio.current_time() < self._group_deadline:
                if not self._is_group_left() and not await self._strays.are_left(kill=False):
                    break
                await self._pump_for(POLL_S)
            self._signal_group(signal.SIGKILL)
            with anyio.move_on_after(KILL_WAIT_S):
                while self._is_group_left() or await self._strays.are_left(kill=True):
                    await self._pump_for(POLL_S)
            while self._pipes and anyio.current_time() < pipes_deadline:
                await self._pump_for(POLL_S)
            self._strays.end()

    def close(self) -> Outcome:
        """Let go of everything; return how the process ended.

        If an asyncio loop that shuts down has broken `finish` off (it cancels each of its tasks for itself, shielded or not),
        nothing can be awaited any more: then whoever is left is killed, and gone in a moment.
        """
        if self._outcome is None:
            self._signal_group(signal.SIGKILL)
            _wait_briefly(self.is_gone)
            self._outcome = self._reap()
        if self._is_group_left():
            self._signal_group(signal.SIGKILL)
            _wait_briefly(lambda: not self._is_group_left())
        self._strays.close(BROKEN_OFF_WAIT_S)
        self._read_rest()
        self._selector.close()
        if self._exit_fd is not None:
            os.close(self._exit_fd)
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._popen.stdout.close()
        self._popen.stderr.close()
        return self._outcome

    def _selector_fd(self) -> int:
        fileno = getattr(self._selector, "fileno", None)
        if fileno is None:
            raise InternalError("this platform has neither epoll nor kqueue")
        descriptor: int = fileno()
        return descriptor

    async def _pump_until_exit(self) -> None:
        while not self.has_exited:
            if self._is_watched:
                await anyio.wait_readable(self._selector_fd())
                self._pump()
                if not self.has_exited:
                    await self._have_room()
            else:
                await anyio.sleep(POLL_S)
            self.is_gone()

    async def _pump_for(self, seconds: float) -> None:
        """Pass output on for so long."""
        with anyio.move_on_after(seconds):
            if not self._pipes:
                await anyio.sleep(seconds)
            await anyio.wait_readable(self._selector_fd())
        self._pump()
        await self._have_room()

    async def _have_room(self) -> None:
        """Wait for a reader who is behind, but not so long that the end of the process goes unnoticed."""
        with anyio.move_on_after(POLL_S):
            await self._observer.wait_for_room()

    def _pump(self) -> None:
        """Handle what is ready now: at most one read a pipe."""
        for key, _ in self._selector.select(0):
            if key.fd == self._exit_fd:
                self.has_exited = True
                self._selector.unregister(key.fd)
            else:
                self._read(key.fd)

    def _read(self, descriptor: int) -> int:
        """Pass on one read of a pipe; return how many bytes it was."""
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            self._selector.unregister(descriptor)
            del self._pipes[descriptor]
        elif self.observer_error is None:
            try:
                self._observer.output(self._pipes[descriptor], data)
            except BaseException as error:  # raised by whoever looks at it next
                # Nobody can record it any more. Read on, without telling, so that the process is not stuck in a write.
                self.observer_error = error
        return len(data)

    def _read_rest(self) -> None:
        """Pass on what is in the pipes now; what a writer adds meanwhile, up to what a pipe holds."""
        for descriptor in list(self._pipes):
            left = PIPE_BYTES
            while left > 0 and (count := self._read(descriptor)):
                left -= count

    def is_gone(self) -> bool:
        """Look whether the process has ended, whatever has been noticed so far."""
        try:
            self.has_exited = os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            self.has_exited = True
        return self.has_exited

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            if self._outcome is None:
                # Somebody else may have reaped the child; then its id may be anybody's, and must not be signalled.
                os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            elif not self._is_group_there():
                return
            os.killpg(self._popen.pid, number)
        except (ChildProcessError, ProcessLookupError, PermissionError):
            # Nobody is left; or, on a system other than Linux, only a zombie.
            return

    def _is_group_there(self) -> bool:
        """Return whether the group of a process that was reaped, by us, has members, if only zombies."""
        if self._outcome is None or self._outcome.reason == "lost":
            return False
        try:
            os.killpg(self._popen.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    def _is_group_left(self) -> bool:
        """Return whether somebody of the group is left who has not ended.

        Zombies do not count: whoever adopts them may take its time, or never reap them (the first process of many a container).
        """
        if not self._is_group_there():
            return False
        now = time.monotonic()
        if now >= self._look_at_group_at:
            self._has_living_group = is_group_alive(self._popen.pid)
            self._look_at_group_at = now + self._look_pause_s
            self._look_pause_s = min(2 * self._look_pause_s, 0.5)
        return self._has_living_group

    def _reap(self) -> Outcome:
        try:
            info = os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            info = None
        if info is None:
            error = "somebody else reaped the process" if self.has_exited else "the process cannot be killed"
            self._popen.returncode = -1  # or Popen would look for the child when it is deleted
            return Outcome(1, "lost", error=error, stopped=self.ended_by == "stop")
        self._popen.returncode = info.si_status
        if self.ended_by == "unwatched":
            return Outcome(126, "spawn", error="no descriptor is left to watch the process with")
        if self.ended_by == "timeout":
            return Outcome(124, "timeout")
        stopped = self.ended_by == "stop"
        if info.si_code == os.CLD_EXITED:
            # Whoever exits with 0 because it was asked to end has not done its work.
            return Outcome(info.si_status or (143 if stopped else 0), stopped=stopped)
        name = _signal_name(info.si_status)
        return Outcome(128 + info.si_status, "signal", name, stopped=stopped)


def _wait_briefly(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BROKEN_OFF_WAIT_S
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.001)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal, named as bash does
        from_first, to_last = number - signal.SIGRTMIN, signal.SIGRTMAX - number
        return f"SIGRTMIN+{from_first}" if from_first <= to_last else f"SIGRTMAX-{to_last}"
