"""What a command owes to whoever called it: a sound start, and an end that says why."""

from __future__ import annotations

import os
import signal
import sys


def settle() -> None:
    """Undo what a caller may have done to this process, before anything else depends on it; tasks would inherit it."""
    # Ignored, it would let the kernel throw away the exit status of every task.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ}:  # Python's own business
        if signal.getsignal(number) == signal.SIG_IGN:
            # Ignored still (nohup), but by a handler: tasks do not inherit that.
            signal.signal(number, ignore)


def ignore(number: int, frame: object) -> None:
    """Do nothing: the handler of signals that our caller has told us to ignore."""


def reopen_standard_streams() -> None:
    """Open what our caller has closed of them: the next file opened would become standard output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one.
            os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)
    # Python has None for a stream that was closed.
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def die_by(number: int) -> None:
    """End this process by a signal, so that a shell, cron or make sees why it ended."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
