"""Places to tell about a run. A sink is given every event in order; lines of output come in chunks."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from miniflow.events import Event, OutputChunk

Item: TypeAlias = Event | OutputChunk


class Sink(Protocol):
    """Somebody who is told what happens."""

    def emit(self, *items: Item) -> None:
        """Take in an event, or a chunk of lines; or several that are told of together, in their order.

        Raises:
            OutputError: It cannot be recorded; the run is stopped. A sink that does not matter so much raises nothing.
        """
