"""A process that runs: its output, its end, and the end of the group it leads."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import anyio

from miniflow.events import Stream
from miniflow.executors import Observer
from miniflow.executors.group import Group
from miniflow.executors.start import Started
from miniflow.executors.strays import Strays
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


class Process:
    """A running process, its pipes, and the group it leads."""

    def __init__(self, started: Started, observer: Observer, strays: Strays) -> None:
        self._pid = started.pid
        self._watch = started.watch
        self._group = Group(started.pid, started.exit_fd if started.has_pidfd else None)
        self._observer = observer
        self._strays = strays
        self.observer_error: BaseException | None = None
        """What the observer raised first when it was told of output."""
        self.has_exited = False
        self.ended_by: str | None = None
        """`timeout` or `stop` if the process was asked to end, and why."""
        self._descriptors = (started.stdout, started.stderr)
        self._pipes: dict[int, Stream] = {started.stdout: "stdout", started.stderr: "stderr"}
        """Those that have not come to their end."""
        self._group_deadline: float | None = None
        """Until when what is left of the group is waited for, once it was asked to end."""
        self._outcome: Outcome | None = None
        """How the process ended, once it was reaped."""
        self._exit_fd = started.exit_fd
        self._is_watched = False
        self._wait_readable = self._sleep
        if self._exit_fd is None:
            return
        try:
            self._watch.add(self._exit_fd, pipes=self._descriptors)
        except OSError:  # no memory. What can't be watched can't be run
            return
        self._is_watched = True
        self._wait_readable = self._watch.wait  # itself: one coroutine less in each turn of each process

    async def wait_exit(self) -> None:
        """Pass output on until the process has ended."""
        if not self._is_watched:
            self.ended_by = "unwatched"
            await self.stop(0)
        while not self.has_exited:
            await self._wait_readable()
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
            self._group.signal(signal.SIGTERM)
            self._group.signal(signal.SIGCONT)  # a stopped process hears SIGTERM once it goes on
            with anyio.move_on_after(grace_s):
                await self._strays.are_left(kill=False)
                await self._pump_until_exit()
            if not self.has_exited:
                self._group.signal(signal.SIGKILL)
                with anyio.move_on_after(KILL_WAIT_S):
                    await self._pump_until_exit()

    def kill(self) -> None:
        """End the process, its group and its strays at once."""
        if not self.is_gone():
            # Whoever awaits it may see its end before the cancellation that this is a part of.
            self.ended_by = self.ended_by or "stop"
        self._group_deadline = float("-inf")
        self._strays.begin()
        self._group.signal(signal.SIGKILL)
        self._strays.kill()

    async def finish(self) -> None:
        """Reap the process, pass on what is left in its pipes, and end what it has left behind. Never cancelled.

        What is left of its group has a second after SIGTERM or, after a stop, the rest of the grace period. Whoever else holds
        a pipe of it has a second too. Of the readers of the output none is waited for for long, so that none of it is lost:
        what the process has printed fits a pipe.
        """
        if not (self.has_exited or self.is_gone()):  # `stop` was broken off, or in vain
            return
        if self._pipes:
            self._read_rest()
        if self._group.outlives_its_number:
            self._outcome = self._reap()
            self._group.signal(signal.SIGTERM)
        else:
            # The process is a zombie, so its id is nobody else's; once it is reaped, what is left of the group keeps it.
            self._group.signal(signal.SIGTERM)
            self._outcome = self._reap()
        if self._group.may_have_members:
            self._group.signal(signal.SIGCONT)
        if not (self._group.may_have_members or self._pipes or self._strays.is_looking):
            return  # nearly always
        with anyio.CancelScope(shield=True):
            pipes_deadline = anyio.current_time() + STRAGGLER_GRACE_S
            if self._group_deadline is None:
                self._group_deadline = pipes_deadline
            while anyio.current_time() < self._group_deadline:
                if not self._group.is_left() and not await self._strays.are_left(kill=False):
                    break
                await self._pump_for(POLL_S)
            self._group.signal(signal.SIGKILL)
            with anyio.move_on_after(KILL_WAIT_S):
                while self._group.is_left() or await self._strays.are_left(kill=True):
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
            self._group.signal(signal.SIGKILL)
            _wait_briefly(self.is_gone)
            self._outcome = self._reap()
        if self._group.may_have_members and self._group.is_left():
            self._group.signal(signal.SIGKILL)
            _wait_briefly(lambda: not self._group.is_left())
        if self._strays.is_looking:
            self._strays.close(BROKEN_OFF_WAIT_S)
        if self._pipes:
            self._read_rest()
        self._watch.close()
        if self._exit_fd is not None:
            os.close(self._exit_fd)
        for descriptor in self._descriptors:
            os.close(descriptor)
        return self._outcome

    async def _pump_until_exit(self) -> None:
        while not self.has_exited:
            await self._wait_readable()
            self._pump()
            if not self.has_exited:
                await self._have_room()
                self.is_gone()

    async def _pump_for(self, seconds: float) -> None:
        """Pass output on for so long."""
        with anyio.move_on_after(seconds):
            if not self._pipes:
                await anyio.sleep(seconds)
            await self._wait_readable()
        self._pump()
        await self._have_room()

    async def _have_room(self) -> None:
        """Wait for a reader who is behind, but not so long that the end of the process goes unnoticed."""
        with anyio.move_on_after(POLL_S):
            await self._observer.wait_for_room()

    async def _sleep(self) -> None:
        """Wait where nothing tells when there is something to handle."""
        await anyio.sleep(POLL_S)

    def _pump(self) -> None:
        """Handle what is ready now: at most one read a pipe."""
        ready = self._watch.ready()
        if self._exit_fd is not None and self._exit_fd in ready:
            self.has_exited = True
            self._watch.ended(self._exit_fd)
        # Standard output first, as what is printed last, before a task fails, goes to the other one.
        for descriptor in self._descriptors:
            if descriptor in ready and descriptor in self._pipes:
                self._read(descriptor)

    def _read(self, descriptor: int) -> int:
        """Pass on one read of a pipe; return how many bytes it was."""
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            if self._is_watched:
                self._watch.ended(descriptor)
            del self._pipes[descriptor]
        else:
            if self._is_watched:
                self._watch.again(descriptor)  # there may be more, or the end
            try:
                self._observer.output(self._pipes[descriptor], data)
            except BaseException as error:  # raised by whoever looks at it next
                # Of several who are told one has raised: what is read from now on may still be recorded.
                self.observer_error = self.observer_error or error
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
            self.has_exited = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            self.has_exited = True
        return self.has_exited

    def _reap(self) -> Outcome:
        stopped = self.ended_by == "stop"
        try:
            info = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            self._group.leader_was_reaped(by_us=False)
            return Outcome(1, "lost", error="somebody else reaped the process", stopped=stopped)
        if info is None:
            return Outcome(1, "lost", error="the process cannot be killed", stopped=stopped)
        self._group.leader_was_reaped(by_us=True)
        if self.ended_by == "unwatched":
            return Outcome(126, "spawn", error="no descriptor is left to watch the process with")
        if self.ended_by == "timeout":
            return Outcome(124, "timeout")
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
