"""Standard output and error, written without ever blocking the event loop, and without caring whether anybody reads."""

from __future__ import annotations

import os
import select
import stat

import anyio

from miniflow.rundir import write_all


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

    async def write(self, data: bytes) -> None:
        """Write everything, however slowly it is read."""
        try:
            if not self._may_block:
                write_all(self._descriptor, data)
                return
            rest = memoryview(data)
            while rest and not self._is_gone:
                await anyio.wait_writable(self._descriptor)
                try:
                    # When a pipe is ready, this much fits without waiting, whether or not it is non-blocking.
                    rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]
                except BlockingIOError:
                    continue
        except OSError:  # nobody reads it, or the disk it goes to is full: it is a copy of what the run directory holds
            self._is_gone = True

    def give_up(self) -> None:
        """Write nothing more."""
        self._is_gone = True
