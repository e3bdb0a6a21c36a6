"""Whether anybody reads standard output; who does not any more has seen enough, and is told the rest by the exit status."""

from __future__ import annotations

import errno
import os
import stat
import sys


def is_unread(error: OSError, descriptor: int) -> bool:
    """Return whether a write has failed because nobody reads any more: a closed pipe or connection, a terminal that is gone."""
    if error.errno == errno.EIO:
        return stat.S_ISCHR(os.fstat(descriptor).st_mode)
    return error.errno in (errno.EPIPE, errno.ECONNRESET)


class while_read:  # noqa: N801  used as a function is
    """Print what a command has found; what nobody reads any more is left out, and the command goes on.

    Raises:
        OSError: Standard output cannot be written for another reason.
    """

    # No generator: `contextlib` takes longer to load than a list of flows to print.
    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        try:
            if error is None:
                sys.stdout.flush()
                return False
        except OSError as unwritten:
            error = unwritten
            if not is_unread(unwritten, 1):
                raise
        if not (isinstance(error, OSError) and is_unread(error, 1)):
            return False
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  what waits to be written must not fail once more when Python ends
        return True
