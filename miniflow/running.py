"""The Python API's asynchronous half: runs to their end, and runs that are watched while they go on."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, Unpack

import anyio
import anyio.abc

from miniflow.events import Event
from miniflow.feed import EventFeed
from miniflow.interrupts import uninterrupted
from miniflow.lifeline import Lifeline
from miniflow.observer import Reader
from miniflow.options import PathLike, RunOptions, TaskIds
from miniflow.plan import DEFAULT_GRACE_S, Plan
from miniflow.prepare import (
    DEFAULT_FLOWS_DIR,
    DEFAULT_OUTPUT_DIR,
    DEFAULT_TASKS_DIR,
    FlowLike,
)
from miniflow.prepared import Prepared, prepare_run
from miniflow.results import RunResult
from miniflow.runner import unwrapped
from miniflow.sinks import Item, Sink
from miniflow.sinks.callback import CallbackSink
from miniflow.sinks.json_lines import JsonRenderer


async def run_flow(
    flow: FlowLike,
    *,
    parallel: int = 1,
    params: Mapping[str, Any] | None = None,
    keep_going: bool = False,
    only: TaskIds | None = None,
    from_: TaskIds | None = None,
    until: TaskIds | None = None,
    on_event: Callable[[Event], object] | None = None,
    python: str | None = None,
    grace: float = DEFAULT_GRACE_S,
    timeout: float | None = None,
    resume: bool | str = False,
    flows_dir: PathLike = DEFAULT_FLOWS_DIR,
    tasks_dir: PathLike = DEFAULT_TASKS_DIR,
    output_dir: PathLike = DEFAULT_OUTPUT_DIR,
) -> RunResult:
    """Run a flow, and return how it ended: a failed task is a result, not an exception.

    Works under asyncio and trio, any number of times at once. Installs no signal handlers and configures no logging.

    Args:
        flow: A name in `flows_dir`, a path, a `Flow`, or a mapping that has the form of a flow file.
        parallel: How many attempts may run at once. With 1, tasks run in the script's order; with more, what is ready and has
            the longest way before it starts first, by how long tasks took in the latest runs in `output_dir`.
        params: Override the flow's defaults. Without them a run that resumes another has those that the other was given.
        keep_going: Whether tasks that do not depend on a failed one start after it has failed.
        only: Run these tasks alone, by their ids. What a task depends on besides those that run counts as done.
        from_: Run these and all downstream of them.
        until: Run these and all upstream of them; with `from_`, what lies between.
        on_event: Called with each event, in the event loop: be quick. What it raises stops the run, and is raised here.
        python: The interpreter of tasks that name none; see `default_python`.
        grace: Seconds between SIGTERM and SIGKILL when an attempt is timed out or cancelled.
        timeout: Seconds for the whole run. After that nothing starts, what runs is ended, and the run has failed with 124.
        resume: The run to resume: its id, a beginning of it, or True (or "latest") for the flow's latest. What succeeded there
            and has not changed since is taken over, and does not run; events say of every task why it does or does not.
        flows_dir: Where flows are looked up by name.
        tasks_dir: Where the scripts are.
        output_dir: Where the run directory is made.

    Raises:
        FlowError, ParamsError, UsageError: Before anything has started.
        OutputError: The run cannot be recorded; it was stopped.

    When cancelled, every process is stopped and every status recorded before the cancellation goes on.
    """
    return await uninterrupted(_run_to_its_end)(
        flow,
        [CallbackSink(on_event)] if on_event is not None else [],
        parallel=parallel,
        params=params,
        keep_going=keep_going,
        only=only,
        from_=from_,
        until=until,
        python=python,
        grace=grace,
        timeout=timeout,
        resume=resume,
        flows_dir=flows_dir,
        tasks_dir=tasks_dir,
        output_dir=output_dir,
    )


async def _run_to_its_end(flow: FlowLike, sinks: Sequence[Sink], **options: Unpack[RunOptions]) -> RunResult:
    prepared: Prepared | None = None
    failure: BaseException | None = None
    scope = _own_scope()
    has_ended = anyio.Event()

    async def go() -> None:
        nonlocal prepared, failure
        try:
            with scope:
                prepared = await prepare_run(flow, sinks, JsonRenderer(), **options)
                await prepared.go(scope)
        except (KeyboardInterrupt, SystemExit) as error:
            failure = error  # out of this task it would end an asyncio loop at once
        finally:
            has_ended.set()

    try:
        # In a child task for the reason that `run_plan` gives: a run directory that is being made is not forgotten.
        async with anyio.create_task_group() as group:
            group.start_soon(uninterrupted(go))
            try:
                await has_ended.wait()
            finally:
                scope.cancel()
    except BaseExceptionGroup as errors:
        failure = failure or unwrapped(errors)
    if failure is not None:
        raise failure
    assert prepared is not None
    return prepared.result


def open_run(flow: FlowLike, **options: Unpack[RunOptions]) -> contextlib.AbstractAsyncContextManager[Run]:
    """Run a flow while the block runs: `async with open_run("x") as run: async for event in run: ...`, then `run.result`.

    A reader that is slow slows the tasks' output down. Leaving the block before the run is over cancels it: every process is
    ended and every status recorded before the block is left. Options and errors are those of `run_flow`.
    """
    feed = EventFeed()
    opened = contextlib.asynccontextmanager(uninterrupted(_opened))
    return opened(partial(Run, feed), flow, feed, JsonRenderer(), **options)


class SinkFeed(Sink, Reader, Protocol):
    """A sink that passes on what it is given, to somebody it waits for."""

    def close(self) -> None:
        """Take in nothing more."""


def open_shown(
    flow: FlowLike, feed: SinkFeed, renderer: JsonRenderer, lifeline: Lifeline | None = None, **options: Unpack[RunOptions]
) -> contextlib.AbstractAsyncContextManager[OpenRun]:
    """Run a flow while the block runs, as `open_run` does, for whoever reads the feed.

    Args:
        flow: As of `run_flow`.
        feed: Of the caller's making; closed when the run is over.
        renderer: What the record is rendered by. The feed renders events by it as well at no cost.
        lifeline: Of a guardian that is there already; closed when the run is over.
        options: As of `run_flow`.
    """
    opened = contextlib.asynccontextmanager(uninterrupted(_opened))
    return opened(OpenRun, flow, feed, renderer, lifeline, **options)


async def _opened(
    new_run: Callable[[Prepared, anyio.CancelScope], AnyRun],
    flow: FlowLike,
    feed: SinkFeed,
    renderer: JsonRenderer,
    lifeline: Lifeline | None = None,
    **options: Unpack[RunOptions],
) -> AsyncIterator[AnyRun]:
    scope = _own_scope()
    is_ready = anyio.Event()
    run: AnyRun | None = None
    body_error: Exception | None = None
    failure: BaseException | None = None

    async def go(group: anyio.abc.TaskGroup) -> None:
        nonlocal run, failure
        try:
            with scope:
                prepared = await prepare_run(flow, [feed], renderer, lifeline, **options)
                run = new_run(prepared, scope)
                is_ready.set()
                await run._go(feed)
        except (KeyboardInterrupt, SystemExit) as error:
            failure = error  # out of this task it would end an asyncio loop at once
            group.cancel_scope.cancel()
        finally:
            feed.close()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(uninterrupted(go), group)
            try:
                await is_ready.wait()
                assert run is not None
                yield run
            except Exception as error:
                body_error = error
                raise
            finally:
                feed.close()  # nobody reads any more
                scope.cancel()
    except BaseExceptionGroup as errors:
        # The block's own exception comes out of it as it was, even if it is a group.
        failure = body_error or failure or unwrapped(errors)
    if failure is not None:
        raise failure


def _own_scope() -> anyio.CancelScope:
    """Return the scope of a run's own task. Whoever awaits the run cancels it when he is cancelled himself.

    It does not hear of that otherwise: under asyncio, anyio counts what a scope has cancelled to the scope around it, whose
    task may be another; with both cancelled, `Task.cancelling()` of our caller would forget that it was.
    """
    return anyio.CancelScope(shield=True)


class OpenRun:
    """A run that is going on: what can be done to it, and its result once it is over."""

    def __init__(self, prepared: Prepared, scope: anyio.CancelScope) -> None:
        self._prepared = prepared
        self._scope = scope
        self._exit_status_if_cancelled = 130
        self._timeout = anyio.Event()

    def cancel(self, exit_status: int = 130) -> None:
        """Stop the run: nothing new starts, every process is ended. Its events go on to the last.

        Args:
            exit_status: What the run is recorded to exit with: 128 + the signal that was the cause.
        """
        self._exit_status_if_cancelled = exit_status
        self._scope.cancel()

    def kill(self) -> None:
        """End what runs at once, without the rest of its grace; for a run that is being stopped."""
        self._prepared.executor.kill()

    async def wait_timeout(self) -> None:
        """Wait until the run has taken longer than its timeout and is being stopped for that; for ever if it never does."""
        await self._timeout.wait()

    @property
    def is_out_of_time(self) -> bool:
        """Whether the run was stopped because it has taken longer than its timeout."""
        return self._timeout.is_set()

    @property
    def plan(self) -> Plan:
        """What is run."""
        return self._prepared.plan

    @property
    def run_dir(self) -> Path:
        """The run's directory."""
        return self._prepared.run_dir.path

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self._prepared.run_dir.run_id

    @property
    def result(self) -> RunResult:
        """How the run ended or, while it goes on, what is known of it."""
        return self._prepared.result

    async def _go(self, reader: Reader) -> None:
        await self._prepared.go(self._scope, reader, lambda: self._exit_status_if_cancelled, self._timeout.set)


class Run(OpenRun):
    """A run that is going on: an asynchronous iterator of its events, and its result once it is over."""

    def __init__(self, feed: EventFeed, prepared: Prepared, scope: anyio.CancelScope) -> None:
        super().__init__(prepared, scope)
        self._feed = feed
        self._events: deque[Event] = deque()

    def __aiter__(self) -> Run:
        return self

    async def __anext__(self) -> Event:
        # No generator: one that is left in the midst of a loop has to be closed by somebody, and loses what it holds.
        while not self._events:
            items = await self.take()
            if not items:
                raise StopAsyncIteration
            for item in items:
                if isinstance(item, Event):
                    self._events.append(item)
                else:
                    self._events.extend(item.events())
        return self._events.popleft()

    async def take(self) -> list[Item]:
        """Wait for what comes next; return all there is, lines of output in chunks, or nothing when the run is over."""
        return await self._feed.take()


AnyRun = TypeVar("AnyRun", bound=OpenRun)
