"""Tells a function of the user's."""

from __future__ import annotations

from collections.abc import Callable

from miniflow.events import Event
from miniflow.sinks import Item


class CallbackSink:
    """Calls a function of the user's with every event, one a line of output."""

    def __init__(self, callback: Callable[[Event], object]) -> None:
        self._callback = callback

    def emit(self, *items: Item) -> None:
        """See `Sink.emit`. What the function raises ends the run."""
        for item in items:
            if isinstance(item, Event):
                self._callback(item)
            else:
                for event in item.events():
                    self._callback(event)
