"""Standard output and error, written without ever blocking the event loop, and without caring whether anybody reads."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
from typing import TypeAlias

import anyio

from miniflow.files import write_all
from miniflow.readers import is_unread

_REFUSE: int = getattr(os, "RWF_NOWAIT", 0)
"""Has a write refuse what it would have to wait for, as the descriptor is shared and stays as it is. Not for terminals."""

LEAST_PATIENCE_S = 0.25
"""How long a reader may stand still when all other patience is at an end: one that is only busy gets the last events."""

Data: TypeAlias = bytes | bytearray | memoryview


def _open_again(descriptor: int) -> int:
    """Return a descriptor of our own of a terminal: one that never waits. The other is not ours alone."""
    return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


class Output:
    """One of the standard descriptors.

    A reader that has gone away does not end the run: what is written after that is lost, as the reader wanted, and the files of
    the run are complete all the same.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        mode = os.fstat(descriptor).st_mode
        # A regular file or /dev/null is always ready, and cannot be waited for.
        self._may_block = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
        self._can_refuse = _REFUSE != 0
        self._is_ours = False
        if os.isatty(descriptor):
            with contextlib.suppress(OSError):  # somebody else's terminal, after `su`; or it is gone
                self._descriptor = _open_again(descriptor)
                self._is_ours = True
        self._is_gone = False
        self._is_patient_until = float("inf")
        self._wait: anyio.CancelScope | None = None
        self.error: OSError | None = None
        """Why not everything could be written, other than that nobody reads it."""

    async def write(self, data: Data) -> None:
        """Write everything, however slowly it is read."""
        rest = self.write_now(data)
        while rest:
            with anyio.CancelScope(deadline=self._deadline()) as self._wait:
                await anyio.wait_writable(self._descriptor)
            if self._wait.cancelled_caught:
                self._is_gone = True
                return
            rest = self._write(rest, is_ready=True)

    def write_now(self, data: Data) -> Data:
        """Write what can be written without waiting for a reader; return the rest."""
        return self._write(data, is_ready=False)

    def _write(self, data: Data, *, is_ready: bool) -> Data:
        if self._is_gone:
            return b""
        try:
            if not self._may_block:
                write_all(self._descriptor, data)
                return b""
            return memoryview(data)[self._write_some(data, is_ready) :]
        except BlockingIOError:
            return data
        except OSError as error:
            self._is_gone = True
            if not is_unread(error, self._descriptor):
                self.error = error
            return b""

    def _write_some(self, data: Data, is_ready: bool) -> int:
        if self._is_ours:
            return os.write(self._descriptor, data)
        if self._can_refuse:
            try:
                return os.pwritev(self._descriptor, (data,), -1, _REFUSE)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM):
                    raise  # anything but the refusal of a terminal, an old kernel, or a sandbox
                self._can_refuse = False
        # When a pipe is ready, this much fits without waiting, whether or not it is non-blocking.
        return os.write(self._descriptor, memoryview(data)[: select.PIPE_BUF]) if is_ready else 0

    def lose_patience(self, seconds: float) -> None:
        """Write nothing more to a reader who stands still when so many seconds have passed."""
        self._is_patient_until = anyio.current_time() + seconds
        if self._wait is not None:
            self._wait.deadline = self._deadline()

    def _deadline(self) -> float:
        return max(self._is_patient_until, anyio.current_time() + LEAST_PATIENCE_S)
