"""A cancellation at every instant of a run, of every kind: no process is left, every task has its end, and it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

import miniflow
from miniflow import Event, open_run, read_run, run_flow
from miniflow.actions import Start
from miniflow.executors import local
from miniflow.executors.process import Process
from miniflow.runner import _Run
from miniflow.scheduler import Scheduler
from miniflow.sinks.run_directory import RunDirectorySink
from tests.conftest import Space, survivors
from tests.reaping import reaping_handler, reaping_thread
from tests.records import assert_whole
from tests.stubborn import TASKS, only_run, put_scripts

PACKAGE = str(Path(miniflow.__file__).parent)

# Something that prints, something that is tried again, something that comes after it whatever it was; all of it quick.
FLOW = {
    "name": "f",
    "tasks": [
        {"id": "prints", "script": "prints.sh"},
        {"id": "fails", "script": "fails.sh", "retries": {"max": 1, "delay": 0.01}},
        {"id": "after", "script": "prints.sh", "depends_on": "fails", "trigger_rule": "all_done"},
        {"id": "never", "script": "prints.sh", "depends_on": "fails"},
    ],
}
LONG = {
    "name": "f",
    "tasks": [
        *TASKS,
        {"id": "after", "script": "prints.sh", "depends_on": "sleeps", "trigger_rule": "all_done"},
    ],
}


@pytest.fixture
def project(space: Space) -> Space:
    space.script("prints.sh", "echo hello; echo there >&2; printf 'no end'")
    put_scripts(space)
    return space


BEAT_S = 0.002


class Instants:
    """Counts what a loop does, one step of one task after the other, and does something at the n-th.

    A run whose tasks all sleep has no steps: then a beat of the loop's is one.
    """

    def __init__(self, do: dict[int, Callable[[], object]]) -> None:
        self.count = 0
        self.done = 0
        self.is_on = False
        self._do = do

    def tick(self) -> None:
        if self.is_on:
            self.count += 1
            if self.count in self._do:
                self.done += 1
                self._do[self.count]()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count while the block runs."""
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False


class CountingLoop(asyncio.SelectorEventLoop):
    """Tells of each callback that it runs."""

    instants: Instants

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        def counted(*args: Any) -> None:
            self.instants.tick()
            callback(*args)

        return super().call_soon(counted, *args, context=context)


class CountingInstrument(trio.abc.Instrument):
    """Tells of each step of each task."""

    def __init__(self, instants: Instants) -> None:
        self._instants = instants

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._instants.tick()


def in_asyncio(main: Callable[[], Awaitable[None]], instants: Instants) -> None:
    def loop() -> CountingLoop:
        loop = CountingLoop()
        loop.instants = instants
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        return loop

    def beat() -> None:
        instants.tick()
        asyncio.get_running_loop().call_later(BEAT_S, beat)

    async def go() -> None:
        beat()
        await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    complaints: list[Any] = []
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(go())
    gc.collect()
    assert complaints == []


def in_trio(main: Callable[[], Awaitable[None]], instants: Instants) -> None:
    async def beat() -> None:
        while True:  # noqa: ASYNC110  nothing is awaited here: it is a clock
            await trio.sleep(BEAT_S)

    async def go() -> None:
        trio.lowlevel.spawn_system_task(beat)
        before = trio.lowlevel.current_statistics().tasks_living
        await main()
        assert trio.lowlevel.current_statistics().tasks_living == before

    trio.run(go, instruments=[CountingInstrument(instants)])


# What a run is cancelled in. Each is told at which instants, and returns whether there were that many.


def in_a_scope(run: Callable[[], Awaitable[object]], at: list[int], backend: Callable[..., None]) -> bool:
    async def main() -> None:
        has_returned = False
        with anyio.CancelScope() as scope, instants.counted():
            scopes.append(scope)
            await run()
            has_returned = True
        assert scope.cancelled_caught != has_returned
        if backend is in_asyncio:
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        await anyio.lowlevel.checkpoint()  # goes on

    scopes: list[anyio.CancelScope] = []
    instants = Instants(dict.fromkeys(at, lambda: scopes[0].cancel()))
    backend(main, instants)
    return instants.done > 0


