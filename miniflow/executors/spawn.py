"""Starting a program as a task sees it: a session of its own, nothing to read, two pipes to write to, and no descriptor more.

There are two ways to the same child. `subprocess.Popen` can do it in any process. posix_spawn takes half the time, but leaves
the child whatever is inheritable and takes no directory: it is for a process that nobody but us opens files in, and for
children that stay in its own directory. (glibc's also leaves them signal 32 ignored, one of the two that it keeps for itself.)
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from msgspec import Struct

from miniflow.executors import encoded

_DEFAULTED = tuple(sorted(map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})))
"""Signals that a child is to have as they are by default: all. Of those that are not named glibc asks first what they are, by a
system call each; and Python ignores some for itself."""
_has_own_descriptors = False
_former_input: int | None = None
"""A descriptor for what was our standard input, once that is what children get."""


class Spawned(Struct, frozen=True):
    """A process that was started, and must be reaped."""

    pid: int
    stdout: int
    """Our end of the pipe, non-blocking."""
    stderr: int


def own_descriptors() -> None:
    """Keep what this process has inherited from its children; from now on it makes no inheritable descriptor.

    For a program that is all ours, has 0, 1 and 2 open, and reads nothing from 0 once it starts programs. A library's host may
    open, read and fork at any time.
    """
    global _has_own_descriptors
    try:
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                _keep(int(name))
        _has_own_descriptors = _reports_failures()
    except OSError:  # no /proc
        return


def _give_up_input() -> None:
    """Make of our standard input what children are to have, so that they have it already.

    What it was stays open: whoever writes there is not to find that nobody reads before the command has ended.
    """
    global _former_input
    kept = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.dup2(null, 0)
        finally:
            os.close(null)
    except BaseException:
        os.close(kept)
        raise
    _former_input = kept


def spawn(argv: Sequence[str], env: Mapping[bytes, bytes], cwd: str, highest: int | None = None) -> Spawned:
    """Start a program.

    Args:
        argv: The program and its arguments.
        env: Its whole environment.
        cwd: Where it starts.
        highest: The highest number that the first of the descriptors may have that this takes.

    Raises:
        OSError: As `subprocess.Popen`; or its number is higher.
    """
    pipes: list[int] = []
    try:
        pipes += os.pipe()
        if highest is not None and pipes[0] > highest:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        pipes += os.pipe()
        os.set_blocking(pipes[0], False)
        os.set_blocking(pipes[2], False)
        try:
            pid = _start(argv, env, cwd, pipes[1], pipes[3])
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # An executable text without "#!": a shell runs it, for every shell and for execvp(3), hence for the bash script.
            pid = _start(["/bin/sh", *argv], env, cwd, pipes[1], pipes[3])
    except BaseException:
        for descriptor in pipes:
            os.close(descriptor)
        raise
    os.close(pipes[1])
    os.close(pipes[3])
    return Spawned(pid, pipes[0], pipes[2])


def _start(argv: Sequence[str], env: Mapping[bytes, bytes], cwd: str, stdout: int, stderr: int) -> int:
    # Python encodes them as we do, unless the locale has signs of its own.
    words: list[str] | list[bytes] = list(argv) if sys.getfilesystemencoding() == "utf-8" else list(map(encoded, argv))
    if _has_own_descriptors and "/" in argv[0] and _is_here(cwd):
        if _former_input is None:
            _give_up_input()
        return os.posix_spawn(
            words[0],
            words,
            env,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdout, 1),
                (os.POSIX_SPAWN_DUP2, stderr, 2),
            ],
            setsid=True,
            setsigdef=_DEFAULTED,
        )
    popen = subprocess.Popen(  # noqa: S603  running what the flow says is what this is for
        words, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=cwd, env=env, start_new_session=True
    )
    popen.returncode = 0  # or it would look for the child when it is deleted: whoever has called us reaps it
    return popen.pid


def _is_here(cwd: str) -> bool:
    """Return whether a child that does not change its directory is in this one, as if it had changed to it."""
    try:
        # By the name that it has now; and whether we may enter it, as changing to it asks.
        return os.getcwd() == cwd and os.access(".", os.X_OK)
    except OSError:
        return False


def _keep(descriptor: int) -> None:
    try:
        os.set_inheritable(descriptor, False)
    except OSError as error:
        if error.errno != errno.EBADF:  # that of the listing itself
            raise


def _reports_failures() -> bool:
    """Return whether posix_spawn raises what the child's execve has failed with, and makes sessions: since glibc 2.26."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return name == "glibc" and [int(part) for part in version.split(".")[:2]] >= [2, 26]
    except ValueError:
        return False
