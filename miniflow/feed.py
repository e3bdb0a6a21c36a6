"""Passes what happens on to one reader who takes it when it can: standard output, a stream of events.

Nothing is lost and memory is bounded: whoever produces output waits for room, and a task that prints faster than the reader
reads is slowed down by its full pipe.
"""

from __future__ import annotations

from collections import deque

import anyio

from miniflow.events import OutputChunk
from miniflow.sinks import Item

MAX_WAITING_CHARACTERS = 1024 * 1024
"""Of all that waits to be read; a line counts for its text and a hundred more."""


class Feed:
    """A queue of events with an end."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._characters = 0
        self._is_closed = False
        self._has_items = anyio.Event()
        self._has_room = anyio.Event()

    def emit(self, item: Item) -> None:
        """See `Sink.emit`. Never waits; call `wait_for_room` before producing more."""
        if self._is_closed:
            return
        self._items.append(item)
        self._characters += sum(map(len, item.lines)) + 100 * len(item.lines) if isinstance(item, OutputChunk) else 1000
        self._has_items.set()

    async def wait_for_room(self) -> None:
        """Wait until the reader has caught up."""
        while self._characters > MAX_WAITING_CHARACTERS and not self._is_closed:
            if self._has_room.is_set():
                self._has_room = anyio.Event()
            await self._has_room.wait()

    async def take(self) -> list[Item]:
        """Wait for items; return all there are, or none once the feed is closed and empty."""
        while not self._items and not self._is_closed:
            if self._has_items.is_set():
                self._has_items = anyio.Event()
            await self._has_items.wait()
        items = list(self._items)
        self._items.clear()
        self._characters = 0
        self._has_room.set()
        return items

    def close(self) -> None:
        """Take in nothing more; what is there can still be taken."""
        self._is_closed = True
        self._has_items.set()
        self._has_room.set()
