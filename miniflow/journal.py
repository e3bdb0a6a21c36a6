"""The journal of a run, `events.jsonl`: the lock that tells whether its writer lives, and reading it while it is written.

Its writer holds a lock on it (flock(2)), which the kernel takes away when the writer dies, however it dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from miniflow.errors import MiniFlowError

# What flock says on a file system, or a kernel, that has none.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EBADF)


def lock_journal(descriptor: int) -> None:
    """Lock a journal for its writer, until the descriptor and all its copies are closed.

    Where the file system has no locks there is none, and whether a run without an end goes on cannot be known.

    Raises:
        OSError: It cannot be locked.
    """
    with no_locks():
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # a reader that looks whether we live is gone in a moment


def unlock(descriptor: int) -> None:
    """Give a lock up, also on behalf of copies of the descriptor."""
    with no_locks():
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextlib.contextmanager
def no_locks() -> Iterator[None]:
    """Go on without a lock where there are none."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


class JournalReader:
    """Reads a journal, and then what is added to it; to be closed.

    Raises:
        MiniFlowError: There is no journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        self._has_begun = False
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise self._unreadable(error) from error

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has_writer(self) -> bool:
        """Return whether it may still be written.

        To be asked before it is read: the writer may come to its end in between. Where there are no locks it always may.
        """
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True  # it is locked, or cannot be
        unlock(self._file.fileno())
        return False

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the events that have been added since it was read before.

        What follows the last end of line is torn, or still to be completed; a line that is no event is left out.

        Raises:
            MiniFlowError: It cannot be read, or its first event is not that of a run.
        """
        try:
            lines = (self._rest + self._file.read()).split(b"\n")
        except OSError as error:
            raise self._unreadable(error) from error
        self._rest = lines.pop()
        decode = msgspec.json.Decoder().decode
        for line in lines:
            try:
                event = decode(line)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
            if not isinstance(event, dict):
                continue
            if not self._has_begun and event.get("event") != "run.started":
                raise MiniFlowError(f"{self._path} is no journal of a run: it does not begin with run.started")
            self._has_begun = True
            yield event

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _unreadable(self, error: OSError) -> MiniFlowError:
        return MiniFlowError(f"{self._path.parent} is no run directory: {error.strerror}: {self._path.name}")
