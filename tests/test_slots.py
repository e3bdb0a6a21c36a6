"""The runner and its slots, with an executor that is a fake: what it says when, and how it goes on where there is room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

import miniflow
from miniflow import Event, OutputError, TaskFinished, TaskOutput, TaskStarted
from miniflow.results import Outcome
from miniflow.runner import RunSetup, run_plan
from miniflow.sinks.callback import CallbackSink
from tests.conftest import Space


@pytest.fixture
def project(space: Space) -> Space:
    space.script("hello.py", "print('hello')")
    return space


class FakeExecutor:
    """Does with an attempt whatever a test says; never starts a process."""

    def __init__(self, work: Callable[[Any, Any], Awaitable[None]]) -> None:
        self.run = work

    def close(self) -> None:
        """It holds nothing."""


async def run_fake(
    space: Space,
    work: Callable[[Any, Any], Awaitable[None]],
    tasks: int,
    parallel: int,
    *,
    depends_on: dict[str, str] | None = None,
    seen: list[Event] | None = None,
    raising: Callable[[Event], object] | None = None,
    scope: anyio.CancelScope | None = None,
    **setup: Any,
) -> list[Event]:
    upstream = depends_on or {}
    described = [{"id": f"t{n}", "script": "hello.py", "depends_on": upstream.get(f"t{n}", [])} for n in range(tasks)]
    flow = {"name": "fake", "tasks": described}
    seen = [] if seen is None else seen
    plan = miniflow.plan_flow(flow, **space.directories)
    sinks = [CallbackSink(tell) for tell in (seen.append, raising) if tell is not None]
    executor: Any = FakeExecutor(work)
    await run_plan(plan, RunSetup("run", "/run", executor, sinks, {}, scope or anyio.CancelScope(), parallel, **setup))
    return seen


@pytest.mark.anyio
async def test_an_executor_that_breaks_ends_the_run_with_what_broke_it(project: Space) -> None:
    async def work(attempt: Any, observer: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_fake(project, work, tasks=5, parallel=3)


@pytest.mark.anyio
async def test_an_attempt_that_cannot_even_be_described_ends_the_run(project: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(self: miniflow.Plan, task: Any) -> list[str]:
        raise MemoryError

    async def work(attempt: Any, observer: Any) -> None:
        raise AssertionError("it was started")

    monkeypatch.setattr(miniflow.Plan, "argv", no_memory)
    with anyio.fail_after(30), pytest.raises(MemoryError):
        await run_fake(project, work, tasks=3, parallel=2)


@pytest.mark.anyio
async def test_many_tasks_do_not_keep_the_loop_from_others(project: Space) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async def work(attempt: Any, observer: Any) -> None:
        observer.started(1)
        observer.ended(Outcome(0))

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        seen = await run_fake(project, work, tasks=1000, parallel=4)
        group.cancel_scope.cancel()

    assert sum(isinstance(event, TaskFinished) for event in seen) == 1000
    assert turns >= 500


def ends_in(seen: list[Event]) -> set[str]:
    return {event.task_id for event in seen if isinstance(event, TaskFinished)}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("parallel", "depends_on"), [(1, {}), (2, {"t1": "t0", "t2": "t1"})], ids=["at parallel 1", "downstream"]
)
async def test_the_end_of_what_a_task_may_look_for_is_recorded_before_it_starts(
    project: Space, parallel: int, depends_on: dict[str, str]
) -> None:
    seen: list[Event] = []
    known: dict[str, set[str]] = {}

    async def work(attempt: Any, observer: Any) -> None:
        known[attempt.env[b"MINIFLOW_TASK_ID"].decode()] = ends_in(seen)
        observer.started(1)
        await anyio.lowlevel.checkpoint()
        observer.ended(Outcome(0))

    await run_fake(project, work, tasks=3, parallel=parallel, depends_on=depends_on, seen=seen)

    assert known == {"t0": set(), "t1": {"t0"}, "t2": {"t0", "t1"}}


@pytest.mark.anyio
async def test_the_record_has_each_end_before_the_start_that_it_has_made_room_for(project: Space) -> None:
    async def work(attempt: Any, observer: Any) -> None:
        observer.started(1)
        await anyio.lowlevel.checkpoint()
        observer.ended(Outcome(0))

    seen = await run_fake(project, work, tasks=50, parallel=2)

    running = 0
    for event in seen:
        running += isinstance(event, TaskStarted) - isinstance(event, TaskFinished)
        assert 0 <= running <= 2
    assert [event.timestamp for event in seen] == sorted(event.timestamp for event in seen)


@pytest.mark.anyio
async def test_an_end_is_recorded_though_the_next_start_is_delayed(project: Space) -> None:
    seen: list[Event] = []
    known: list[set[str]] = []

    async def work(attempt: Any, observer: Any) -> None:
        if attempt.env[b"MINIFLOW_TASK_ID"].decode() in ("t2", "t3"):
            observer.delayed()
            known.append(ends_in(seen))
        observer.started(1)
        await anyio.lowlevel.checkpoint()
        observer.ended(Outcome(0))

    await run_fake(project, work, tasks=4, parallel=2, seen=seen)

    assert [len(ends) >= n for n, ends in enumerate(known, start=1)] == [True, True]


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ArithmeticError, OutputError])
async def test_the_start_of_the_next_is_told_though_the_end_before_it_could_not_be_recorded(
    project: Space, error: type[Exception]
) -> None:
    seen: list[Event] = []

    async def work(attempt: Any, observer: Any) -> None:
        try:
            observer.started(1)
            await anyio.lowlevel.checkpoint()
        except BaseException:
            observer.ended(Outcome(143, stopped=True))
            raise
        observer.ended(Outcome(0))

    def raising(event: Event) -> None:
        if isinstance(event, TaskFinished):
            raise error("the first one")

    with pytest.raises(error, match="the first one"):
        await run_fake(project, work, tasks=4, parallel=2, seen=seen, raising=raising)

    assert ends_in(seen) == {event.task_id for event in seen if isinstance(event, TaskStarted)} >= {"t0", "t1"}


@pytest.mark.anyio
@pytest.mark.parametrize("is_cancelled", [False, True], ids=["it fails", "the run is cancelled"])
async def test_an_end_is_recorded_before_what_others_print_though_the_next_is_not_started(
    project: Space, is_cancelled: bool
) -> None:
    seen: list[Event] = []
    both_run, has_ended = anyio.Event(), anyio.Event()
    scope = anyio.CancelScope()

    async def work(attempt: Any, observer: Any) -> None:
        task_id = attempt.env[b"MINIFLOW_TASK_ID"].decode()
        if task_id == "t2":
            assert not is_cancelled
            observer.ended(Outcome(127, "spawn", error="no such file"))
            return
        observer.started(1)
        if task_id == "t0":
            await both_run.wait()
            has_ended.set()
            if is_cancelled:
                scope.cancel()
        else:
            both_run.set()
            with anyio.CancelScope(shield=True):
                await has_ended.wait()
            observer.output("stdout", b"hello\n")
        observer.ended(Outcome(0))

    with scope:
        await run_fake(project, work, tasks=3, parallel=2, seen=seen, scope=scope)

    assert [event.timestamp for event in seen] == sorted(event.timestamp for event in seen)
    told = [event.task_id for event in seen if isinstance(event, TaskFinished | TaskOutput)]
    assert told.index("t0") < told.index("t1")


class SlowToRead:
    """Scripts that have changed, and are so large that they are read in a thread; the run is cancelled meanwhile."""

    planned = {"hello.py": "0"}  # noqa: RUF012

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope

    def unread_bytes(self, name: str) -> int:
        return 10**9

    def read(self, name: str) -> None:
        anyio.from_thread.run_sync(self._scope.cancel)


class CancelsOnceItHasRoom:
    """A reader who takes all that there is, and cancels the run before anybody else has his turn."""

    has_room = False

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope

    async def wait_for_room(self) -> None:
        self._scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "kind"), [("scripts", SlowToRead), ("reader", CancelsOnceItHasRoom)])
async def test_nothing_is_started_that_has_waited_for_something_until_the_run_was_cancelled(
    project: Space, name: str, kind: type[SlowToRead | CancelsOnceItHasRoom]
) -> None:
    seen: list[Event] = []

    async def work(attempt: Any, observer: Any) -> None:
        raise AssertionError("it was started")

    with anyio.CancelScope() as scope:
        await run_fake(project, work, tasks=1, parallel=1, seen=seen, scope=scope, **{name: kind(scope)})

    assert scope.cancelled_caught
    assert [event.name for event in seen] == ["run.started", "task.cancelled", "run.finished"]