def in_a_scope_of_asyncio(run: Callable[[], Awaitable[object]], at: list[int]) -> bool:
    return in_a_scope(run, at, in_asyncio)


def in_a_scope_of_trio(run: Callable[[], Awaitable[object]], at: list[int]) -> bool:
    return in_a_scope(run, at, in_trio)


def by_a_deadline_of_trio(run: Callable[[], Awaitable[object]], at: list[int]) -> bool:
    async def main() -> None:
        has_returned = False
        with trio.move_on_after(float("inf")) as scope, instants.counted():
            scopes.append(scope)
            await run()
            has_returned = True
        assert scope.cancelled_caught != has_returned
        await trio.lowlevel.checkpoint()

    def expire() -> None:
        scopes[0].deadline = trio.current_time()

    scopes: list[trio.CancelScope] = []
    instants = Instants(dict.fromkeys(at, expire))
    in_trio(main, instants)
    return instants.done > 0


def by_a_timeout_of_asyncio(run: Callable[[], Awaitable[object]], at: list[int]) -> bool:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        has_returned = False
        try:
            async with asyncio.timeout(None) as timeout:
                timeouts.append(timeout)
                with instants.counted():
                    await run()
                has_returned = True
        except TimeoutError:
            assert timeout.expired()
            assert not has_returned
        else:
            assert has_returned
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    def expire() -> None:
        if instants.done == 1:
            timeouts[0].reschedule(asyncio.get_running_loop().time())

    timeouts: list[asyncio.Timeout] = []
    instants = Instants(dict.fromkeys(at, expire))
    in_asyncio(main, instants)
    return instants.done > 0


def by_task_cancel(run: Callable[[], Awaitable[object]], at: list[int]) -> bool:
    async def main() -> None:
        async def cancellable() -> None:
            try:
                with instants.counted():
                    await run()
            finally:
                cancelling.append(asyncio.current_task().cancelling())  # type: ignore[union-attr]

        task = asyncio.create_task(cancellable())
        tasks.append(task)
        await asyncio.wait([task])
        assert task.cancelled() == (instants.done > 0), task
        if not task.cancelled():
            task.result()
        # As often as it was cancelled; nobody has called it off.
        assert cancelling in ([], [instants.done])

    tasks: list[asyncio.Task[None]] = []
    cancelling: list[int] = []
    instants = Instants(dict.fromkeys(at, lambda: tasks[0].cancel()))
    in_asyncio(main, instants)
    return instants.done > 0


KINDS = [in_a_scope_of_asyncio, in_a_scope_of_trio, by_a_deadline_of_trio, by_a_timeout_of_asyncio, by_task_cancel]


async def run_to_the_end(space: Space, **options: Any) -> None:
    result = await run_flow(FLOW, parallel=2, grace=0.2, **space.directories, **options)
    assert result.state == "failed"


async def read_to_the_end(space: Space) -> None:
    async with open_run(FLOW, parallel=2, grace=0.2, **space.directories) as run:
        async for _ in run:
            pass
    assert run.result.state == "failed"


def ended(space: Space, flow: dict[str, Any]) -> str | None:
    """Return the state of the one run of the space, whose record is whole, or None if there is none; the run goes away."""
    run_dir = only_run(space, flow["name"])
    if run_dir is None:
        return None
    state = assert_whole(run_dir, [task["id"] for task in flow["tasks"]])
    assert read_run(run_dir).tasks["fails"].state != "succeeded"
    assert space.latest(flow["name"]) == run_dir.resolve()
    run_dir.rename(space.path / run_dir.name)
    return state


def sweep(space: Space, marker: str, cancelled: Callable[[int], bool], instants: Iterator[int]) -> set[str | None]:
    states = set()
    for instant in instants:
        is_reached = cancelled(instant)

        assert survivors(marker) == []
        states.add(ended(space, FLOW))
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        if not is_reached:
            assert instant > 25, "so few steps cannot be all"
            return states
    return states


def each(first: int, step: int) -> Iterator[int]:
    """Every step-th instant, or every one in the midst of `pytest -m stress`."""
    yield from range(first, 1000, step)


