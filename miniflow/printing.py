"""Standard output of a command that waits for more to say: everything is written, and it is seen when nobody reads any more."""

from __future__ import annotations

import os
import select


def write(data: bytes) -> None:
    """Write everything to standard output, also where our caller has made that non-blocking.

    Raises:
        OSError: It cannot be written.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(1, view) :]
        except BlockingIOError:
            ready = select.poll()
            ready.register(1, select.POLLOUT)
            ready.poll()


def is_unread(wait_ms: int) -> bool:
    """Return whether nobody reads standard output any more; look for so long."""
    closed = select.poll()
    closed.register(1, 0)
    return bool(closed.poll(wait_ms))
