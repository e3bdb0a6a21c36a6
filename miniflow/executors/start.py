"""Starting a process so that it can be watched to its end, and what to do when the system has no more to give."""

from __future__ import annotations

import errno
import os
import re
import resource
import threading
import time
from collections import deque

import anyio
from msgspec import Struct

from miniflow.executors import Attempt
from miniflow.executors.spawn import spawn
from miniflow.executors.watch import Watch, Watches
from miniflow.files import open_file
from miniflow.guardian import start_time
from miniflow.results import Outcome

HEADROOM = 16
"""Descriptors that are left free for others while attempts run: to start a process takes nine for a moment, and logs, statuses
and the host need some."""
_FIRST_BYTES = 256
"""As much of a program as the system reads to find its interpreter."""
_HINTS = {
    errno.EMFILE: "raise `ulimit -n` or lower --parallel",
    errno.ENFILE: "raise the system's limit (fs.file-max) or lower --parallel",
    errno.EAGAIN: "raise `ulimit -u`, or the container's limit of processes, or lower --parallel",
    errno.ENOMEM: "free memory or lower --parallel",
}


class Started(Struct, frozen=True):
    """A process, and what it is watched with."""

    pid: int
    stdout: int
    """Our end of the pipe, non-blocking."""
    stderr: int
    watch: Watch
    exit_fd: int | None
    """Readable when it has ended; None if it cannot be watched."""
    has_pidfd: bool
    """Whether that is a pidfd."""
    start_time: int | None
    """See `guardian.start_time`; None where that is not known."""


def start(attempt: Attempt, running: int, watches: Watches) -> Started:
    """Start the process, holding all that it takes to watch it before it runs.

    Args:
        attempt: What to run.
        running: How many others run, which may need a descriptor for a log each.
        watches: Make what it is watched with.

    Raises:
        OSError: It cannot be started, or should not be as long as others run: the last descriptors are theirs.
    """
    watch = watches.new()
    try:
        before = _start_times.now()
        spawned = spawn(attempt.argv, attempt.env, attempt.cwd, _highest_descriptor(running) if running else None)
    except BaseException:
        watch.close()
        raise
    # Its ends of the pipes are closed again: two descriptors are free, and one of them is what it takes to watch it.
    try:
        exit_fd, has_pidfd = _exit_descriptor(spawned.pid)
    except (OSError, RuntimeError):  # no descriptor or thread left, or reaped by somebody else already
        exit_fd, has_pidfd = None, False
    try:
        started_at = _start_times.of(spawned.pid, before)
    except OSError:  # somebody else in this process has taken the last descriptor; it is worth less than the task
        started_at = None
    return Started(spawned.pid, spawned.stdout, spawned.stderr, watch, exit_fd, has_pidfd, started_at)


class _StartTimes:
    """The start times of processes, by the clock that the system takes them from: to read one in /proc takes ten times as long.

    Whether it is that clock is seen at the first process, which has both.
    """

    def __init__(self) -> None:
        self._ns_per_tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        self._is_right: bool | None = None if hasattr(time, "CLOCK_BOOTTIME") else False

    def now(self) -> int:
        """Return the time in clock ticks since boot, if that is known."""
        return 0 if self._is_right is False else time.clock_gettime_ns(time.CLOCK_BOOTTIME) // self._ns_per_tick

    def of(self, pid: int, before: int) -> int | None:
        """Return the start time of a process that was started since `before`.

        Raises:
            OSError: No descriptor is left to look at it.
        """
        if (
            self._is_right is False or time.clock_gettime_ns(time.CLOCK_BOOTTIME) // self._ns_per_tick != before
        ):  # a tick has gone by: was it started before, or after?
            return start_time(pid)
        if self._is_right is None:
            read = start_time(pid)
            if read is not None:
                self._is_right = read == before
            return read
        return before


_start_times = _StartTimes()


def is_scarcity(error: OSError) -> bool:
    """Return whether the system has no more of something that those who run now will give back."""
    return error.errno in _HINTS


def not_started(error: OSError) -> Outcome:
    """Return the outcome of an attempt that could not be started."""
    what = f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else str(error.strerror)
    if error.errno in (errno.ENOENT, errno.EACCES) and (interpreter := _bad_interpreter(os.fsdecode(error.filename or ""))):
        what = f"{error.strerror}: {interpreter}, which {os.fsdecode(error.filename)} names as its interpreter"
    if error.errno in _HINTS:
        what = f"{error.strerror}; {_HINTS[error.errno]}"
    missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    return Outcome(127 if missing else 126, "spawn", error=what)


def _bad_interpreter(program: str) -> str | None:
    """Return the interpreter that a program names in its first line, if that is what cannot be run, and not the program."""
    if "/" not in program or not os.access(program, os.X_OK):
        return None
    try:
        with open_file(program) as file:
            named = re.match(rb"#![ \t]*(\S+)", file.read(_FIRST_BYTES))
    except OSError:  # a directory; or it cannot be read, or no descriptor is left
        return None
    if named is None or (os.path.isfile(named[1]) and os.access(named[1], os.X_OK)):
        return None
    return os.fsdecode(named[1])


def _highest_descriptor(running: int) -> int | None:
    # A new one has the lowest number that is free, so all below are taken; those above are few, as numbers are reused.
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit - HEADROOM - running


def _exit_descriptor(pid: int) -> tuple[int, bool]:
    """Return a descriptor that becomes readable when the child has ended, and does not reap it; and whether it is a pidfd."""
    if hasattr(os, "pidfd_open"):
        try:
            return os.pidfd_open(pid), True
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):  # an old kernel, or a sandbox
                raise
    read_end, write_end = os.pipe()

    def wait() -> None:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # reaped by somebody else: it has ended all the same
        finally:
            os.close(write_end)

    try:
        threading.Thread(target=wait, name=f"wait for {pid}", daemon=True).start()
    except RuntimeError:  # no more threads
        os.close(read_end)
        os.close(write_end)
        raise
    return read_end, False


class Room:
    """Where attempts wait, each in its turn, until one that runs has ended and given back what it held."""

    def __init__(self) -> None:
        self._waiting: deque[anyio.Event] = deque()
        self._holders = 0

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits: then whoever comes new waits too."""
        return self._holders > 0 or bool(self._waiting)

    async def hold(self, seconds: float) -> None:
        """Wait for so long, as one whom nobody will tell: nothing runs. Others who tried as well would only take time."""
        self._holders += 1
        try:
            await anyio.sleep(seconds)
        finally:
            self._holders -= 1

    async def wait(self, *, is_first: bool) -> None:
        """Wait for one's turn; then tell the next, when it is clear whether there is room for one more."""
        turn = anyio.Event()
        if is_first:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.tell_next()
            else:
                self._waiting.remove(turn)
            raise

    def tell_next(self) -> None:
        """Let the one who has waited longest try again."""
        if self._waiting:
            self._waiting.popleft().set()
