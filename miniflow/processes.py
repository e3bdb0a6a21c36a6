"""Processes that nobody waits for any more: when they were started, and how to end those of a run that is over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping

from miniflow import guardian
from miniflow.guardian import start_time

__all__ = ["end_leftovers", "start_time"]

_POLL_S = 0.02
KILL_WAIT_S = 10.0
"""How long to wait for a process that was killed; one in an uninterruptible system call may stay."""
UNDECIDED_WAIT_S = 10.0
"""How long to look again at one that is becoming another program, and may be ours: see `guardian.read_environ`."""


def end_leftovers(run_id: str, leaders: Mapping[int, int | None], grace_s: float) -> list[int]:
    """End what still runs of a run whose runner has died; return the pids of those that have ended by it. Blocks.

    A leftover has `MINIFLOW_RUN_ID=<run_id>` in its environment, and it is the process that the run started (pid and start
    time both equal) or in the session that this one made (and started no earlier). All of it must hold, or it is not touched:
    a pid may be somebody else's by now. First SIGTERM (and SIGCONT), after the grace period SIGKILL.

    Args:
        run_id: Of the old run.
        leaders: Each pid that it started and whose end it has not recorded, with its start time (see `start_time`). One whose
            start time is not known is left alone.
        grace_s: Seconds between the two signals.

    Does nothing where processes cannot be found: on a system other than Linux.
    """
    if not leaders or not guardian.is_supported():
        return []
    mark = b"MINIFLOW_RUN_ID=" + os.fsencode(run_id)
    began = time.monotonic()
    deadline = began + grace_s
    seen: set[tuple[int, int]] = set()
    while True:
        found, is_undecided = _leftovers(mark, leaders)
        late = time.monotonic() - deadline
        if late > KILL_WAIT_S or not (found or (is_undecided and time.monotonic() - began < UNDECIDED_WAIT_S)):
            return sorted(pid for pid, _ in seen - set(found))
        for pid, started in found:
            if late >= 0:
                guardian.send(pid, started, signal.SIGKILL)
            elif (pid, started) not in seen:
                guardian.send(pid, started, signal.SIGTERM, signal.SIGCONT)
        seen.update(found)
        time.sleep(_POLL_S)


def _leftovers(mark: bytes, leaders: Mapping[int, int | None]) -> tuple[list[tuple[int, int]], bool]:
    """Return the leftovers, and whether there is somebody of whom it cannot be said at this moment."""
    found = []
    is_undecided = False
    for pid in list(guardian.pids()):
        try:
            leader = os.getsid(pid)
        except ProcessLookupError:
            continue
        if leader not in leaders:
            continue
        stat, earliest = guardian.read_stat(pid), leaders[leader]
        if stat is None or not stat.is_alive or stat.session != leader or earliest is None:
            continue
        is_it = stat.start_time == earliest if pid == leader else stat.start_time >= earliest
        if not is_it:
            continue
        has_mark = guardian.has_marks(pid, (mark,))
        if has_mark:
            found.append((pid, stat.start_time))
        is_undecided = is_undecided or has_mark is None
    return found, is_undecided
