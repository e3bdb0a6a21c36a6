"""The runner's end of the lifeline: who runs is said there, and when it breaks, the guardian ends them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from miniflow import guardian
from miniflow.errors import HostError
from miniflow.files import close_kept, keep_from_forks
from miniflow.guardian import message

_NEEDED = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME")
"""What an interpreter may need to start. Nothing else of our environment: by what a run's tasks have in theirs, a guardian
within a task, of a run within a run, would be taken for a part of the task, and ended before its time."""


class Lifeline:
    """Starts a guardian, and tells it of the attempts that run. Does nothing until it is opened, or where there is none.

    Telling never fails: a guardian that was killed is replaced by another, at the latest when the next attempt begins.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Opening is slow, and may go on in a thread when somebody closes."""
        self._is_wanted = False
        self._is_closed = False
        self._flow = ""
        self._guardian: _Guardian | None = None
        self._running: dict[int, bytes] = {}
        """What was said of each attempt that runs, for another guardian."""
        self._count = 0

    def open(self, flow: str) -> None:
        """Start the guardian of a run of this flow. Does not wait until it is up: what it is told meanwhile, it reads then.

        Raises:
            HostError: It cannot be started.
        """
        with self._lock:
            if self._is_closed or not guardian.is_supported():
                return
            self._flow = flow
            try:
                self._guardian = _Guardian(flow)
            except OSError as error:
                raise HostError(
                    f"cannot start the process that ends the tasks if miniflow dies: {error.strerror or error}; "
                    "raise the limits of processes and open files (ulimit -u, ulimit -n)"
                ) from error
            self._is_wanted = True

    def begin(self, marks: Sequence[str]) -> int:
        """Say that an attempt is about to be started; return its number.

        Args:
            marks: What its processes have in their environment, and nobody else has.
        """
        self._count += 1
        self._running[self._count] = b""
        self._say(self._count, b"begin", *map(os.fsencode, marks))
        return self._count

    def started(self, number: int, pid: int, start_time: int) -> None:
        """Say which process leads an attempt."""
        self._say(number, b"leader", b"%d" % pid, b"%d" % start_time)

    def stopping(self, number: int) -> None:
        """Say that an attempt was asked to end."""
        self._say(number, b"stop")

    def ended(self, number: int) -> None:
        """Say that nothing is left of an attempt."""
        self._say(number, b"end")
        del self._running[number]

    def close(self) -> None:
        """End the guardian: nothing runs any more. Takes about as long as a system call.

        If something does, as a KeyboardInterrupt has come in the midst of starting or ending it, the guardian ends that first.
        """
        with self._lock:
            self._is_closed = True
            self._is_wanted = False
            if self._guardian is not None:
                self._guardian.close(kill=not self._running)
                self._guardian = None

    def _say(self, number: int, verb: bytes, *fields: bytes) -> None:
        if not self._is_wanted:
            return
        said = message(verb, b"%d" % number, *fields)
        self._running[number] += said
        try:
            if self._guardian is not None:
                self._guardian.tell(said)
                return
        except OSError:  # it has died, or it is stuck
            assert self._guardian is not None
            self._guardian.close()
            self._guardian = None
        try:
            self._guardian = _Guardian(self._flow)
            for text in self._running.values():
                self._guardian.tell(text)
        except OSError:
            # Short of something, for the moment: tried again whenever there is something to say. Better a run that is not
            # guarded for a while than one that ends for it.
            return


class _Guardian:
    """The process, and the socket to talk to it.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, flow: str) -> None:
        # Sockets, as a write to a pipe that nobody reads any more kills a host that lets SIGPIPE do so.
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                popen = subprocess.Popen(  # noqa: S603  our own interpreter, our own program
                    [sys.executable or "python3", "-sSP", guardian.__file__, str(os.getpid()), flow],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={name: os.environ[name] for name in _NEEDED if name in os.environ},
                    start_new_session=True,
                )
            try:
                self._pidfd = os.pidfd_open(popen.pid)
            except BaseException:
                popen.kill()
                popen.wait()
                raise
        except BaseException:
            self._socket.close()
            raise
        popen.returncode = 0  # reaped by `close`
        self._socket.setblocking(False)
        keep_from_forks(self._socket.fileno())
        keep_from_forks(self._pidfd)

    def tell(self, text: bytes) -> None:
        """Send some messages; never wait.

        Raises:
            OSError: It has died, or it has not read for so long that no more fits.
        """
        if self._socket.send(text, socket.MSG_NOSIGNAL) != len(text):
            raise BlockingIOError

    def close(self, *, kill: bool = True) -> None:
        """Kill it and reap it: it takes no notice of anything else, and may not even be up yet. Or leave it to do its work."""
        try:
            if not kill:
                return
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        except OSError:
            pass  # our host has reaped it; or we are a fork of the runner, and it is none of ours
        finally:
            close_kept(self._pidfd)
            close_kept(self._socket.detach())
