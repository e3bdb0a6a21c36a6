"""A run's guardian: a process of its own that ends the run's tasks when the runner has died, be it by `kill -9`.

    python guardian.py RUNNER_PID MEMORY FLOW        (the flow's name is for people who list processes)

Its standard input is the end of a pipe, the *lifeline*, whose other end the runner holds and never writes to. MEMORY is a
descriptor of a file without a name, where the runner notes which attempts run: that survives the runner, and wakes nobody as
long as the runner lives. Once it has gone, whoever belongs to these attempts is asked to end and, less than a second later,
killed. What belongs to an attempt is found through /proc, by its session and by its environment: see `search`, which the runner
uses itself when it stops an attempt. A process that has left the session *and* cleared its environment is not found.

This module imports nothing but a little of the standard library, so that it starts in milliseconds.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # itself: what `signal` adds are enums, half of the time to load
import os
import select
import sys
import time

TYPE_CHECKING = False  # importing typing takes longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

GRACE_S = 0.75
"""Between SIGTERM and SIGKILL, once the runner has died. Two seconds in all are promised, on a busy machine as well."""
LOOK_EVERY_S = 0.05
QUIET_S = 0.5
"""How long nobody must be found before it is over: while it becomes another program nobody knows whose a process is."""
GIVE_UP_S = 30.0
"""Some processes cannot be killed."""

_READ_BYTES = 64 * 1024
_SHORT_OF_DESCRIPTORS = (23, 24)  # ENFILE and EMFILE


class Guarded:
    """What is known of an attempt, to find its processes by."""

    __slots__ = ("asked_at", "leader", "marks", "sessions")

    def __init__(self, marks: tuple[bytes, ...]) -> None:
        self.marks = marks
        """Entries of the environment (`NAME=value`) that its processes have, all of them; nobody else has all of them."""
        self.leader: int | None = None
        """The pid of its first process, and hence its group; None as long as it is not known."""
        self.sessions: dict[int, int] = {}
        """Each session known to be of it, with the start time of the process that made it: a number may be used again."""
        self.asked_at: float | None = None
        """When it was asked to end, if it was, by the monotonic clock."""

    def led_by(self, pid: int, started: int) -> None:
        """Note its first process, which has made a session and a group."""
        self.leader = pid
        self.sessions[pid] = started


# --- what is noted of each attempt in a slot of the file: a length, and fields that are each ended by a zero byte. Those that
# --- become known later are as long as they ever get, so that each can be written by itself.

SLOT_BYTES = 1024
_LENGTH_BYTES = 2
NOTHING = bytes(_LENGTH_BYTES)
"""The beginning of a slot that is free."""
_NS = 1_000_000_000


def noted(marks: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    """Return the content of the slot of an attempt that is about to be started: its length, and what follows on that."""
    text = _NOT_KNOWN_YET + b"\0".join((*marks, b""))
    assert _LENGTH_BYTES + len(text) <= SLOT_BYTES
    return len(text).to_bytes(_LENGTH_BYTES, "big"), text


def noted_leader(pid: int, started: int) -> bytes:
    """Return what stands at `LEADER_AT` in a slot: the attempt's first process, and its start time."""
    return b"%10d\0%20d\0" % (pid, started)


def noted_request(asked_at: float) -> bytes:
    """Return what stands at `ASKED_AT` in a slot: when the attempt was asked to end, by the monotonic clock."""
    return b"%20d\0" % int(asked_at * _NS)


LEADER_AT = _LENGTH_BYTES
ASKED_AT = LEADER_AT + len(noted_leader(0, 0))
_NOT_KNOWN_YET = noted_leader(0, 0) + noted_request(0)


def recall(memory: int) -> list[Guarded]:
    """Return the attempts that are noted in a file."""
    attempts = []
    for slot in range(0, os.fstat(memory).st_size, SLOT_BYTES):
        content = os.pread(memory, SLOT_BYTES, slot)
        text = content[_LENGTH_BYTES:][: int.from_bytes(content[:_LENGTH_BYTES], "big")]
        if not text:
            continue
        try:
            leader, leader_started, asked_at, *marks, _ = text.split(b"\0")
        except ValueError:
            continue  # which should not be; the others are to be ended all the same
        attempt = Guarded(tuple(marks))
        pid, started = _number(leader), _number(leader_started)
        if pid and started:
            attempt.led_by(pid, started)
        attempt.asked_at = _number(asked_at) / _NS or None
        attempts.append(attempt)
    return attempts


def _number(field: bytes) -> int:
    """Return the number in a field; 0 if the runner was killed while it wrote that, and not all of it is there."""
    try:
        return int(field)
    except ValueError:
        return 0


# --- looking for processes


