"""The event loop of the command line, on Linux: asyncio's own, with a selector that knows processes.

In somebody else's loop a poller of ours is one more descriptor: when a process has ended, that wakes the loop, the loop looks
at our poller, and whoever awaits the process goes on in the next turn. Here the loop's own poller watches the processes, and
who awaits one goes on in the turn in which its end was seen.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import select
import selectors
from collections.abc import Callable

from miniflow.executors.watch import AT_ONCE, AsyncioWatch, Watch, Watches


class _Selector(selectors.EpollSelector):
    """Tells watches what is theirs, and the event loop the rest."""

    def __init__(self) -> None:
        super().__init__()
        # The same poller by a name of our own: `selectors` keeps its own for itself.
        try:
            self.epoll = select.epoll.fromfd(fcntl.fcntl(self.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))
        except OSError:
            super().close()
            raise
        self.watches: dict[int, AsyncioWatch] = {}
        """By descriptor."""
        self.before_waiting: Callable[[], None] | None = None
        """Called once, where there is nothing to tell, before that is waited for."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # In whole milliseconds, and rather later than sooner, as `EpollSelector` does it.
        seconds = -1 if timeout is None else math.ceil(timeout * 1e3) * 1e-3 if timeout > 0 else 0
        while True:
            call = self.before_waiting if seconds else None
            told = self.epoll.poll(seconds if call is None else 0, AT_ONCE)
            if call is not None and not told:
                self.before_waiting = None
                call()
                return []  # not to wait: there may be something to do now
            found = []
            wakes = False
            for descriptor, events in told:
                watch = self.watches.get(descriptor)
                if watch is not None:
                    wakes = watch.tell(descriptor, events) or wakes
                    continue
                key = self.get_map().get(descriptor)
                if key is not None:
                    reads = selectors.EVENT_READ if events & ~select.EPOLLOUT else 0
                    writes = selectors.EVENT_WRITE if events & ~select.EPOLLIN else 0
                    found.append((key, (reads | writes) & key.events))
            if wakes or found or seconds != -1:
                return found
            # A process is about to end, and that is no reason for a turn of the event loop.

    def close(self) -> None:
        self.epoll.close()
        super().close()


class _LoopWatches(Watches):
    def __init__(self, loop: asyncio.AbstractEventLoop, selector: _Selector) -> None:
        self._loop = loop
        self._selector = selector

    def new(self) -> Watch:
        """See `Watches.new`."""
        return AsyncioWatch(self._loop, self._selector.epoll, self._selector.watches)

    def before_waiting(self, call: Callable[[], None]) -> bool:
        """See `Executor.before_waiting`."""
        self._selector.before_waiting = call
        return True

    def close(self) -> None:
        """See `Watches.close`."""
        self._selector.before_waiting = None


class RunnerLoop(asyncio.SelectorEventLoop):
    """An event loop that watches processes as it watches all else."""

    def __init__(self, selector: _Selector) -> None:
        super().__init__(selector)
        self._processes = selector

    def process_watches(self) -> Watches:
        """Return what makes watches of this loop's own; see `watch.new_watches`."""
        return _LoopWatches(self, self._processes)


def new_loop() -> RunnerLoop:
    """Return a new event loop.

    Raises:
        OSError: No descriptor or memory is left.
    """
    return RunnerLoop(_Selector())  # one after the other: a loop that was made in part complains when it is deleted
