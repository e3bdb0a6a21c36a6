"""The runner and its slots, with an executor that is a fake: what it says when, and how it goes on where there is room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

import miniflow
from miniflow import Event, OutputError, RunFinished, TaskFinished, TaskOutput, TaskStarted
from miniflow.reporter import MOST_LATE, Reporter
from miniflow.results import Outcome
from miniflow.runner import RunSetup, run_plan
from miniflow.sinks import Sink
from miniflow.sinks.callback import CallbackSink
from tests.conftest import Space


@pytest.fixture
def project(space: Space) -> Space:
    space.script("hello.py", "print('hello')")
    return space


class FakeExecutor:
    """Does with an attempt whatever a test says; never starts a process."""

    calls: list[Callable[[], None]] | None
    """What is to be called when nobody has anything to tell; None: that is never known."""

    def __init__(self, work: Callable[[Any, Any], Awaitable[None]]) -> None:
        self.run = work

    def before_waiting(self, call: Callable[[], None]) -> bool:
        if self.calls is not None:
            self.calls.append(call)
        return self.calls is not None

    def close(self) -> None:
        """It holds nothing."""


@pytest.fixture(params=[False, True], ids=["told at once", "told late"], autouse=True)
def is_late(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether starts may be told late: here as late as can be, as somebody always has something to tell."""
    monkeypatch.setattr(FakeExecutor, "calls", [] if request.param else None, raising=False)
    return bool(request.param)


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
    more_sinks: Sequence[Sink] = (),
    **setup: Any,
) -> list[Event]:
    upstream = depends_on or {}
    described = [{"id": f"t{n}", "script": "hello.py", "depends_on": upstream.get(f"t{n}", [])} for n in range(tasks)]
    flow = {"name": "fake", "tasks": described}
    seen = [] if seen is None else seen
    plan = miniflow.plan_flow(flow, **space.directories)
    sinks = [*[CallbackSink(tell) for tell in (seen.append, raising) if tell is not None], *more_sinks]
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


def refusing_starts(error: type[BaseException]) -> Callable[[Event], None]:
    """Return somebody who cannot be told of a start."""

    def tell(event: Event) -> None:
        if isinstance(event, TaskStarted):
            raise error("it cannot be told")

    return tell


