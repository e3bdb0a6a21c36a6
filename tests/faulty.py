"""`miniflow` with one call of the operating system failing: `python -m tests.faulty`, told by JSON lines on standard input.

Each line is a case: the folder to run in, the arguments, the environment, the kind of call that fails, the number of the call
and how it fails. Each answer says how the command ended, whether the call was reached, and whom it has left behind. Every case
is a fork of this process, in which all modules are loaded: starting Python anew would take ten times as long as the flow.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import json
import mmap
import os
import select
import selectors
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio._backends._asyncio  # noqa: F401  loaded before the forks

import miniflow.foreground  # noqa: F401
from miniflow.__main__ import main

PR_SET_CHILD_SUBREAPER = 36
PATIENCE_MS = 60_000
"""How long a command, and then whoever it has left behind, may take before they count as hanging."""


class Epoll:
    """A `select.epoll` whose calls may fail."""

    def __init__(self, *args: Any) -> None:
        self._epoll = REAL_EPOLL(*args)

    @staticmethod
    def fromfd(descriptor: int) -> select.epoll:
        return REAL_EPOLL.fromfd(descriptor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


REAL_EPOLL = select.epoll

# Where each kind of call is made: the module or class, and the names in it.
PLACES: dict[str, list[tuple[Any, str]]] = {
    "open": [(os, "open")],
    "file": [(io, "open")],
    "write": [(os, "write")],
    "read": [(os, "read")],
    "close": [(os, "close")],
    "rename": [(os, "replace"), (os, "rename")],
    "link": [(os, "link")],
    "mkdir": [(os, "mkdir")],
    "symlink": [(os, "symlink")],
    "unlink": [(os, "unlink")],
    "stat": [(os, "stat"), (os, "fstat"), (os, "lstat")],
    "pipe": [(os, "pipe")],
    "socketpair": [(socket, "socketpair")],
    "thread": [(threading, name) for name in ("_start_new_thread", "_start_joinable_thread") if hasattr(threading, name)],
    "spawn": [(subprocess, "_fork_exec"), (os, "posix_spawn")],
    "pidfd": [(os, "pidfd_open")],
    "waitid": [(os, "waitid")],
    "killpg": [(os, "killpg"), (signal, "pidfd_send_signal")],
    "flock": [(fcntl, "flock")],
    "dup": [(fcntl, "fcntl")],
    "memfd": [(os, "memfd_create")],
    "memory": [(os, "posix_fallocate"), (mmap, "mmap")],
    "epoll": [(Epoll, "__init__")],
    "watch": [(Epoll, "register")],
}
# How such a call fails where MiniFlow runs: too many files or processes, no memory, a full or broken disk, a sandbox.
ERRORS: dict[str, list[int]] = {
    "open": [errno.EMFILE, errno.ENOSPC],
    "file": [errno.EMFILE, errno.EIO],
    "write": [errno.ENOSPC, errno.EIO],
    "read": [errno.EIO],
    "close": [errno.EIO],
    "rename": [errno.ENOSPC],
    "link": [errno.ENOSPC, errno.EMLINK],
    "mkdir": [errno.ENOSPC],
    "symlink": [errno.ENOSPC, errno.EPERM],
    "unlink": [errno.EIO],
    "stat": [errno.EIO],
    "pipe": [errno.EMFILE],
    "socketpair": [errno.EMFILE],
    "thread": [errno.EAGAIN],
    "spawn": [errno.EAGAIN, errno.ENOMEM],
    "pidfd": [errno.EMFILE, errno.ENOSYS],
    "waitid": [errno.EPERM],
    "killpg": [errno.EPERM],
    "flock": [errno.ENOLCK, errno.EIO],
    "dup": [errno.EMFILE],
    "memfd": [errno.EMFILE, errno.EACCES],
    "memory": [errno.ENOSPC, errno.ENOMEM],
    "epoll": [errno.EMFILE],
    "watch": [errno.ENOSPC],
}
# Reading the own pipe to a child that is being started, and closing what is no file.
NEVER_FAILS: dict[str, Callable[[tuple[Any, ...]], bool]] = {
    "read": lambda _: sys._getframe(2).f_globals["__name__"] == "subprocess",
    "close": lambda args: not stat.S_ISREG(os.fstat(args[0]).st_mode),
}


def inject(kind: str, index: int, number: int, calls: mmap.mmap) -> None:
    """Let the call of that index, from 0, fail. The calls are counted in `calls`, which our parent shares.

    A call that fails closes its descriptor all the same if it is `close`, as on Linux.
    """
    made = 0

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            if kind in NEVER_FAILS and NEVER_FAILS[kind](args):
                return real(*args, **kwargs)
            mine, made = made, made + 1
            struct.pack_into("i", calls, 0, made)
            if mine != index:
                return real(*args, **kwargs)
            if kind == "close":
                real(*args, **kwargs)
            if kind == "thread":
                raise RuntimeError("can't start new thread")
            if kind in ("open", "file", "rename", "mkdir", "symlink", "unlink"):
                raise OSError(number, os.strerror(number), args[0])
            raise OSError(number, os.strerror(number))

        return call

    def register(epoll: Epoll, *args: Any) -> None:
        epoll._epoll.register(*args)

    select.epoll = Epoll  # type: ignore[misc, assignment]
    selectors.EpollSelector._selector_cls = Epoll  # type: ignore[attr-defined]
    Epoll.register = register  # type: ignore[attr-defined]
    if kind == "disk":
        os.write = on_a_disk_with(index, number, calls)
        return
    for place, name in PLACES[kind]:
        setattr(place, name, failing(getattr(place, name)))


def on_a_disk_with(room: int, number: int, calls: mmap.mmap) -> Callable[[int, bytes], int]:
    """Return an `os.write` to a disk with so many bytes of room. All that was wanted is counted in `calls`."""
    real = os.write
    wanted = 0

    def write(descriptor: int, data: bytes) -> int:
        nonlocal wanted
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or descriptor < 3:
            return real(descriptor, data)
        left = max(0, room - wanted)
        if data and not left:
            wanted += len(data)
            struct.pack_into("i", calls, 0, wanted)
            raise OSError(number, os.strerror(number))
        written = real(descriptor, memoryview(data)[:left])  # what still fits, as the kernel does
        wanted += written
        struct.pack_into("i", calls, 0, wanted)
        return written

    return write


def wait_ended(pid: int) -> int:
    """Return the wait status of a child that has ended or, if it hangs, was killed."""
    descriptor = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(descriptor)
    if not poll.poll(PATIENCE_MS):
        os.kill(pid, signal.SIGABRT)
    _, status = os.waitpid(pid, 0)
    os.close(descriptor)
    return status


def reap_leftovers() -> list[str]:
    """Reap whoever the command has left behind; return the command lines of those who still ran.

    The guardian of the run alone may do so for a moment: it sees our end, and ends.
    """
    left = []
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := children.read_text().split():
        for pid in pids:
            line = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")  # a zombie has none
            if line and "guardian.py" not in line:
                left.append(line)
                os.kill(int(pid), signal.SIGKILL)
            if os.WIFSIGNALED(wait_ended(int(pid))) and "guardian.py" in line:
                left.append(line)
    return left


def serve() -> None:
    # Whoever is orphaned becomes our child, so that nobody can be overlooked.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    calls = mmap.mmap(-1, 4)
    for line in sys.stdin:
        case = json.loads(line)
        struct.pack_into("i", calls, 0, 0)
        pid = os.fork()
        if pid == 0:
            os.chdir(case["folder"])
            for descriptor, flags, name in (
                (0, os.O_RDONLY, os.devnull),
                (1, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "stdout"),
                (2, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "stderr"),
            ):
                opened = os.open(name, flags, 0o600)
                os.dup2(opened, descriptor)
                os.close(opened)
            os.environ.update(case["env"])
            sys.argv = ["miniflow", *case["args"]]
            inject(case["kind"], case["index"], case["errno"], calls)
            main()
            raise AssertionError("main returned")
        status = wait_ended(pid)
        answer = {
            "status": os.waitstatus_to_exitcode(status),
            "calls": struct.unpack_from("i", calls, 0)[0],
            "left": reap_leftovers(),
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