def is_supported() -> bool:
    """Return whether processes can be found and signalled safely here: Linux 5.4 or newer, with /proc and pidfds."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return error.errno in _SHORT_OF_DESCRIPTORS
    return os.path.exists("/proc/self/environ")


class Stat:
    """Some of /proc/PID/stat."""

    __slots__ = ("_environ", "group", "session", "start_time", "state")

    def __init__(self, text: bytes) -> None:
        fields = text.rpartition(b")")[2].split()  # the command's name before it may hold anything
        self.state = fields[0]
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.start_time = int(fields[19])
        """Clock ticks since boot: with the pid it names a process for as long as the system is up."""
        self._environ = fields[47:49]

    @property
    def is_alive(self) -> bool:
        return self.state not in (b"Z", b"X", b"x")

    @property
    def has_empty_environ(self) -> bool:
        """Whether it was started without any variable; not so while it has no memory yet to hold them."""
        begin, end = self._environ
        return begin == end != b"0"


def read_stat(pid: int) -> Stat | None:
    """Return what the system knows of a process; None if there is none, or no /proc."""
    try:
        text = _read(f"/proc/{pid}/stat")
    except PermissionError:
        return None
    return Stat(text) if text else None


def start_time(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; None if there is none, or no /proc.

    It is the same for the whole life of a process, and known also of a zombie.
    """
    stat = read_stat(pid)
    return None if stat is None else stat.start_time


def is_alive(pid: int, started: int) -> bool:
    """Return whether the process that has this pid and start time is there, and no zombie."""
    stat = read_stat(pid)
    return stat is not None and stat.start_time == started and stat.is_alive


def has_marks(pid: int, marks: tuple[bytes, ...]) -> bool | None:
    """Return whether a process was started with all these entries (`NAME=value`) in its environment.

    What it has changed in it since does not count. Whose environment may not be read has none. None if that cannot be said at
    this moment, see `read_environ`.
    """
    environ = read_environ(pid)
    if environ is None:
        return None
    if not all(mark in environ for mark in marks):
        return False
    entries = environ.split(b"\0")
    return all(mark in entries for mark in marks)


def read_environ(pid: int) -> bytes | None:
    """Return the environment that a process was started with; nothing if there is no such process, or it is none of ours.

    None while it becomes another program: between the old environment and the new one there is none, for as long as it takes to
    read the program from the disk. Kernel threads have none for ever.
    """
    try:
        environ = _read(f"/proc/{pid}/environ")
    except PermissionError:
        return b""
    if environ:
        return environ
    stat = read_stat(pid)
    return b"" if stat is None or not stat.is_alive or stat.has_empty_environ else None


def pids() -> Iterator[int]:
    """Yield the ids of all processes there are."""
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                yield int(entry.name)


def is_group_alive(group: int) -> bool:
    """Return whether somebody in a process group is no zombie; True where that cannot be seen. Takes about 4 µs a process."""
    try:
        for pid in pids():
            try:
                if os.getpgid(pid) != group:
                    continue
            except (ProcessLookupError, PermissionError):
                continue
            stat = read_stat(pid)
            if stat is not None and stat.is_alive:
                return True
    except OSError:  # no /proc, or no descriptor left to look at it
        return True
    return False


def search(
    attempts: Collection[Guarded], among: Collection[int] | None = None, undecided: set[int] | None = None
) -> Iterator[tuple[Guarded, int, Stat] | None]:
    """Look at every process there is, once; yield each that belongs to one of the attempts, and None for each other.

    A process belongs to an attempt if it has the attempt's marks, or if it is in a session that the attempt's leader has made
    or somebody with its marks has. Zombies are passed over. Takes about 20 µs a process.

    Args:
        attempts: Whose processes are looked for.
        among: Pids; None: all.
        undecided: Gets the pids of those who are to be looked at again, as whose they are cannot be said: see `read_environ`.
    """
    again = set() if undecided is None else undecided
    by_session = {session: attempt for attempt in attempts for session in attempt.sessions}
    by_mark: dict[bytes, list[Guarded]] = {}
    for attempt in attempts:
        if attempt.marks:
            by_mark.setdefault(attempt.marks[-1], []).append(attempt)
    marked = [set(attempt.marks) for attempt in attempts if attempt.marks]
    common = tuple(set.intersection(*marked)) if marked else ()
    for pid in pids() if among is None else among:
        yield _in_session(pid, by_session) or (_with_marks(pid, by_mark, common, again) if marked else None)


def _in_session(pid: int, by_session: dict[int, Guarded]) -> tuple[Guarded, int, Stat] | None:
    try:
        session = os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None
    attempt = by_session.get(session)
    if attempt is None:
        return None
    stat = read_stat(pid)
    if stat is None or not stat.is_alive or stat.session != session:
        return None
    # Once its maker and all others have gone, the session's number may be that of somebody else's.
    if start_time(session) not in (None, attempt.sessions[session]):
        return None
    return attempt, pid, stat


