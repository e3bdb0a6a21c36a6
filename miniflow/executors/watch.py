"""Watching descriptors until they are readable or at their end.

On asyncio one epoll object, with one reader on the event loop, watches all that the processes of a run are known by; where the
loop is ours it is the loop's own, see `loop`. Elsewhere each process has an epoll or kqueue object of its own, which is itself
one descriptor for an event loop to watch. (`selectors` has both as well, and takes twice as long for each of the three
descriptors of each process.)
"""

from __future__ import annotations

import select
import selectors
import sys
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.lowlevel

from miniflow.errors import InternalError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Sequence


class Watch(Protocol):
    """Tells which of some descriptors are readable, or have reached their end."""

    def add(self, *descriptors: int, pipes: Sequence[int] = ()) -> None:
        """Watch some more.

        Args:
            descriptors: Whatever happens to one of them ends a wait.
            pipes: That one of them is at its end, with nothing in it, need not end a wait before another descriptor `ended`.

        Raises:
            OSError: No memory is left.
        """

    def ready(self) -> Collection[int]:
        """Return those that are to be read: each until it was read empty, or has ended."""

    def again(self, descriptor: int, /) -> None:
        """Have `ready` return one again: it was read, and is not known to be empty."""

    def ended(self, descriptor: int, /) -> object:
        """Have `ready` return one no more: it is at its end."""

    async def wait(self) -> None:
        """Wait until something is ready."""

    def close(self) -> None:
        """Watch nothing any more. Before those that are left are closed."""


class _Watch:
    """A watch by a poller of its own, whose descriptor an event loop can watch."""

    _poller: select.epoll | selectors.BaseSelector

    def __init__(self) -> None:
        self.ended = self._poller.unregister
        self.close = self._poller.close

    def fileno(self) -> int:
        """Return a descriptor that is readable when one of those that are watched is."""
        fileno = getattr(self._poller, "fileno", None)
        if fileno is None:
            raise InternalError("this platform has neither epoll nor kqueue")
        descriptor: int = fileno()
        return descriptor

    def again(self, descriptor: int) -> None:
        """See `Watch.again`. Whatever is readable is told of each time."""

    async def wait(self) -> None:
        await anyio.wait_readable(self.fileno())


class EpollWatch(_Watch):
    """On Linux."""

    def __init__(self) -> None:
        self._poller: select.epoll = select.epoll()
        super().__init__()

    def add(self, *descriptors: int, pipes: Sequence[int] = ()) -> None:
        for descriptor in (*descriptors, *pipes):
            self._poller.register(descriptor, select.EPOLLIN)

    def ready(self) -> Collection[int]:
        return [descriptor for descriptor, _ in self._poller.poll(0)]


class SelectorWatch(_Watch):
    """By a kqueue object, on most other systems."""

    def __init__(self) -> None:
        self._poller: selectors.BaseSelector = selectors.DefaultSelector()
        super().__init__()

    def add(self, *descriptors: int, pipes: Sequence[int] = ()) -> None:
        for descriptor in (*descriptors, *pipes):
            self._poller.register(descriptor, selectors.EVENT_READ)

    def ready(self) -> Collection[int]:
        return [key.fd for key, _ in self._poller.select(0)]


class Watches:
    """Makes the watches of a run."""

    def new(self) -> Watch:
        """Return a watch for any number of descriptors.

        Raises:
            OSError: No descriptor or memory is left.
        """
        return EpollWatch() if hasattr(select, "epoll") else SelectorWatch()

    def before_waiting(self, call: Callable[[], None], /) -> bool:
        """See `Executor.before_waiting`."""
        return False

    def close(self) -> None:
        """Let go of everything: nobody waits any more."""


# There are none outside Linux.
_EDGES = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLET", 0)
_END_ALONE = getattr(select, "EPOLLHUP", 0)
AT_ONCE = 64
"""Descriptors that are told of in one turn of the event loop; the others are in the next one."""


