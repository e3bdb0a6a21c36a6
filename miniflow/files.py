"""Writing files: whole, or not at all, or with an error that says which; and reading them, without ever waiting for one."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from miniflow.errors import OutputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_not_for_forks: set[int] = set()
_closes_in_forks = False


def keep_from_forks(descriptor: int) -> None:
    """Have a descriptor closed in every child that this process forks without exec, as multiprocessing does.

    Who means something by a descriptor's being open, a lock or a pipe that tells of our death, must not share it.
    `close_kept` is to close it.
    """
    global _closes_in_forks
    if not _closes_in_forks:
        os.register_at_fork(after_in_child=_close_in_fork)
        _closes_in_forks = True
    _not_for_forks.add(descriptor)


def close_kept(descriptor: int) -> None:
    """Close a descriptor that was kept from forks."""
    _not_for_forks.discard(descriptor)  # first: once it is closed its number may be somebody else's
    os.close(descriptor)


def _close_in_fork() -> None:
    # A child that leaves our frames by an exception closes the number once more: until then it must not become another's.
    for descriptor in _not_for_forks:
        try:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, descriptor, inheritable=False)
            os.close(null)
        except OSError:
            os.close(descriptor)
    _not_for_forks.clear()


class writing:  # noqa: N801  used as a function is
    """Turn an error of the operating system into one that says what could not be written.

    Raises:
        OutputError: On leaving, instead of an OSError.
    """

    # No generator: this is entered for each file that is written.
    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise unwritten(self._path, error) from error


def unwritten(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Return the error that says what could not be written, for an error of the operating system."""
    return OutputError(f"cannot write {os.fspath(path)}: {error.strerror}")


def check_is_file(path: Path, option: str) -> None:
    """See that what an option names is a file, or not there yet: `/dev/null` and `/dev/stdout` would be replaced by a file.

    Raises:
        UsageError: It is something else.
    """
    is_of_a_descriptor = os.path.islink(path) and os.readlink(path).startswith("/proc/")
    if is_of_a_descriptor or (os.path.exists(path) and not os.path.isfile(path)):
        raise UsageError(f"{option}: {path} is no file")


def write_atomically(path: Path, data: bytes | Iterable[bytes], mode: int = 0o666) -> None:
    """Write a file so that whoever reads it sees the old content or the new, whole.

    Args:
        path: The file.
        data: Its content; what is large may come in parts.
        mode: Of a file that is new, but for the umask.

    Raises:
        OutputError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(3).hex()}")
    with writing(path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            try:
                for part in (data,) if isinstance(data, bytes) else data:
                    write_all(descriptor, part)
            finally:
                os.close(descriptor)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write everything; `os.write` alone may write less, on a disk that is getting full for one.

    Raises:
        OSError: It cannot be written.
    """
    written = os.write(descriptor, data)
    if written == len(data):
        return
    rest = memoryview(data)[written:]
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to be read; what is none, like a FIFO that nobody writes, might keep us waiting and is refused.

    Raises:
        OSError: It cannot be opened, or is no file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "it is no file", os.fspath(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: It cannot be read, or is no file.
    """
    with open_file(path) as file:
        return file.read()


# A file that changes twice within one tick of its file system's clock, and keeps its size, looks unchanged. So what had
# changed shortly before it was read is not known by its looks. Of the clocks in use, FAT's is the slowest. One that tells
# fractions of a second ticks at least a hundred times in one; it may be another machine's, and not quite agree with ours.
_SLOWEST_TICK_NS = 2_000_000_000
_FINE_TICK_NS = 100_000_000
_SECOND_NS = 1_000_000_000


def tick_ns(looks: os.stat_result) -> int:
    """Return how long a file's times may stay what they are while it changes."""
    is_fine = looks.st_mtime_ns % _SECOND_NS and looks.st_ctime_ns % _SECOND_NS
    return _FINE_TICK_NS if is_fine else _SLOWEST_TICK_NS
