"""A run as the command line shows it: signals, standard output, exit status."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from typing import TypeAlias, Unpack

import anyio
import anyio.abc

from miniflow.errors import OutputError
from miniflow.events import LEVELS, Event, Level
from miniflow.executors.spawn import own_descriptors
from miniflow.feed import Feed
from miniflow.plan import DEFAULT_GRACE_S
from miniflow.results import RunResult
from miniflow.runner import unwrapped
from miniflow.running import OpenRun, RunOptions, open_shown
from miniflow.signals import StopSignals, die_by
from miniflow.sinks import Item
from miniflow.sinks.console import ConsoleRenderer, harmless
from miniflow.sinks.json_lines import JsonRenderer
from miniflow.stdout import Output

NEEDED_DESCRIPTORS = 16
LARGE_BYTES = 16 * 1024
"""What is written by itself: to copy it would cost more than to write it."""
MOST_TOGETHER = 64
"""How many smaller ones are written at once, so that no more than a few of the largest are copied."""

_Shown: TypeAlias = tuple[Output, bytes | bytearray]
"""Where something goes, and what."""


def run_in_foreground(flow: str, *, use_json: bool, level: Level, **options: Unpack[RunOptions]) -> int:
    """Run a flow and show it; return the exit status, unless a signal stopped it: then end by that signal.

    Raises:
        MiniFlowError: As `run_flow`.
    """
    _check_descriptors()
    _keep_memory()
    own_descriptors()
    foreground = _Foreground(use_json, level, options.get("grace", DEFAULT_GRACE_S))
    try:
        anyio.run(lambda: foreground.go(flow, options))
    finally:
        foreground.signals.end_by_the_next()
    if foreground.stopped_by is not None:
        die_by(foreground.stopped_by)
    assert foreground.result is not None
    foreground.check_output()
    return foreground.result.exit_status or 0


def _check_descriptors() -> None:
    """See that there is room for an event loop, one task and the record: without, asyncio fails with a traceback of its own.

    Raises:
        OutputError: There is none.
    """
    held: list[int] = []
    try:
        while len(held) < NEEDED_DESCRIPTORS:
            held.append(os.dup(2))
    except OSError as error:
        raise OutputError(f"a run needs {NEEDED_DESCRIPTORS} descriptors: {error.strerror}; raise `ulimit -n`") from None
    finally:
        for descriptor in held:
            os.close(descriptor)


def _keep_memory() -> None:
    """Have the C library keep what is freed and soon needed again, as the buffers of each chunk of output.

    It gives large blocks back to the system as soon as they are free, until it has seen that they come and go; that is what it
    learns here. To be given them page by page anew costs a third of all that is done for a line.
    """
    bytes(1024 * 1024)


class _Foreground:
    def __init__(self, use_json: bool, level: Level, grace_s: float) -> None:
        self._use_json = use_json
        self._minimum = LEVELS[level]
        self._json = JsonRenderer()
        self._console = ConsoleRenderer(level)
        self._feed = Feed(self._hold_json if use_json else self._hold_lines)
        self._stdout = Output(1)
        self._stderr = Output(2)
        self._patience_s = grace_s
        self._run: OpenRun | None = None
        self.signals = StopSignals()
        self.result: RunResult | None = None
        self.stopped_by: int | None = None

    async def go(self, flow: str, options: RunOptions) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._stop_on_signal)
                async with open_shown(flow, self._feed, self._json, **options) as run:
                    gc.freeze()  # the plan stays to the end
                    gc.enable()
                    self._run = run
                    if self.stopped_by is not None:
                        run.cancel(128 + self.stopped_by)
                    group.start_soon(self._hurry_after_timeout, run)
                    await self._show(run)
                self.result = run.result
                group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            raise unwrapped(errors) from None

    def check_output(self) -> None:
        """Raise an OutputError if standard output is incomplete, though somebody wanted it."""
        if self._stdout.error is not None:
            assert self.result is not None
            why = self._stdout.error.strerror
            raise OutputError(f"cannot write standard output: {why}; the run has {self.result.state}: {self.result.run_dir}")

    def _hold_json(self, item: Item) -> tuple[_Shown, int] | None:
        event = item if isinstance(item, Event) else item.template
        if LEVELS[event.level] < self._minimum:
            return None
        rendered = self._json.render(item)
        return (self._stdout, rendered), len(rendered)

    def _hold_lines(self, item: Item) -> tuple[_Shown, int] | None:
        printed, progress = self._console.render(item)
        if not (printed or progress):
            return None
        shown = (self._stdout, printed.encode()) if printed else (self._stderr, progress.encode())
        return shown, len(shown[1])

    async def _show(self, run: OpenRun) -> None:
        while shown := await self._feed.take():
            for output, data in _joined(shown):
                await output.write(data)
        if not self._use_json:
            await self._stderr.write(f"recorded in {harmless(str(run.run_dir))}\n".encode())

    async def _stop_on_signal(self) -> None:
        while True:
            await anyio.wait_readable(self.signals)
            for number in self.signals.take():
                self._stop(number)

    def _stop(self, number: int) -> None:
        is_out_of_time = self._run is not None and self._run.is_out_of_time
        if self.stopped_by is None and not is_out_of_time:
            self.stopped_by = number
            if self._run is not None:
                self._run.cancel(128 + number)
            self._lose_patience(self._patience_s)
        elif self._run is not None:
            self._run.kill()
            self._lose_patience(0)
        else:
            die_by(number)  # nothing has been started yet

    async def _hurry_after_timeout(self, run: OpenRun) -> None:
        await run.wait_timeout()
        self._lose_patience(self._patience_s)

    def _lose_patience(self, seconds: float) -> None:
        """Wait no longer for a reader that is stuck than for a task that is."""
        self._stdout.lose_patience(seconds)
        self._stderr.lose_patience(seconds)


def _joined(shown: Sequence[_Shown]) -> Iterator[_Shown]:
    """Yield what is small and goes to one place together."""
    waiting: list[bytes | bytearray] = []
    for n, (output, data) in enumerate(shown):
        waiting.append(data)
        is_followed = n + 1 < len(shown) and shown[n + 1][0] is output and len(shown[n + 1][1]) < LARGE_BYTES
        if not is_followed or len(data) >= LARGE_BYTES or len(waiting) == MOST_TOGETHER:
            yield output, data if len(waiting) == 1 else b"".join(waiting)
            waiting.clear()