class AsyncioWatches(Watches):
    """Watches that share one poller, and one reader on the event loop for as long as it takes.

    Raises:
        OSError: No descriptor or memory is left.
        NotImplementedError: The loop takes no readers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watches: dict[int, AsyncioWatch] = {}
        """By descriptor."""
        self._epoll = select.epoll()
        try:
            loop.add_reader(self._epoll.fileno(), self._look)
        except BaseException:
            self._epoll.close()
            raise

    def new(self) -> Watch:
        """See `Watches.new`."""
        return AsyncioWatch(self._loop, self._epoll, self._watches)

    def close(self) -> None:
        """See `Watches.close`."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _look(self) -> None:
        for descriptor, events in self._epoll.poll(0, AT_ONCE):
            watch = self._watches.get(descriptor)
            if watch is not None:
                watch.tell(descriptor, events)


class AsyncioWatch:
    """A watch by a poller that others use as well."""

    __slots__ = ("_epoll", "_future", "_has_ended", "_loop", "_own", "_pipes", "_ready", "_watches")

    def __init__(self, loop: asyncio.AbstractEventLoop, epoll: select.epoll, watches: dict[int, AsyncioWatch]) -> None:
        self._loop = loop
        self._epoll = epoll
        self._watches = watches
        self._own: list[int] = []
        self._pipes: Sequence[int] = ()
        self._ready: set[int] = set()
        self._has_ended = False
        """Whether one of them is at its end, so that the ends of the others are worth a turn of the event loop."""
        self._future: asyncio.Future[None] | None = None

    def add(self, *descriptors: int, pipes: Sequence[int] = ()) -> None:
        """See `Watch.add`."""
        self._pipes = (*self._pipes, *pipes)
        for descriptor in (*descriptors, *pipes):
            # By its edges: else what nobody reads for the moment, as there is no room for it, would keep the loop busy.
            self._epoll.register(descriptor, _EDGES)
            self._own.append(descriptor)
            self._watches[descriptor] = self

    def ready(self) -> Collection[int]:
        """See `Watch.ready`."""
        ready, self._ready = self._ready, set()
        return ready

    def again(self, descriptor: int) -> None:
        """See `Watch.again`."""
        self._ready.add(descriptor)

    def ended(self, descriptor: int) -> None:
        """See `Watch.ended`. There is no edge after the end, so nothing has to be undone."""
        self._has_ended = True

    async def wait(self) -> None:
        """See `Watch.wait`."""
        if self._ready:
            await anyio.lowlevel.checkpoint()
            return
        self._future = self._loop.create_future()
        try:
            await self._future
        finally:
            self._future = None

    def tell(self, descriptor: int, events: int) -> bool:
        """Take in what was seen of a descriptor; return whether that is worth a turn of the event loop."""
        self._ready.add(descriptor)
        if self._future is None or self._future.done():
            return True
        # A process lets go of its pipes a moment before it has ended: one turn of the event loop for all of that is enough.
        if events == _END_ALONE and descriptor in self._pipes and not self._has_ended:
            return False
        self._future.set_result(None)
        return True

    def close(self) -> None:
        """See `Watch.close`."""
        for descriptor in self._own:
            del self._watches[descriptor]
            if not self._epoll.closed:
                # To close it is not enough: a child of a fork may have it open, and so has each of ours from its start until it
                # has become its program. What is told of it would then be taken for the next one of that number.
                self._epoll.unregister(descriptor)
        self._own.clear()


def new_watches() -> Watches:
    """Return what watches best in the event loop that runs."""
    asyncio = sys.modules.get("asyncio")
    # A task of it, not a loop alone: that may be the host of another kind of loop, which we are in.
    if asyncio is not None and hasattr(select, "epoll"):
        try:
            if asyncio.current_task() is not None:
                loop = asyncio.get_running_loop()
                own: Callable[[], Watches] | None = getattr(loop, "process_watches", None)  # of `loop.RunnerLoop`
                return AsyncioWatches(loop) if own is None else own()
        except (RuntimeError, NotImplementedError, OSError):  # no loop of asyncio, one without readers, no descriptor
            return Watches()
    return Watches()
