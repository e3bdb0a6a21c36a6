"""What a run shows in the log of GitHub Actions, which people read when it is over, folded and unfolded.

Tasks that run at once print at once, and a log has no way to keep two groups apart: the output of a task is then shown when the
task has ended, read back from its recorded log, so that no memory holds it. A task that runs alone is shown while it runs.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping

import anyio.lowlevel
import anyio.to_thread
import msgspec

from miniflow.catalog import load_named_flow
from miniflow.errors import FlowError
from miniflow.events import LEVELS, Event, Level, OutputChunk, RunFinished, RunStarted, TaskFinished, TaskOutput
from miniflow.feed import Feed
from miniflow.positions import task_positions
from miniflow.rundir import RunDir
from miniflow.running import OpenRun
from miniflow.sinks import Item
from miniflow.sinks.console import harmless
from miniflow.sinks.github import annotation, below_checkout, closing, inert, opening, progress
from miniflow.stdout import Output
from miniflow.tails import read_tail
from miniflow.values import dataclass

READ_BYTES = 64 * 1024
"""Of a log that is shown, at once."""
ANNOTATED_LINES = 10
ANNOTATED_CHARACTERS = 2000
"""Of what a task printed last, in the annotation of its failure."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task stands in a flow file."""

    file: str
    line: int
    column: int


class _Line(msgspec.Struct):
    event: str | None = None
    message: str = ""


class GithubLog(Feed[bytes | TaskFinished]):
    """A sink, as `Display`; all goes to standard output, as the order of what stands in two streams is not kept.

    Args:
        level: Events below it are not shown.
        find_places: Returns where tasks stand, by their ids; called in a thread, once a task has failed.
    """

    def __init__(self, *, level: Level, find_places: Callable[[], Mapping[str, Place]]) -> None:
        super().__init__()
        self._minimum = LEVELS[level]
        self._shows_output = LEVELS["info"] >= self._minimum
        self._find_places = find_places
        self._places: Mapping[str, Place] | None = None
        self._stdout = Output(1)
        self._is_alone = False
        """Whether no more than one task runs at once."""
        self._token: str | None = None
        """Ends the group that is open."""

    @property
    def error(self) -> OSError | None:
        """Why standard output is incomplete, though somebody wanted it."""
        return self._stdout.error

    def lose_patience(self, seconds: float) -> None:
        """Wait for a reader who stands still for so many seconds more."""
        self._stdout.lose_patience(seconds)

    def emit(self, *items: Item) -> None:
        """See `Sink.emit`."""
        for item in items:
            if isinstance(item, OutputChunk):
                self._output(item.template, item.text)
            elif isinstance(item, TaskOutput):
                self._output(item, item.line)
            else:
                self._event(item)

    def _output(self, template: TaskOutput, text: str) -> None:
        if not (self._is_alone and self._shows_output):
            return
        before = ""
        if self._token is None:
            self._token = secrets.token_hex(16)
            attempt = f", attempt {template.attempt}" if template.attempt > 1 else ""
            before = opening(f"{template.task_id}{attempt}", self._token)
        self._show((before + inert(text)).encode())

    def _event(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._is_alone = event.parallel == 1
        text = ""
        if self._token is not None:
            text, self._token = closing(self._token), None
        if LEVELS[event.level] >= self._minimum:
            if isinstance(event, TaskFinished) and not (self._is_alone and event.state == "succeeded"):
                self._show(text.encode())
                self.put(event, 1000)
                return
            if isinstance(event, RunFinished) and event.error:
                text += annotation(event, event.flow)
            else:
                text += progress(event)
        self._show(text.encode())

    def _show(self, data: bytes) -> None:
        rest = self._stdout.write_now(data) if data and self.is_awaited else data
        if rest:
            self.put(bytes(rest), len(rest))

    async def show(self, run: OpenRun) -> None:
        """Write what could not be written at once, and the output of tasks that have ended, until the run is over."""
        while waiting := await self.take():
            for item in waiting:
                if isinstance(item, bytes):
                    await self._stdout.write(item)
                else:
                    await self._show_end(RunDir(run.run_dir), item)
        await self._stdout.write(inert(f"recorded in {harmless(str(run.run_dir))}").encode())

    async def _show_end(self, run_dir: RunDir, event: TaskFinished) -> None:
        if self._shows_output and not self._is_alone:
            await self._show_log(run_dir, event.task_id)
        if event.state != "failed":
            await self._stdout.write(progress(event).encode())
            return
        if self._places is None:
            self._places = await anyio.to_thread.run_sync(self._find_places)
        place = self._places.get(event.task_id)
        given: dict[str, str | int] = {}
        if place is not None:
            given = {"file": place.file, "line": place.line, "col": place.column}
        lines = _last_lines(run_dir, event.task_id, event.attempt)
        await self._stdout.write(annotation(event, f"{event.flow}: {event.task_id}", lines, **given).encode())

    async def _show_log(self, run_dir: RunDir, task_id: str) -> None:
        token = secrets.token_hex(16)
        is_open = False
        decode = msgspec.json.Decoder(_Line).decode
        try:
            with open(run_dir.log(task_id), "rb") as log:  # noqa: ASYNC230  a little at a time, and from the cache of the system
                while lines := log.readlines(READ_BYTES):
                    found = [decode(line) for line in lines]
                    text = "".join([inert(line.message) for line in found if line.event == "task.output"])
                    if text:
                        text = text if is_open else opening(task_id, token) + text
                        is_open = True
                        await self._stdout.write(text.encode())
                    await anyio.lowlevel.checkpoint()
        except FileNotFoundError:
            pass  # it has printed nothing
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:  # it is ours, but a task may write there as well
            await self._stdout.write(inert(f"the log of {task_id} cannot be read: {harmless(str(error))}").encode())
        if is_open:
            await self._stdout.write(closing(token).encode())


def _last_lines(run_dir: RunDir, task_id: str, attempt: int) -> list[str]:
    try:
        tail = read_tail(run_dir, task_id, most_lines=ANNOTATED_LINES, most_chars=ANNOTATED_CHARACTERS)
    except OSError:
        return []  # `_show_log` has said it, or the log is none of what is shown
    return [line.text for line in tail.lines if line.attempt == attempt] if tail is not None else []


def find_places(flow: str, flows_dir: str | os.PathLike[str], environ: Mapping[str, str]) -> Mapping[str, Place]:
    """Return where the tasks of a flow stand in its file, if that can still be read; the file below the checkout."""
    try:
        loaded = load_named_flow(flow, flows_dir)
    except FlowError:  # it was changed since
        return {}
    if loaded.source is None:
        return {}
    file = below_checkout(loaded.source.file, environ)
    return {task_id: Place(file, *position) for task_id, position in task_positions(loaded).items()}
