"""What a command owes to whoever called it: a sound start, and an end that says why.

SIGINT, SIGTERM and SIGHUP end it at any instant, by the system's own default: but for a run, which is told of them
(`StopSignals`), and for the writing of a file, which they wait for (`Deferred`).
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # itself: what `signal` adds are enums, which take long to load
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def settle() -> None:
    """Undo what a caller may have done to this process, before anything else depends on it; tasks would inherit it."""
    # Ignored, it would let the kernel throw away the exit status of every task.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in signal.valid_signals() - {signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ}:  # Python's own business
        if signal.getsignal(number) == signal.SIG_IGN:
            # Ignored still (nohup), but by a handler: tasks do not inherit that.
            signal.signal(number, ignore)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def ignore(number: int, frame: object) -> None:
    """Do nothing: the handler of signals that our caller has told us to ignore."""


def stay_deaf() -> None:
    """Ignore to the very end what our caller has told us to ignore: Python takes the handlers away before it is done."""
    ignored = [number for number in signal.valid_signals() if signal.getsignal(number) is ignore]
    # Python complains of one that comes just while its handler is taken away.
    signal.pthread_sigmask(signal.SIG_BLOCK, ignored)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ignored)


def reopen_standard_streams() -> None:
    """Open what our caller has closed of them: the next file opened would become standard output. What they lack is escaped."""
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
    if sys.stdout.errors == "strict":  # a character that a locale lacks is no reason to say nothing at all
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


class Deferred:
    """Lets signals that would stop us wait for the end of its block, which is a short one: what that writes is left whole."""

    def __enter__(self) -> None:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


class StopSignals:
    """Hears signals from now on, for an event loop to act on; once nobody does any more, they end this process.

    The event loop's own way to hear signals ends in Python's default for SIGINT, a KeyboardInterrupt out of anywhere.
    """

    def __init__(self) -> None:
        # A signal that our caller has told us to ignore (nohup) stays ignored.
        self._heard = {number for number in STOP_SIGNALS if signal.getsignal(number) is not ignore}
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)
        self._is_over = False
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in self._heard:
            signal.signal(number, self._hear)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a signal has come."""
        return self._read_end

    def take(self) -> list[int]:
        """Return the signals that have come, without waiting."""
        try:
            return [number for number in os.read(self._read_end, 4096) if number in self._heard]
        except BlockingIOError:
            return []

    def end_by_the_next(self) -> None:
        """From now on a signal ends this process at once; so does one that has come and was not taken.

        The handlers stay as they are: Python complains of a signal that comes just while its handler is taken away.
        """
        self._is_over = True
        for number in self.take():
            die_by(number)

    def _hear(self, number: int, frame: object) -> None:
        if self._is_over:
            die_by(number)


def die_by(number: int) -> NoReturn:
    """End this process by a signal, so that a shell, cron or make sees why it ended."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a container does not die by a signal of its own
