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
from miniflow.files import open_file
from miniflow.model import ID_PATTERN, MAX_ID_LENGTH

# What flock says on a file system, or a kernel, that has none.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EBADF)


class _Event(msgspec.Struct):
    """What the values of an event are, of those that anybody reads: so nobody else has to ask."""

    timestamp: str = ""
    level: str = ""
    event: str = ""
    message: str = ""
    flow: str = ""
    run_id: str = ""
    task_id: str | None = None
    attempt: int = 1
    state: str | None = None
    reason: str | None = None
    exit_status: int | None = None
    signal: str | None = None
    error: str | None = None
    duration_s: float | None = None
    delay_s: float | None = None
    attempts: int = 0
    pid: int | None = None
    argv: list[str] | None = None
    script_sha256: str | None = None
    reused_from: str | None = None
    resumed_from: str | None = None
    parallel: int = 1
    counts: dict[str, int] | None = None


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
        self._task_ids: set[str | None] = {None}
        try:
            self._file = open_file(path)
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

        What follows the last end of line is torn, or still to be completed; a line that is no event is left out, as is one that
        is damaged so that its values are none.

        Raises:
            MiniFlowError: It cannot be read, or its first event is not that of a run.
        """
        try:
            lines = (self._rest + self._file.read()).split(b"\n")
        except OSError as error:
            raise self._unreadable(error) from error
        self._rest = lines.pop()
        decode, check = msgspec.json.Decoder(dict[str, Any]).decode, msgspec.json.Decoder(_Event).decode
        for line in lines:
            try:
                event = decode(line)
                task_id = check(line).task_id
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
            if not self._is_task(task_id):
                continue
            if not self._has_begun and event.get("event") != "run.started":
                raise MiniFlowError(f"{self._path} is no journal of a run: it does not begin with run.started")
            self._has_begun = True
            yield event

    def _is_task(self, task_id: str | None) -> bool:
        """Return whether a task may be called so: paths are made of ids."""
        if task_id not in self._task_ids:
            if task_id is None or len(task_id) > MAX_ID_LENGTH or not ID_PATTERN.fullmatch(task_id):
                return False
            self._task_ids.add(task_id)
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _unreadable(self, error: OSError) -> MiniFlowError:
        return MiniFlowError(f"{self._path.parent} is no run directory: {error.strerror}: {self._path.name}")