class Together:
    """A sink that notes what it is told together."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []

    def emit(self, *items: Any) -> None:
        self.told.append([f"{getattr(item, 'task_id', '')} {item.name}".strip() for item in items])


@pytest.mark.anyio
async def test_what_ends_and_starts_while_others_wait_for_their_turn_is_told_together(project: Space, is_late: bool) -> None:
    seen: list[Event] = []
    sink = Together()
    starts: dict[str, anyio.Event] = {}
    may_end, is_told = anyio.Event(), anyio.Event()

    async def work(attempt: Any, observer: Any) -> None:
        task_id = attempt.env[b"MINIFLOW_TASK_ID"].decode()
        observer.started(1)
        if task_id in ("t0", "t1"):
            starts[task_id] = anyio.Event()
            if len(starts) == 2:
                while FakeExecutor.calls:
                    FakeExecutor.calls.pop()()
                may_end.set()
            await may_end.wait()
        elif task_id == "t2":
            await is_told.wait()
        else:
            while FakeExecutor.calls:
                FakeExecutor.calls.pop()()
            is_told.set()
            await anyio.lowlevel.checkpoint()
        observer.ended(Outcome(0))

    await run_fake(project, work, tasks=4, parallel=2, seen=seen, more_sinks=[sink])

    if is_late:
        assert any(
            [f"{first} task.finished", "t2 task.started", f"{second} task.finished", "t3 task.started"] in sink.told
            for first, second in (("t0", "t1"), ("t1", "t0"))
        )
    else:
        assert all(len(told) <= 2 for told in sink.told)
    assert [event.timestamp for event in seen] == sorted(event.timestamp for event in seen)


@pytest.mark.anyio
@pytest.mark.parametrize("parallel", [2, 3])
async def test_no_more_than_a_few_are_told_late(project: Space, parallel: int) -> None:
    seen: list[Event] = []
    sink = Together()
    untold: list[int] = []
    started = 0

    async def work(attempt: Any, observer: Any) -> None:
        nonlocal started
        observer.started(1)
        started += 1
        untold.append(started - sum(isinstance(event, TaskStarted) for event in seen))
        await anyio.lowlevel.checkpoint()
        observer.ended(Outcome(0))

    await run_fake(project, work, tasks=100, parallel=parallel, seen=seen, more_sinks=[sink])

    assert max(untold) <= MOST_LATE
    assert max(map(len, sink.told)) <= MOST_LATE


@pytest.mark.anyio
async def test_a_start_is_told_before_what_the_task_prints(project: Space) -> None:
    async def work(attempt: Any, observer: Any) -> None:
        observer.started(1)
        observer.output("stdout", b"hello\n")
        await anyio.lowlevel.checkpoint()
        observer.ended(Outcome(0))

    seen = await run_fake(project, work, tasks=6, parallel=2)

    for n in range(6):
        names = [event.name for event in seen if getattr(event, "task_id", None) == f"t{n}"]
        assert names == ["task.started", "task.output", "task.finished"]


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ArithmeticError, OutputError, SystemExit])
async def test_what_cannot_be_told_late_ends_the_run_as_well(project: Space, is_late: bool, error: type[BaseException]) -> None:
    if not is_late:
        pytest.skip("nothing is told late")
    seen: list[Event] = []

    async def work(attempt: Any, observer: Any) -> None:
        observer.started(1)
        try:
            await anyio.lowlevel.checkpoint()
            FakeExecutor.calls.pop()()  # type: ignore[union-attr]
            await anyio.sleep_forever()
        finally:
            observer.ended(Outcome(143, stopped=True))

    with anyio.fail_after(30), pytest.raises(error, match="it cannot be told"):
        await run_fake(project, work, tasks=1, parallel=2, seen=seen, raising=refusing_starts(error))

    assert [event.name for event in seen] == ["run.started", "task.started", "task.finished", "run.finished"]


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ArithmeticError, OutputError])
async def test_a_start_that_cannot_be_told_before_the_next_attempt_begins_ends_the_run(
    project: Space, error: type[Exception]
) -> None:
    seen: list[Event] = []

    async def work(attempt: Any, observer: Any) -> None:
        try:
            observer.started(1)
            for _ in range(3):  # meanwhile the next one is to be begun with; on trio, perhaps, it was before
                await anyio.lowlevel.checkpoint()
            while FakeExecutor.calls:
                FakeExecutor.calls.pop()()
            await anyio.sleep_forever()
        finally:
            observer.ended(Outcome(143, stopped=True))

    with anyio.fail_after(30), pytest.raises(error, match="it cannot be told"):
        await run_fake(project, work, tasks=3, parallel=2, seen=seen, raising=refusing_starts(error))

    ends = {event.task_id: event.name for event in seen if hasattr(event, "task_id")}
    assert ends.keys() == {"t0", "t1", "t2"}
    assert "task.started" not in ends.values()
    assert seen[-1].name == "run.finished"


def test_the_end_of_a_run_is_told_though_what_was_late_cannot_be(project: Space) -> None:
    seen: list[Event] = []
    plan = miniflow.plan_flow({"name": "x", "tasks": [{"id": "a", "script": "hello.py"}]}, **project.directories)
    sinks = [CallbackSink(seen.append), CallbackSink(refusing_starts(OutputError))]
    reporter = Reporter(plan, "run", sinks, [])
    reporter.start_late(0, 1, ("true",), 1, None)

    reporter.run_finished("succeeded", 0, is_out_of_time=False)

    assert [event.name for event in seen] == ["task.started", "run.finished"]
    assert isinstance(seen[-1], RunFinished)
    assert (seen[-1].state, seen[-1].error) == ("failed", "it cannot be told")


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
