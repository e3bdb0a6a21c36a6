"""Finds processes by what they carry, through /proc.

This module imports nothing but a little of the standard library, so that it starts in milliseconds as a program of its own.
"""

from __future__ import annotations

import os
import signal
import sys

_READ_BYTES = 64 * 1024


def is_supported() -> bool:
    """Return whether processes can be found and signalled safely here: Linux 5.3 or newer, with /proc and pidfds."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:  # what is short of descriptors only is supported
        return error.errno in _SHORT_OF_DESCRIPTORS
    return os.path.exists("/proc/self/environ")


_SHORT_OF_DESCRIPTORS = (23, 24)  # ENFILE and EMFILE; a module for two numbers takes its time to import


class Stat:
    """Some of /proc/PID/stat."""

    __slots__ = ("group", "session", "start_time", "state")

    def __init__(self, text: bytes) -> None:
        fields = text.rpartition(b")")[2].split()  # the command's name before it may hold anything
        self.state = fields[0]
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.start_time = int(fields[19])
        """Clock ticks since boot: with the pid it names a process for as long as the system is up."""

    @property
    def is_alive(self) -> bool:
        return self.state not in (b"Z", b"X", b"x")


def read_stat(pid: int) -> Stat | None:
    """Return what the system knows of a process; None if there is none, or no /proc."""
    text = _read(f"/proc/{pid}/stat")
    return Stat(text) if text else None


def start_time(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; None if there is none, or no /proc.

    It is the same for the whole life of a process, and known also of a zombie.
    """
    stat = read_stat(pid)
    return None if stat is None else stat.start_time


def has_marks(pid: int, marks: tuple[bytes, ...]) -> bool:
    """Return whether a process was started with all these entries (`NAME=value`) in its environment.

    What it has changed in it since does not count. Whose environment may not be read has none.
    """
    environ = _read(f"/proc/{pid}/environ")
    if not all(mark in environ for mark in marks):
        return False
    entries = environ.split(b"\0")
    return all(mark in entries for mark in marks)


def send(pid: int, started: int, *numbers: int) -> bool:
    """Send signals to the process that has this pid and start time, and never to another; return whether it is there."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # What is at the descriptor stays itself; if it has the right start time now, it is the one.
        if start_time(pid) != started:
            return False
        for number in numbers:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # it has become somebody else's: sudo
        return True
    finally:
        os.close(descriptor)
    return True


def pids() -> list[int]:
    """Return the ids of all processes there are."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(path: str) -> bytes:
    """Return a file of /proc; nothing if its process has gone, or is none of ours."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
    try:
        data = part = os.read(descriptor, _READ_BYTES)
        while len(part) == _READ_BYTES:
            part = os.read(descriptor, _READ_BYTES)
            data += part
    except (ProcessLookupError, PermissionError):
        return b""
    finally:
        os.close(descriptor)
    return data