def _with_marks(
    pid: int, by_mark: dict[bytes, list[Guarded]], common: tuple[bytes, ...], undecided: set[int]
) -> tuple[Guarded, int, Stat] | None:
    environ = read_environ(pid)
    if environ is None:
        if not _is_of_the_kernel(pid):
            undecided.add(pid)
        return None
    for mark in common:
        if mark not in environ:
            return None
    entries = set(environ.split(b"\0"))
    for mark in entries & by_mark.keys():
        for attempt in by_mark[mark]:
            if entries.issuperset(attempt.marks):
                stat = read_stat(pid)
                # Looked at again, so that what was read is of one process: its pid may have become another's in between.
                has_still = has_marks(pid, attempt.marks)
                if stat is not None and stat.is_alive and has_still:
                    if stat.session == pid:
                        attempt.sessions[pid] = stat.start_time
                    return attempt, pid, stat
                if has_still is None:
                    undecided.add(pid)
    return None


def _is_of_the_kernel(pid: int) -> bool:
    try:
        return os.getsid(pid) == 0
    except (ProcessLookupError, PermissionError):
        return False


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


def _read(path: str) -> bytes:
    """Return a file of /proc; nothing if its process has gone.

    Raises:
        PermissionError: It is none of ours.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return b""
    data = b""
    try:
        while part := os.read(descriptor, _READ_BYTES):
            data += part
    except ProcessLookupError:  # it has gone since
        return data
    finally:
        os.close(descriptor)
    return data


# --- the guardian itself


def end(attempts: Collection[Guarded]) -> None:
    """End whoever belongs to these attempts, and return when nobody has been found for a while."""
    began = time.monotonic()
    _take_precedence()
    # Whom the runner has asked already has had some of its time, and is not asked twice: many take that for an order.
    kill_at = {attempt: (began if attempt.asked_at is None else attempt.asked_at) + GRACE_S for attempt in attempts}
    asked: set[tuple[int, int]] = set()
    for attempt in attempts:
        if attempt.asked_at is None:
            _signal_group(attempt, signal.SIGTERM, signal.SIGCONT)
    last_seen = began
    while True:
        now = time.monotonic()
        for attempt in attempts:
            if now >= kill_at[attempt]:
                _signal_group(attempt, signal.SIGKILL)
        next_kill = min((at for at in kill_at.values() if at > now), default=float("inf"))
        for found in search(attempts):
            if time.monotonic() >= next_kill:
                break  # it comes before the rest of the look
            if found is None:
                continue
            attempt, pid, stat = found
            last_seen = now
            if now >= kill_at[attempt]:
                send(pid, stat.start_time, signal.SIGKILL)
            elif attempt.asked_at is None and stat.group != attempt.leader and (pid, stat.start_time) not in asked:
                asked.add((pid, stat.start_time))
                send(pid, stat.start_time, signal.SIGTERM, signal.SIGCONT)
        now = time.monotonic()
        if now >= next_kill:
            last_seen = now  # the look was not whole
            continue
        if now - last_seen >= QUIET_S or now - began >= GIVE_UP_S:
            return
        time.sleep(min(LOOK_EVERY_S, next_kill - now))


def _take_precedence() -> None:
    """Run before others, where we may: where a runner is killed, the machine may well be overloaded."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    except PermissionError:  # for root alone
        return


def _signal_group(attempt: Guarded, *numbers: int) -> None:
    """Signal the group of an attempt as a whole: one by one, some could start others faster than they are found."""
    if attempt.leader is None:
        return
    if start_time(attempt.leader) not in (None, attempt.sessions[attempt.leader]):
        return  # the number is another's
    try:
        for number in numbers:
            os.killpg(attempt.leader, number)
    except (ProcessLookupError, PermissionError):
        return


def guard(lifeline: int, memory: int, runner: int) -> None:
    """Wait until the runner has died or has let go of the lifeline; then end what it has left running.

    Both are looked at: a child that the runner's host has forked may hold the lifeline, and a host may let go of it and live.
    """
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    try:
        poll.register(os.pidfd_open(runner), select.POLLIN)
        has_died = os.getppid() != runner  # then the descriptor may be of another
    except ProcessLookupError:
        has_died = True
    if not has_died:
        poll.poll()
    if attempts := recall(memory):
        end(attempts)


def main() -> None:
    """Guard the runner that has started us."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever ends everybody politely ends the runner too, and that is our time
    guard(0, int(sys.argv[2]), int(sys.argv[1]))


if __name__ == "__main__":
    main()
