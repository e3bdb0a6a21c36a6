"""What a command owes to whoever called it: a sound start, and an end that says why."""

from __future__ import annotations

import os
import signal
import sys


def settle() -> None:
    """Undo what a caller may have done to this process, before anything else depends on it."""
    # Ignored, it would let the kernel throw away the exit status of every task.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # Closed: the next file opened would become standard output. The lowest free number is this one.
            os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)
    # Python has None for a stream that was closed.
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def die_by(number: int) -> None:
    """End this process by a signal, so that a shell, cron or make sees why it ended."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
