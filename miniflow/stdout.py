"""Standard output and error, written without ever blocking the event loop, and without caring whether anybody reads."""

from __future__ import annotations

import errno
import os
import select
import stat

import anyio

from miniflow.files import write_all

LEAST_PATIENCE_S = 0.25
"""How long a reader may stand still when all other patience is at an end: one that is only busy gets the last events."""


def is_unread(error: OSError, descriptor: int) -> bool:
    """Return whether a write has failed because nobody reads any more: a closed pipe or connection, a terminal that is gone."""
    if error.errno == errno.EIO:
        return stat.S_ISCHR(os.fstat(descriptor).st_mode)
    return error.errno in (errno.EPIPE, errno.ECONNRESET)


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
        self._is_gone = False
        self._is_patient_until = float("inf")
        self._wait: anyio.CancelScope | None = None
        self.error: OSError | None = None
        """Why not everything could be written, other than that nobody reads it."""

    async def write(self, data: bytes | bytearray) -> None:
        """Write everything, however slowly it is read."""
        if self._is_gone:
            return
        try:
            if not self._may_block:
                write_all(self._descriptor, data)
                return
            rest = memoryview(data)
            while rest and not self._is_gone:
                with anyio.CancelScope(deadline=self._deadline()) as self._wait:
                    await anyio.wait_writable(self._descriptor)
                if self._wait.cancelled_caught:
                    self._is_gone = True
                    return
                try:
                    # When a pipe is ready, this much fits without waiting, whether or not it is non-blocking.
                    rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]
                except BlockingIOError:
                    continue
        except OSError as error:
            self._is_gone = True
            if not is_unread(error, self._descriptor):
                self.error = error

    def lose_patience(self, seconds: float) -> None:
        """Write nothing more to a reader who stands still when so many seconds have passed."""
        self._is_patient_until = anyio.current_time() + seconds
        if self._wait is not None:
            self._wait.deadline = self._deadline()

    def _deadline(self) -> float:
        return max(self._is_patient_until, anyio.current_time() + LEAST_PATIENCE_S)
