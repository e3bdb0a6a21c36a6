"""What an executor tells of an attempt → events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from miniflow.events import OutputChunk, Stream, TaskOutput
from miniflow.lines import LineSplitter
from miniflow.masking import Masker, Pattern
from miniflow.results import Outcome
from miniflow.values import dataclass


class Reader(Protocol):
    """Somebody whom nothing more should be told before he has taken in what he was told."""

    @property
    def has_room(self) -> bool:
        """Whether he has."""

    async def wait_for_room(self) -> None:
        """Wait until he has."""


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """What becomes of the output of all attempts of a run."""

    flow: str
    run_id: str
    secrets: list[Pattern]
    """Masked in all that is printed."""
    emit: Callable[[OutputChunk], None]
    reader: Reader | None
    """Back-pressure."""


class AttemptObserver:
    """Observes one attempt, see `executors.Observer`.

    Args:
        settings: The run's.
        task_id: Whose attempt it is.
        attempt: Its number.
        on_started: Called with the pid and the start time of the process.
        on_delayed: Called when it must wait for something before it can start.
    """

    def __init__(
        self,
        settings: OutputSettings,
        task_id: str,
        attempt: int,
        on_started: Callable[[int, int | None], None],
        on_delayed: Callable[[], None],
    ) -> None:
        self.outcome: Outcome | None = None
        """How the attempt has ended."""
        self._settings = settings
        self._task_id = task_id
        self._attempt = attempt
        self._on_started = on_started
        self.delayed = on_delayed
        self._splitters: dict[Stream, LineSplitter] = {}
        self._maskers: dict[Stream, Masker] = {}

    def started(self, pid: int, start_time: int | None = None) -> None:
        self._on_started(pid, start_time)

    def output(self, stream: Stream, data: bytes) -> None:
        splitter = self._splitters.get(stream)
        if splitter is None:
            splitter = self._splitters[stream] = LineSplitter()
            if self._settings.secrets:
                self._maskers[stream] = Masker(self._settings.secrets)
        if self._maskers:
            data = self._maskers[stream].feed(data)
        self._emit(stream, splitter.feed(data))

    async def wait_for_room(self) -> None:
        reader = self._settings.reader
        if reader is not None and not reader.has_room:
            await reader.wait_for_room()

    def ended(self, outcome: Outcome) -> None:
        self.outcome = outcome
        for stream, splitter in self._splitters.items():
            held = self._maskers[stream].end() if self._maskers else b""
            self._emit(stream, (*splitter.feed(held), *splitter.end()))

    def _emit(self, stream: Stream, parts: Iterable[tuple[str, bool]]) -> None:
        """Tell of lines, and parts of one; of all of them, whatever is raised at the first."""
        settings = self._settings
        first_error: BaseException | None = None
        for text, partial in parts:
            of_run = (time.time_ns(), settings.flow, settings.run_id)
            try:
                settings.emit(OutputChunk(TaskOutput(*of_run, self._task_id, self._attempt, stream, "", partial), text))
            except BaseException as error:  # raised below
                first_error = first_error or error
        if first_error is not None:
            raise first_error
