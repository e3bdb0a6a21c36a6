"""A run on a terminal: what tasks print scrolls by; below it stands what runs, how far the run is, how long it will take.

    … lines that scroll
    <an empty row, where the cursor rests>
    <the region>

Nobody has to know how many rows the region has on the terminal: between two writes the cursor stands above it, and all below
the cursor is erased and written anew. So it survives a resize, a Ctrl-C that is echoed, and somebody who presses Enter.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread

from miniflow.events import LEVELS, Event, Level, OutputChunk, RunFinished
from miniflow.feed import Feed
from miniflow.history import earlier_durations
from miniflow.plan import Plan
from miniflow.progress import Estimates, Progress, estimate
from miniflow.running import OpenRun
from miniflow.sinks import Item
from miniflow.sinks.colored import TerminalLines
from miniflow.stdout import Data, Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from miniflow.region import RegionDrawer

REFRESH_S = 0.1
"""Between two drawings, and how long a line may wait for others."""
LONG_ENOUGH_S = 0.2
"""A run that is shorter shows no region: it would be gone before anybody has seen it, and takes time to load."""
BLOCK_BYTES = 64 * 1024
"""Of lines: so many are written without waiting for more."""

# A terminal that knows it shows nothing of a change before its end, and others take no notice.
_BEGIN = "\x1b[?2026h\x1b[?25l"
_END = "\x1b[?25h\x1b[?2026l"
_ERASE_BELOW = "\r\x1b[J"


class LiveDisplay(Feed[Item | bytes]):
    """A sink that shows a run on the terminal; `show` does the drawing.

    While `show` has nothing to do, lines are written as soon as they are a block; what the terminal does not take at once is
    left to `show`. So the terminal is at work while the next lines come in. What `show` has no time for waits.

    Args:
        level: Events below it do not scroll by.
        has_colors: Whether to use them.
        ending: Returns what is shown when a run is over.
    """

    def __init__(self, *, level: Level, has_colors: bool, ending: Callable[[OpenRun], str]) -> None:
        super().__init__()
        self._ending = ending
        self._minimum = LEVELS[level]
        self._has_colors = has_colors
        self._terminal = Output(1)
        self._lines = TerminalLines(has_colors=has_colors)
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._rest: Data = b""
        """Of a block that was written in part: it comes before all else."""
        self._is_shown = False
        self._drawer: RegionDrawer | None = None
        self._region = ""
        """As it stands on the terminal."""
        self._last = ""
        """How the run has ended: below all else, where it is seen first."""
        self._size = (0, 0)
        self._drawn_at = 0.0

    @property
    def error(self) -> OSError | None:
        """Why the terminal does not show everything, though somebody wanted it."""
        return self._terminal.error

    def emit(self, *items: Item) -> None:
        """See `Sink.emit`."""
        for item in items:
            self._take_over(item)

    def _take_over(self, item: Item) -> None:
        if not isinstance(item, OutputChunk):
            self.put(item, 1000)
        elif LEVELS[item.template.level] >= self._minimum:
            if not self._is_shown:
                self.put(item, len(item.text) + 1000)
                return
            lines = self._lines.render(item).encode()
            if not self.is_awaited:
                self.put(lines, len(lines) + 100)
                return
            self._add_lines(lines)
            if self._block_bytes >= BLOCK_BYTES and (rest := self._terminal.write_now(self._written(self._region))):
                self._rest = rest
                self.put(b"", len(rest))

    def lose_patience(self, seconds: float) -> None:
        """Wait for a terminal that stands still for so many seconds more."""
        self._terminal.lose_patience(seconds)

    async def show(self, run: OpenRun) -> None:
        """Show the run until it is over, and then an ending."""
        began = time.monotonic()
        progress = Progress([task.id for task in run.plan.tasks])
        longest = max(len(task.id) for task in run.plan.tasks)
        self._measure(longest)
        self._is_shown = True
        async with anyio.create_task_group() as group:
            group.start_soon(self._get_ready_to_draw, run, progress)
            try:
                is_over = False
                while not is_over:
                    is_over = await self._take_in(progress, began)
                    if self._rest:
                        await self._terminal.write(self._rest)
                        self._rest = b""
                    now = time.monotonic()
                    self._measure(longest)
                    region = "" if is_over else self._drawn(progress, now, now - began)
                    await self._terminal.write(self._written(region))
            finally:
                if self._region:
                    self._terminal.write_now(f"{_ERASE_BELOW}{_END}".encode())
                group.cancel_scope.cancel()
        await self._terminal.write(f"{self._ending(run)}{self._last}".encode())

    async def _get_ready_to_draw(self, run: OpenRun, progress: Progress) -> None:
        """Load what draws, and what is known of the tasks: beside the run, which does not wait for it."""
        await anyio.sleep(LONG_ENOUGH_S)
        get = functools.partial(_drawer_and_estimates, run.plan, has_colors=self._has_colors)
        try:
            self._drawer, estimates = await anyio.to_thread.run_sync(get, abandon_on_cancel=True)
        except (ImportError, OSError, RuntimeError):
            return  # no descriptor or thread is left, or was for a moment: that must not end a run, which is shown without
        progress.expect(estimates)

    async def _take_in(self, progress: Progress, began: float) -> bool:
        """Take what has happened, for a while or until there is a lot of it; return whether the run is over."""
        with anyio.move_on_after(REFRESH_S):
            while self._block_bytes < BLOCK_BYTES and not self._rest:
                items = await self.take()
                if not items:
                    return True
                for item in items:
                    if isinstance(item, bytes):
                        self._add_lines(item)
                    else:
                        if isinstance(item, Event):
                            progress.apply(item, time.monotonic() - began)
                        self._add(item)
        return False

    def _add(self, item: Item) -> None:
        event = item if isinstance(item, Event) else item.template
        if LEVELS[event.level] < self._minimum:
            return
        lines = self._lines.render(item)
        if isinstance(event, RunFinished):
            self._last = lines
            return
        self._add_lines(lines.encode())

    def _add_lines(self, lines: bytes) -> None:
        self._block.append(lines)
        self._block_bytes += len(lines)

    def _measure(self, longest_name: int) -> None:
        """See how large the terminal is now."""
        try:
            columns, rows = os.get_terminal_size(1)
        except OSError:
            columns, rows = 0, 0  # it is gone; writing will tell
        self._size = (columns or 80, rows or 24)
        self._lines.align(longest_name, self._size[0])

    def _drawn(self, progress: Progress, now: float, elapsed_s: float) -> str:
        """Return the region: drawn now, or as it is if that is no older than a moment."""
        if self._drawer is None:
            return ""
        if now - self._drawn_at < REFRESH_S * 0.9 and self._region:
            return self._region
        self._drawn_at = now
        columns, rows = self._size
        lines = self._drawer.draw(progress, elapsed_s, columns, rows)
        above = [""] if rows > 2 * len(lines) else []
        region = "\n".join([*above, *lines])
        up = len(above) + len(lines) - 1
        return f"{region}\r\x1b[{up}A" if up else f"{region}\r"

    def _written(self, region: str) -> bytes:
        """Return what is to be written so that the lines scroll by, and the region stands below them."""
        block, self._block, self._block_bytes = self._block, [], 0
        if region == self._region and not block:
            return b""
        before = _BEGIN + _ERASE_BELOW if self._region else _BEGIN if region else ""
        after = _END if before else ""
        self._region = region
        return b"".join([before.encode(), *block, f"{region}{after}".encode()])


def _drawer_and_estimates(plan: Plan, *, has_colors: bool) -> tuple[RegionDrawer, Estimates]:
    from miniflow.region import RegionDrawer

    task_ids = [task.id for task in plan.tasks]
    known_s = earlier_durations(Path(plan.place.output_dir), plan.flow, task_ids)
    return RegionDrawer(has_colors=has_colors), estimate(task_ids, [task.upstream for task in plan.tasks], known_s)