EVERY = [pytest.param(10, id="some"), pytest.param(1, id="all", marks=pytest.mark.stress)]


@pytest.mark.parametrize("step", EVERY)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_cancelled_at_each_of_its_steps(project: Space, marker: str, kind: Any, step: int) -> None:
    states = sweep(project, marker, lambda k: bool(kind(lambda: run_to_the_end(project), [k])), each(1, step))

    assert states >= {"cancelled", "failed"}


@pytest.mark.parametrize("step", EVERY)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_read_is_cancelled_at_each_of_its_steps(project: Space, marker: str, kind: Any, step: int) -> None:
    states = sweep(project, marker, lambda k: bool(kind(lambda: read_to_the_end(project), [k])), each(10, step))

    assert states >= {"cancelled", "failed"}


@pytest.mark.parametrize("step", EVERY)
@pytest.mark.parametrize("later", [1, 2, 3, 7, 20])
def test_a_task_is_cancelled_at_each_of_its_steps_and_again_soon_after(
    project: Space, marker: str, later: int, step: int
) -> None:
    step = step if step == 1 else 60
    sweep(
        project, marker, lambda k: by_task_cancel(lambda: run_to_the_end(project), [k, k + later]), each(10 + 7 * later, step)
    )


@pytest.mark.parametrize("kind", ["cancels", "raises"])
@pytest.mark.anyio
async def test_the_function_that_is_told_of_events_cancels_or_raises_at_each(project: Space, marker: str, kind: str) -> None:
    for n in range(1, 100):
        left = n

        def on_event(event: Event) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                if kind == "raises":
                    raise KeyError("mine")
                scope.cancel()

        with anyio.CancelScope() as scope, contextlib.suppress(KeyError):
            await run_to_the_end(project, on_event=on_event)

        assert survivors(marker) == []
        state = ended(project, FLOW)
        if left > 0:
            assert n > 10
            return
        assert state is not None
    pytest.fail("there are not so many events")


# --- hosts that reap the children of others


@pytest.mark.parametrize("step", EVERY)
@pytest.mark.parametrize("reaping", [reaping_thread, reaping_handler])
@pytest.mark.parametrize("kind", [in_a_scope_of_trio, by_task_cancel])
def test_a_host_that_reaps_every_child_never_makes_a_success_of_a_cancelled_one(
    project: Space, marker: str, kind: Any, reaping: Any, step: int
) -> None:
    async def run() -> None:
        await run_flow(FLOW, parallel=2, grace=0.2, **project.directories)

    with reaping():
        for instant in each(20, step if step == 1 else 50):
            is_reached = kind(run, [instant])

            assert survivors(marker) == []
            ended(project, FLOW)
            if not is_reached:
                break


# --- hosts that are told of Ctrl-C by an exception out of anywhere


def interrupted_at(run: Callable[[], object], instants: Sequence[int]) -> bool:
    """Run in this thread, as if Ctrl-C were pressed at some lines of our own; return whether there are so many."""

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if PACKAGE not in frame.f_code.co_filename:
            return None
        place = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and place not in seen:
            seen.add(place)
            if len(seen) in instants:
                signal.raise_signal(signal.SIGINT)
        return trace

    seen: set[tuple[str, int]] = set()
    sys.settrace(trace)
    try:
        run()
    except* KeyboardInterrupt:
        assert len(seen) >= instants[0]
    finally:
        sys.settrace(None)
    return len(seen) >= instants[0]


LINES = [pytest.param(60, id="some"), pytest.param(1, id="all", marks=pytest.mark.stress)]


