"""Watching descriptors: an epoll or kqueue object of one's own, which is itself one descriptor for an event loop to watch.

`selectors` has both as well, and takes twice as long for each of the three descriptors of each process.
"""

from __future__ import annotations

import select
import selectors
from typing import Protocol

from miniflow.errors import InternalError


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
