"""The runner's end of the lifeline: when it breaks, the guardian ends those of whom is noted here that they run."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

from miniflow import guardian
from miniflow.errors import HostError
from miniflow.files import close_kept, keep_from_forks
from miniflow.guardian import ASKED_AT, LEADER_AT, NOTHING, SLOT_BYTES, Guarded, noted, noted_leader, noted_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap

_SLOTS_AT_ONCE = 64
"""How many more there is made room for when one more is needed."""
_NEEDED = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME")
"""What an interpreter may need to start. Nothing else of our environment: by what a run's tasks have in theirs, a guardian
within a task, of a run within a run, would be taken for a part of the task, and ended before its time."""


class Lifeline:
    """Starts a guardian, and notes for it which attempts run. Does nothing until it is opened, or where there is none.

    Noting never fails. A guardian that was killed or stopped is replaced by another when the next attempt begins.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Opening is slow, and may go on in a thread when somebody closes."""
        self._is_wanted = False
        self._is_closed = False
        self._flow = ""
        self._guardian: _Guardian | None = None
        self._memory = -1
        """What the guardian reads once we have died; see `guardian.recall`. Kept from forks: theirs is not to be changed."""
        self._notes: mmap.mmap | None = None
        """The same, mapped as far as there is room for notes: several writes a task are no system calls."""
        self._pid = os.getpid()
        """Who may write there: what is mapped is not kept from forks."""
        self._running: dict[Guarded, int] = {}
        """Each attempt that runs, and the slot where it is noted."""
        self._unnoted: set[Guarded] = set()
        """Those for which there was no memory."""
        self._free: list[int] = []

    def open(self, flow: str) -> None:
        """Start the guardian of a run of this flow, unless it was before.

        Does not wait until it is up: what is noted meanwhile, it reads then.

        Raises:
            HostError: It cannot be started.
        """
        with self._lock:
            if self._is_wanted or self._is_closed or not guardian.is_supported():
                return
            self._flow = flow
            try:
                self._memory = _nameless_file()
                keep_from_forks(self._memory)
                self._guardian = _Guardian(flow, self._memory)
            except OSError as error:
                self._forget()
                raise HostError(
                    f"cannot start the process that ends the tasks if miniflow dies: {error.strerror or error}; "
                    "raise the limits of processes and open files (ulimit -u, ulimit -n)"
                ) from error
            self._is_wanted = True

    def begin(self, marks: tuple[bytes, ...]) -> Guarded:
        """Say that an attempt is about to be started; return what is known of it.

        Args:
            marks: What its processes have in their environment, and nobody else has.
        """
        attempt = Guarded(marks)
        slot = self._running[attempt] = self._free.pop() if self._free else len(self._running)
        if self._is_wanted:
            if not self._begin_slot(slot, marks):
                self._unnoted.add(attempt)
            if self._guardian is None or not self._guardian.is_listening():
                self._replace_guardian()
        return attempt

    def started(self, attempt: Guarded, pid: int, start_time: int | None) -> None:
        """Say which process leads an attempt."""
        if start_time is None:
            attempt.leader = pid  # not noted: the number may be another's once it is read
            return
        attempt.led_by(pid, start_time)
        self._note(attempt, noted_leader(pid, start_time), LEADER_AT)

    def stopping(self, attempt: Guarded) -> None:
        """Say that an attempt was asked to end."""
        attempt.asked_at = time.monotonic()
        self._note(attempt, noted_request(attempt.asked_at), ASKED_AT)

    def ended(self, attempt: Guarded) -> None:
        """Say that nothing is left of an attempt."""
        slot = self._running.pop(attempt)
        self._unnoted.discard(attempt)
        self._write(slot, NOTHING)
        self._free.append(slot)

    def close(self) -> None:
        """End the guardian: nothing runs any more. Takes about as long as a system call.

        If something does, as a KeyboardInterrupt has come in the midst of starting or ending it, the guardian ends that first.
        """
        with self._lock:
            self._is_closed = True
            self._is_wanted = False
            if self._guardian is not None:
                self._guardian.close(kill=not self._running)
                self._guardian = None
            self._forget()

    def _forget(self) -> None:
        self._notes = None
        if self._memory >= 0:
            close_kept(self._memory)
            self._memory = -1

    def _note(self, attempt: Guarded, content: bytes, at: int) -> None:
        slot = self._running[attempt]
        if attempt in self._unnoted and self._begin_slot(slot, attempt.marks):
            self._unnoted.discard(attempt)
        self._write(slot, content, at)

    def _begin_slot(self, slot: int, marks: tuple[bytes, ...]) -> bool:
        """Note an attempt; return whether that is there. Its length comes last: until then there is nothing in the slot."""
        length, text = noted(marks)
        return self._write(slot, text, len(length)) and self._write(slot, length)

    def _write(self, slot: int, content: bytes, at: int = 0) -> bool:
        """Write a part of a slot; return whether it is there, if it is wanted."""
        if not self._is_wanted or os.getpid() != self._pid:
            return True
        start = slot * SLOT_BYTES + at
        if self._notes is None or start >= len(self._notes):
            try:
                self._notes = self._make_room((slot // _SLOTS_AT_ONCE + 1) * _SLOTS_AT_ONCE * SLOT_BYTES)
            except OSError:
                # No memory, for the moment. Better an attempt that is not guarded than a run that ends for it.
                return False
        self._notes[start : start + len(content)] = content
        return True

    def _make_room(self, size: int) -> mmap.mmap:
        """Return so much of the memory, to be written to. There is some for all of it: to write where there is none is deadly.

        Raises:
            OSError: There is not.
        """
        import mmap  # here, as it is loaded while the guardian starts

        os.posix_fallocate(self._memory, 0, size)
        return mmap.mmap(self._memory, size)

    def _replace_guardian(self) -> None:
        if self._guardian is not None:
            self._guardian.close()
            self._guardian = None
        try:
            self._guardian = _Guardian(self._flow, self._memory)
        except OSError:
            # Short of something, for the moment: tried again whenever an attempt begins. Better a run that is not guarded for a
            # while than one that ends for it.
            return


def _nameless_file() -> int:
    try:
        descriptor = os.memfd_create("miniflow")
    except (AttributeError, OSError):  # a Python for old systems, or a sandbox
        import tempfile  # takes long to load

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)  # the guardian's standard streams are others
    finally:
        os.close(descriptor)


class _Guardian:
    """The process, and the pipe whose end tells it of ours.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, flow: str, memory: int) -> None:
        theirs, self._lifeline = os.pipe()
        try:
            try:
                popen = subprocess.Popen(  # noqa: S603  our own interpreter, our own program
                    [sys.executable or "python3", "-sSP", guardian.__file__, str(os.getpid()), str(memory), flow],
                    stdin=theirs,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={name: os.environ[name] for name in _NEEDED if name in os.environ},
                    start_new_session=True,
                    pass_fds=(memory,),
                )
            finally:
                os.close(theirs)
            try:
                self._pidfd = os.pidfd_open(popen.pid)
            except BaseException:
                popen.kill()
                popen.wait()
                raise
        except BaseException:
            os.close(self._lifeline)
            raise
        popen.returncode = 0  # reaped by `close`
        keep_from_forks(self._lifeline)
        keep_from_forks(self._pidfd)

    def is_listening(self) -> bool:
        """Return whether it is there, and was not stopped."""
        try:
            return os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is None
        except OSError:  # our host has reaped it; or we are a fork of the runner, and it is none of ours
            return False

    def close(self, *, kill: bool = True) -> None:
        """Kill it and reap it: it takes no notice of anything else, and may not even be up yet. Or leave it to do its work."""
        try:
            if not kill:
                return
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        except OSError:
            pass  # our host has reaped it; or we are a fork of the runner, and it is none of ours
        finally:
            close_kept(self._pidfd)
            close_kept(self._lifeline)
