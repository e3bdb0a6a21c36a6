"""What a run shows on standard output and error while it goes on: events as JSON, or as lines for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from miniflow.events import LEVELS, Event, Level
from miniflow.feed import Feed
from miniflow.running import OpenRun
from miniflow.sinks import Item
from miniflow.sinks.json_lines import JsonRenderer
from miniflow.stdout import Data, Output

LARGE_BYTES = 16 * 1024
"""What is written by itself: to copy it would cost more than to write it."""
MOST_TOGETHER = 64
"""How many smaller ones are written at once, so that no more than a few of the largest are copied."""

_Shown: TypeAlias = tuple[Output, Data]
"""Where something goes, and what."""


class Display(Feed[_Shown]):
    """A sink that writes at once what a reader takes at once; `show` writes the rest, when there is a reader for it.

    Args:
        renderer: Of JSON.
        use_json: Whether JSON is what is shown.
        level: Events below it are not shown.
        has_colors: Whether what is not JSON has colours.
        ending: Returns what people are told when a run is over.
    """

    def __init__(
        self,
        renderer: JsonRenderer,
        *,
        use_json: bool,
        level: Level,
        has_colors: bool = False,
        ending: Callable[[OpenRun], str] = lambda _: "",
    ) -> None:
        super().__init__()
        self._ending = ending
        if not use_json:
            # Here, as most runs are read by programs, which should not wait for it.
            from miniflow.sinks.colored import in_color
            from miniflow.sinks.console import for_people

            self._for_people = in_color if has_colors else for_people
        self._use_json = use_json
        self._minimum = LEVELS[level]
        self._json = renderer
        self._stdout = Output(1)
        self._stderr = Output(2)

    @property
    def error(self) -> OSError | None:
        """Why standard output is incomplete, though somebody wanted it."""
        return self._stdout.error

    def emit(self, *items: Item) -> None:
        """See `Sink.emit`."""
        if self._use_json:
            lines = []
            for item in items:
                rendered = self._json.render_item(item)
                if LEVELS[rendered.fields["level"]] >= self._minimum:
                    lines.append(rendered.lines)
            if lines:
                self._write(self._stdout, lines[0] if len(lines) == 1 else b"".join(lines))
            return
        for item in items:
            event = item if isinstance(item, Event) else item.template
            if LEVELS[event.level] >= self._minimum:
                printed, progress = self._for_people(item)
                self._write(self._stdout if printed else self._stderr, (printed or progress).encode())

    def _write(self, output: Output, data: Data) -> None:
        # Where the reader has taken everything, nothing stands before it.
        rest = output.write_now(data) if self.is_awaited else data
        if rest:
            self.put((output, rest), len(rest))

    async def show(self, run: OpenRun) -> None:
        """Write what could not be written at once, until the run is over, and then an ending if people read it."""
        while shown := await self.take():
            for output, data in _joined(shown):
                await output.write(data)
        if not self._use_json:
            await self._stderr.write(self._ending(run).encode())

    def lose_patience(self, seconds: float) -> None:
        """Wait for a reader who stands still for so many seconds more."""
        self._stdout.lose_patience(seconds)
        self._stderr.lose_patience(seconds)


def _joined(shown: Sequence[_Shown]) -> Iterator[_Shown]:
    """Yield what is small and goes to one place together."""
    waiting: list[Data] = []
    for n, (output, data) in enumerate(shown):
        waiting.append(data)
        is_followed = n + 1 < len(shown) and shown[n + 1][0] is output and len(shown[n + 1][1]) < LARGE_BYTES
        if not is_followed or len(data) >= LARGE_BYTES or len(waiting) == MOST_TOGETHER:
            yield output, data if len(waiting) == 1 else b"".join(waiting)
            waiting.clear()