@pytest.mark.parametrize("step", LINES)
@pytest.mark.parametrize("run", [run_to_the_end, read_to_the_end])
@pytest.mark.timeout(1200)
def test_ctrl_c_at_each_line_of_ours_in_a_host_that_runs_trio(project: Space, marker: str, run: Any, step: int) -> None:
    def interrupted(instant: int) -> bool:
        return interrupted_at(lambda: trio.run(run, project), [instant])

    states = sweep(project, marker, interrupted, iter(range(1 + step // 2, 10_000, step)))

    assert states >= {"cancelled", "failed"}


def interrupting(module: Any, name: str, monkeypatch: pytest.MonkeyPatch, nth: int = 1) -> None:
    """Have the n-th call of a function of ours end in a KeyboardInterrupt, when it has done its work."""

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        calls.append(name)
        if len(calls) == nth:
            raise KeyboardInterrupt
        return result

    calls: list[str] = []
    function = getattr(module, name)
    monkeypatch.setattr(module, name, interrupted)


@pytest.mark.parametrize(
    ("module", "name", "nth"),
    [
        (local, "start", 2),
        (Process, "close", 1),
        (Scheduler, "handle", 2),
        (RunDirectorySink, "emit", 3),
        (RunDirectorySink, "emit", 20),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_as_an_exception_leaves_no_process_and_no_thread_and_comes_out_of_the_run(
    project: Space, marker: str, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, nth: int
) -> None:
    # asyncio has it so at the second Ctrl-C, and applications that handle the first themselves.
    interrupting(module, name, monkeypatch, nth)
    before = set(threading.enumerate())

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(
            run_flow({**FLOW, "tasks": [*FLOW["tasks"], *LONG["tasks"][:2]]}, parallel=4, grace=0.2, **project.directories)
        )

    for thread in set(threading.enumerate()) - before:
        thread.join()
    while survivors(marker):
        os.sched_yield()
    assert read_run(project.latest("f")).state in ("cancelled", "interrupted")
    gc.collect()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # anyio's word on a task that never began
def test_a_loop_that_shuts_down_before_an_attempt_has_begun_does_not_wait_for_it(
    project: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform = _Run._perform

    def then_shut_down(run: _Run, action: Any, group: Any) -> None:
        perform(run, action, group)
        if isinstance(action, Start):
            for task in asyncio.all_tasks():
                task.cancel()

    monkeypatch.setattr(_Run, "_perform", then_shut_down)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run_flow(FLOW, **project.directories))
    gc.collect()
    assert read_run(project.latest("f")).state == "cancelled"


# --- random instants of a run of tasks that do not end of themselves


def cancel_at_random_instants(space: Space, marker: str, kind: Any, count: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    for _ in range(count):
        first = chance.randrange(1, 100)
        at = [first, first + chance.randrange(1, 30)]

        async def run() -> None:
            await run_flow(LONG, parallel=chance.randrange(1, 6), grace=0.1, **space.directories)

        assert kind(run, at)

        assert survivors(marker) == []
        assert ended(space, LONG) in (None, "cancelled")


@pytest.mark.parametrize("count", [pytest.param(2, id="some"), pytest.param(200, id="many", marks=pytest.mark.stress)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(600)
def test_a_run_of_stubborn_tasks_is_cancelled_at_random_instants(project: Space, marker: str, kind: Any, count: int) -> None:
    cancel_at_random_instants(project, marker, kind, count, seed=KINDS.index(kind))


def test_a_loop_that_shuts_down_while_a_run_is_being_made_leaves_none_that_seems_to_go_on(project: Space, marker: str) -> None:
    async def main(turns: int) -> None:
        task = asyncio.create_task(run_flow(FLOW, **project.directories))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not task.done()

    def descriptors() -> set[str]:
        return set(os.listdir("/proc/self/fd"))

    before = descriptors()
    for turns in range(1, 30):
        asyncio.run(main(turns))  # its end cancels each task for itself, shielded or not
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join()

        assert survivors(marker) == []
        assert descriptors() == before
        for run_dir in (project.output_dir / "f").glob("2*"):
            assert read_run(run_dir).state in ("cancelled", "interrupted")


@pytest.mark.anyio
async def test_what_is_killed_in_the_moment_of_the_cancellation_counts_as_cancelled(project: Space, marker: str) -> None:
    flow = {"name": "f", "tasks": [{"id": "fails", "script": "sleeps.sh"}]}

    async with open_run(flow, **project.directories) as run:
        async for event in run:
            if event.name == "task.output":
                run.cancel()
                run.kill()

    assert (run.result.state, run.result.tasks["fails"].state) == ("cancelled", "cancelled")
    assert ended(project, flow) == "cancelled"
