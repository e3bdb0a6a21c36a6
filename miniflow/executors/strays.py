"""Whoever of a stopped attempt has left its group, by making a session or a group of its own: found, asked to end, killed.

They are looked for only when an attempt is stopped or has run out of time: what a task leaves behind in a session of its own
when it ends by itself goes on, as it would from a shell.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable

import anyio
import anyio.lowlevel

from miniflow import guardian
from miniflow.guardian import Guarded, Stat

LOOK_AT_ONCE = 32
"""Processes to look at before others have their turn: about a millisecond's worth."""
AGAIN_S = 0.002
"""Before a look at those who are becoming another program: see `guardian.read_environ`."""


class Search:
    """Looks through all processes of the machine; once for all attempts that ask at the same moment."""

    def __init__(self) -> None:
        self._wanted: set[Guarded] = set()
        self._begun = 0
        self._done = 0
        self._found: dict[Guarded, list[tuple[int, Stat]]] = {}
        self._lock = anyio.Lock()

    def add(self, attempt: Guarded) -> None:
        """Look for this attempt's too."""
        self._wanted.add(attempt)

    def remove(self, attempt: Guarded) -> None:
        """Look for this attempt's no more."""
        self._wanted.discard(attempt)

    async def look(self, attempt: Guarded) -> list[tuple[int, Stat]]:
        """Return who belongs to an attempt that was added, as found by a look that has begun after this call.

        Raises:
            OSError: No descriptor is left to look with.
        """
        wanted = self._begun + 1
        while self._done < wanted:
            async with self._lock:
                if self._done < wanted:
                    self._begun += 1
                    number = self._begun
                    self._found, self._done = await self._look(), number
        return self._found.get(attempt, [])

    async def _look(self) -> dict[Guarded, list[tuple[int, Stat]]]:
        found: dict[Guarded, list[tuple[int, Stat]]] = {}
        among: set[int] | None = None
        deadline = time.monotonic() + guardian.QUIET_S
        while True:
            undecided: set[int] = set()
            for count, item in enumerate(guardian.search(self._wanted.copy(), among, undecided), 1):
                if item is not None:
                    found.setdefault(item[0], []).append(item[1:])
                if count % LOOK_AT_ONCE == 0:
                    await anyio.lowlevel.checkpoint()
            if not undecided or time.monotonic() >= deadline:
                return found
            among = undecided
            await anyio.sleep(AGAIN_S)


class Strays:
    """Those of one attempt. None are looked for until `begin`."""

    def __init__(self, search: Search, attempt: Guarded) -> None:
        self._search = search
        self._attempt = attempt
        self._known: set[tuple[int, int]] = set()
        """Pid and start time of those that were found and asked to end."""
        self.is_looking = False
        """Whether there must be none."""

    def begin(self) -> None:
        """From now on there must be none."""
        if not self.is_looking and guardian.is_supported():
            self.is_looking = True
            self._search.add(self._attempt)

    async def are_left(self, *, kill: bool) -> bool:
        """Return whether some are left; ask those that are new to end, or kill all."""
        if not self.is_looking:
            return False
        try:
            self._known = {known for known in self._known if guardian.is_alive(*known)}
            if not self._known:
                found = await self._search.look(self._attempt)
                self._known = self._of(found)
                if not kill:
                    self._send(signal.SIGTERM, signal.SIGCONT)
            if kill:
                self._send(signal.SIGKILL)
        except OSError:
            # No descriptor is left to look with. Others that end let go of some, and we are called again.
            return True
        return bool(self._known)

    def kill(self) -> None:
        """Kill those that are known."""
        with contextlib.suppress(OSError):  # no descriptor is left; `are_left` will try again
            self._send(signal.SIGKILL)

    def close(self, wait_s: float) -> None:
        """Look no more. If somebody may be left, as nothing can be awaited any more, kill them all here and now."""
        if not self.is_looking:
            return
        self.is_looking = False
        self._search.remove(self._attempt)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                undecided: set[int] = set()
                found = guardian.search([self._attempt], undecided=undecided)
                self._known = self._of(item[1:] for item in found if item is not None)
                if not self._known and not undecided:
                    return
                self._send(signal.SIGKILL)

    def end(self) -> None:
        """Look no more: nobody is left, or cannot be killed."""
        if self.is_looking:
            self.is_looking = False
            self._search.remove(self._attempt)

    def _of(self, found: Iterable[tuple[int, Stat]]) -> set[tuple[int, int]]:
        # Its group is not ours to signal: it is signalled as a whole.
        return {(pid, stat.start_time) for pid, stat in found if stat.group != self._attempt.leader}

    def _send(self, *numbers: int) -> None:
        for pid, started in self._known:
            guardian.send(pid, started, *numbers)
