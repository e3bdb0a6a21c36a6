"""Watching descriptors: an epoll or kqueue object of one's own, which is itself one descriptor for an event loop to watch.

`selectors` has both as well, and takes twice as long for each of the three descriptors of each process.
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


class Watch(Protocol):
    """Tells which of some descriptors are readable, or have reached their end."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when one of them is."""

    def add(self, descriptor: int, /) -> None:
        """Watch one more."""

    def remove(self, descriptor: int, /) -> object:
        """Watch one no more. All must be removed before they are closed, or the watch be closed first."""

    def ready(self) -> list[int]:
        """Return those that are readable now."""

    def close(self) -> None:
        """Let go of them all."""


def new_watch() -> Watch:
    """Return a watch for any number of descriptors.

    Raises:
        OSError: No descriptor or memory is left.
    """
    return _Epoll() if hasattr(select, "epoll") else _Selector()


class _Epoll:
    def __init__(self) -> None:
        epoll = self._epoll = select.epoll()
        self.fileno = epoll.fileno
        self.remove = epoll.unregister
        self.close = epoll.close

    def add(self, descriptor: int) -> None:
        self._epoll.register(descriptor, select.EPOLLIN)

    def ready(self) -> list[int]:
        return [descriptor for descriptor, _ in self._epoll.poll(0)]


class _Selector:
    """A kqueue object, on most other systems."""

    def __init__(self) -> None:
        selector = self._selector = selectors.DefaultSelector()
        self.remove = selector.unregister
        self.close = selector.close

    def fileno(self) -> int:
        fileno = getattr(self._selector, "fileno", None)
        if fileno is None:
            raise InternalError("this platform has neither epoll nor kqueue")
        descriptor: int = fileno()
        return descriptor

    def add(self, descriptor: int) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ)

    def ready(self) -> list[int]:
        return [key.fd for key, _ in self._selector.select(0)]


class Waiting:
    """Waits for watches, one coroutine each."""

    def add(self, watch: Watch) -> None:
        """Begin with a watch that may be waited for."""

    def remove(self, watch: Watch) -> None:
        """Be done with a watch; before it is closed."""

    async def wait(self, watch: Watch) -> None:
        """Wait until something is ready."""
        await anyio.wait_readable(watch.fileno())

    def close(self) -> None:
        """Let go of everything: nobody waits any more."""


class _AsyncioWaiting(Waiting):
    """The same by one reader on the event loop for as long as it takes: one for each wait takes several times as long.

    Raises:
        OSError: No descriptor or memory is left.
        NotImplementedError: The loop takes no readers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._epoll = select.epoll()
        try:
            loop.add_reader(self._epoll.fileno(), self._wake)
        except BaseException:
            self._epoll.close()
            raise

    def add(self, watch: Watch) -> None:
        # By its edges: else what nobody reads for the moment, as there is no room for it, would keep the loop busy.
        self._epoll.register(watch.fileno(), select.EPOLLIN | select.EPOLLET)

    def remove(self, watch: Watch) -> None:
        if not self._epoll.closed:
            self._epoll.unregister(watch.fileno())  # closing it does not, if a child of a fork has it open

    async def wait(self, watch: Watch) -> None:
        if watch.ready():  # its edge may be gone
            await anyio.lowlevel.checkpoint()
            return
        descriptor = watch.fileno()
        future = self._waiting[descriptor] = self.loop.create_future()
        try:
            await future
        finally:
            del self._waiting[descriptor]

    def close(self) -> None:
        if not self.loop.is_closed():
            self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _wake(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            future = self._waiting.get(descriptor)
            if future is not None and not future.done():
                future.set_result(None)


def new_waiting() -> Waiting:
    """Return what waits best in the event loop that runs."""
    asyncio = sys.modules.get("asyncio")
    # A task of it, not a loop alone: that may be the host of another kind of loop, which we are in.
    if asyncio is not None and hasattr(select, "epoll"):
        try:
            if asyncio.current_task() is not None:
                return _AsyncioWaiting(asyncio.get_running_loop())
        except (RuntimeError, NotImplementedError, OSError):  # no loop of asyncio, one without readers, no descriptor
            return Waiting()
    return Waiting()
