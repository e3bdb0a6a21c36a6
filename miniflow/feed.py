"""Passes what happens on to one reader who takes it when it can: standard output, a stream of events.

Nothing is lost and memory is bounded: whoever produces output waits for room, and a task that prints faster than the reader
reads is slowed down by its full pipe.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import anyio

from miniflow.events import OutputChunk
from miniflow.sinks import Item

Held = TypeVar("Held")

MAX_WAITING_CHARACTERS = 1024 * 1024
"""Of all that waits to be read."""


class Feed(Generic[Held]):
    """A queue with an end."""

    def __init__(self) -> None:
        self._held: list[Held] = []
        self._characters = 0
        self._is_closed = False
        # Made by whoever waits: most of the time nobody does.
        self._has_items: anyio.Event | None = None
        self._has_room: anyio.Event | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether the reader has taken everything, and waits for more."""
        return self._has_items is not None

    def put(self, held: Held, characters: int) -> None:
        """Have something taken that counts for so many characters. Never waits: `wait_for_room` before producing more."""
        if self._is_closed:
            return
        self._held.append(held)
        self._characters += characters
        self._tell_reader()

    @property
    def has_room(self) -> bool:
        """Whether the reader has caught up, so that more may be produced."""
        return self._characters <= MAX_WAITING_CHARACTERS or self._is_closed

    async def wait_for_room(self) -> None:
        """Wait until the reader has caught up."""
        while not self.has_room:
            if self._has_room is None:
                self._has_room = anyio.Event()
            await self._has_room.wait()

    async def take(self) -> list[Held]:
        """Wait for items; return all there are, or none once the feed is closed and empty."""
        while not self._held and not self._is_closed:
            if self._has_items is None:
                self._has_items = anyio.Event()
            try:
                await self._has_items.wait()
            finally:
                self._has_items = None  # who was cancelled waits no more
        held, self._held = self._held, []
        self._characters = 0
        self._tell_of_room()
        return held

    def close(self) -> None:
        """Take in nothing more; what is there can still be taken."""
        self._is_closed = True
        self._tell_reader()
        self._tell_of_room()

    def _tell_reader(self) -> None:
        if self._has_items is not None:
            self._has_items.set()
            self._has_items = None

    def _tell_of_room(self) -> None:
        if self._has_room is not None:
            self._has_room.set()
            self._has_room = None


class EventFeed(Feed[Item]):
    """A sink that passes events on, lines of output in chunks."""

    def emit(self, *items: Item) -> None:
        """See `Sink.emit`. A line counts for its text and a hundred more."""
        for item in items:
            self.put(item, len(item.text) + 100 * (item.text.count("\n") + 1) if isinstance(item, OutputChunk) else 1000)
