"""MiniFlow inside a program: run_flow and open_run under asyncio and trio, their cancellation, and the synchronous class."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
import trio

import miniflow
from miniflow import (
    Event,
    Flow,
    FlowError,
    MiniFlow,
    OutputError,
    Retries,
    RunFailed,
    RunFinished,
    RunResult,
    RunStarted,
    Task,
    TaskFinished,
    TaskOutput,
    TaskResult,
    TaskStarted,
    UnknownFlowError,
    UsageError,
    open_run,
    read_run,
    run_flow,
)
from miniflow.events import OutputChunk
from miniflow.executors import watch
from miniflow.feed import MAX_WAITING_CHARACTERS
from tests.conftest import Space, events, only, survivors

# So many lines of one character wait for a reader.
MAX_WAITING_LINES = MAX_WAITING_CHARACTERS // 101

TWO = {
    "name": "two",
    "tasks": [
        {"id": "first", "script": "hello.py"},
        {"id": "second", "script": "hello.py", "depends_on": ["first"]},
    ],
}


@pytest.fixture
def project(space: Space) -> Space:
    space.script("hello.py", "print('hello')")
    space.script("fail.py", "import sys; sys.exit(3)")
    space.script("long.py", "import time; print('up'); time.sleep(600)")
    space.script(
        "deaf.py",
        """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("up")
        time.sleep(600)
        """,
    )
    space.flow(TWO)
    return space


def long_flow(*scripts: str) -> dict[str, Any]:
    """Return a flow of tasks that never end of themselves, and one after them all."""
    tasks: list[dict[str, Any]] = [{"id": f"t{n}", "script": script} for n, script in enumerate(scripts)]
    tasks.append({"id": "after", "script": "hello.py", "depends_on": [task["id"] for task in tasks]})
    return {"name": "long", "tasks": tasks}


class Up:
    """An `on_event` that notes all events, and calls a function once so many lines have been printed."""

    def __init__(self, lines: int, then: Callable[[], object] = lambda: None) -> None:
        self.seen: list[Event] = []
        self.is_reached = anyio.Event()
        self._left = lines
        self._then = then

    def __call__(self, event: Event) -> None:
        self.seen.append(event)
        if isinstance(event, TaskOutput):
            self._left -= 1
            if self._left == 0:
                self.is_reached.set()
                self._then()


def assert_recorded_as_cancelled(run_dir: Path, started: int) -> None:
    """The record of a run that was cancelled is whole: journal, statuses and summary agree."""
    journal = events(run_dir)
    assert journal[-1]["event"] == "run.finished"
    assert (journal[-1]["state"], journal[-1]["exit_status"]) == ("cancelled", 130)
    finished = only(journal, "task.finished")
    assert len(finished) == started
    assert {event["state"] for event in finished} <= {"cancelled"}
    for event in finished:
        assert (run_dir / "status" / event["task_id"]).read_text() == f"{event['exit_status']}\n"
        assert event["exit_status"] in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    summary = json.loads((run_dir / "run.json").read_text())
    assert summary["state"] == "cancelled"
    assert summary["counts"]["cancelled"] == len(summary["tasks"]) == started + len(only(journal, "task.cancelled"))
    assert read_run(run_dir).state == "cancelled"


# --- run_flow


@pytest.mark.anyio
async def test_a_run_returns_how_it_and_its_tasks_ended(project: Space) -> None:
    result = await run_flow("two", **project.directories)

    assert isinstance(result, RunResult)
    assert (result.flow, result.state, result.exit_status) == ("two", "succeeded", 0)
    assert result.run_dir == project.latest("two")
    assert result.run_id == result.run_dir.name
    assert isinstance(result.duration, float)
    assert list(result.tasks) == ["first", "second"]
    first = result.tasks["first"]
    assert isinstance(first.duration, float)
    assert first == TaskResult("first", "succeeded", 0, "exit", None, 1, first.duration)


@pytest.mark.anyio
async def test_a_failed_task_is_a_result_and_no_exception(project: Space) -> None:
    flow = {"name": "f", "tasks": [{"id": "a", "script": "fail.py"}, {"id": "b", "script": "hello.py", "depends_on": "a"}]}

    result = await run_flow(flow, **project.directories)

    assert (result.state, result.exit_status) == ("failed", 1)
    assert result.tasks["a"].exit_status == 3
    assert result.tasks["b"] == TaskResult("b", "skipped", reason="upstream_failed")


@pytest.mark.anyio
async def test_results_are_frozen_values(project: Space) -> None:
    result = await run_flow("two", **project.directories)

    with pytest.raises(AttributeError):
        result.state = "failed"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        result.tasks["first"].exit_status = 1  # type: ignore[misc]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["name", "path", "path text", "Flow", "mapping"])
async def test_a_flow_may_be_given_in_many_ways(project: Space, kind: str) -> None:
    path = project.flows_dir / "two.json"
    tasks = (Task("first", "hello.py"), Task("second", "hello.py", depends_on=("first",), retries=Retries(1)))
    flow = {"name": "two", "path": path, "path text": str(path), "Flow": Flow("two", tasks), "mapping": TWO}[kind]

    result = await run_flow(flow, **project.directories)

    assert (result.flow, result.state, list(result.tasks)) == ("two", "succeeded", ["first", "second"])


@pytest.mark.anyio
async def test_every_event_is_told_in_order_as_the_journal_and_the_logs_have_it(project: Space) -> None:
    seen: list[Event] = []

    result = await run_flow("two", on_event=seen.append, **project.directories)

    assert [event.name for event in seen] == [
        "run.started",
        *["task.started", "task.output", "task.finished"] * 2,
        "run.finished",
    ]
    journal = [event for event in seen if not isinstance(event, TaskOutput)]
    assert [json.loads(json.dumps(event.to_dict())) for event in journal] == events(result.run_dir)
    assert [event.line for event in seen if isinstance(event, TaskOutput)] == ["hello", "hello"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [RunStarted, TaskStarted, TaskOutput, TaskFinished, RunFinished])
async def test_what_on_event_raises_stops_the_run_and_comes_out_as_it_is(
    project: Space, marker: str, kind: type[Event]
) -> None:
    error = ValueError("mine")

    def on_event(event: Event) -> None:
        if isinstance(event, kind):
            raise error

    flow = {"name": "f", "tasks": [{"id": "a", "script": "hello.py"}, {"id": "b", "script": "long.py"}]}
    if kind is RunFinished:
        flow = TWO

    with pytest.raises(ValueError, match="mine") as caught:
        await run_flow(flow, parallel=2, on_event=on_event, **project.directories)

    assert caught.value is error
    journal = events(project.latest(str(flow["name"])))
    assert journal[-1]["event"] == "run.finished"
    outcome = (journal[-1]["state"], journal[-1]["exit_status"], journal[-1].get("error"))
    assert outcome == (("succeeded", 0, None) if kind is RunFinished else ("failed", 2, "mine"))


@pytest.mark.anyio
async def test_what_on_event_raises_at_a_line_does_not_keep_the_rest_from_being_recorded(project: Space) -> None:
    # Bash itself, so that all is in the pipe, and the process has ended, while the callback holds up the loop.
    project.script("prints.sh", "printf '%05d\\n' {1..8000}")
    started: list[int] = []

    def on_event(event: Event) -> None:
        if isinstance(event, TaskStarted):
            started.append(event.pid)
        elif isinstance(event, TaskOutput):
            while not has_ended(started[0]):
                os.sched_yield()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_flow({"name": "f", "tasks": [{"id": "a", "script": "prints.sh"}]}, on_event=on_event, **project.directories)

    run_dir = project.latest("f")
    lines = [json.loads(line) for line in (run_dir / "logs/a.jsonl").read_text().splitlines()]
    assert read_run(run_dir).tasks["a"].state == "succeeded"
    assert [line["message"] for line in only(lines, "task.output")] == [f"{number:05}" for number in range(1, 8001)]


@pytest.mark.anyio
async def test_what_on_event_raises_keeps_its_cause(project: Space) -> None:
    cause = KeyError("why")

    def on_event(event: Event) -> None:
        raise ValueError("mine") from cause

    with pytest.raises(ValueError, match="mine") as caught:
        await run_flow("two", on_event=on_event, **project.directories)
    assert caught.value.__cause__ is cause

    with pytest.raises(ValueError, match="mine") as caught:
        async with open_run("two", **project.directories):
            raise ValueError("mine") from cause
    assert caught.value.__cause__ is cause


@pytest.mark.anyio
async def test_a_run_that_cannot_be_recorded_is_not_recorded_as_a_success(project: Space) -> None:
    project.script("breaks.sh", "rmdir $MINIFLOW_RUN_DIR/status")

    with pytest.raises(OutputError, match="status"):
        await run_flow({"name": "f", "tasks": [{"id": "a", "script": "breaks.sh"}]}, **project.directories)

    result = read_run(project.latest("f"))
    assert (result.state, result.exit_status) == ("failed", 2)
    assert "cannot write" in events(project.latest("f"))[-1]["error"]


@pytest.mark.anyio
async def test_what_a_task_leaves_in_its_group_is_gone_when_the_run_is(project: Space, marker: str) -> None:
    deaf = "trap '' TERM; echo up > {0}; while :; do sleep 1; done"
    project.script("leaves.sh", f"mkfifo up; bash -c '{deaf.format('up')}' </dev/null >/dev/null 2>&1 & read -r < up")

    result = await run_flow(
        {"name": "f", "tasks": [{"id": "a", "script": "leaves.sh", "cwd": str(project.path)}]}, **project.directories
    )

    assert result.state == "succeeded"
    assert survivors(marker) == []


def test_a_loop_that_shuts_down_at_any_moment_leaves_a_whole_record(project: Space, marker: str) -> None:
    async def main(turns: int) -> None:
        started = asyncio.Event()
        flow = {"name": f"f{turns}", "tasks": [{"id": name, "script": "long.py"} for name in "abc"]}
        task = asyncio.create_task(
            run_flow(flow, parallel=2, grace=0.1, on_event=lambda _: started.set(), **project.directories)
        )
        await started.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not task.done()

    for turns in range(12):
        run_asyncio(lambda turns=turns: main(turns))  # type: ignore[misc]
        assert survivors(marker) == []
        assert events(project.latest(f"f{turns}"))[-1]["event"] == "run.finished"


@pytest.mark.anyio
async def test_a_second_stop_kills_at_once(project: Space) -> None:
    flow = {"name": "f", "tasks": [{"id": "a", "script": "deaf.py"}]}

    async with open_run(flow, grace=600, **project.directories) as run:
        async for event in run:
            if isinstance(event, TaskOutput):
                run.cancel(143)
                await anyio.lowlevel.checkpoint()
                run.kill()

    task = run.result.tasks["a"]
    assert (task.state, task.exit_status, task.reason, task.signal) == ("cancelled", 137, "signal", "SIGKILL")
    assert (run.result.state, run.result.exit_status) == ("cancelled", 143)


@pytest.mark.anyio
async def test_a_reader_who_stands_still_does_not_use_up_the_grace_of_a_task_that_ends_at_once(project: Space) -> None:
    project.script("loud.py", "while True: print('x' * 1000)")

    async with open_run({"name": "f", "tasks": [{"id": "a", "script": "loud.py"}]}, grace=600, **project.directories) as run:
        await until(lambda: (run.run_dir / "logs/a.jsonl").exists())
        run.cancel()
        await until(lambda: only(events(run.run_dir), "task.finished") != [])

    assert run.result.tasks["a"].signal == "SIGTERM"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("flow", "options", "error"),
    [
        ("tow", {}, UnknownFlowError),
        ({"name": "x", "tasks": []}, {}, FlowError),
        ({"name": "x", "tasks": [{"id": "a", "script": "missing.py"}]}, {}, FlowError),
        ("two", {"parallel": 0}, UsageError),
        ("two", {"parallel": True}, UsageError),
        ("two", {"grace": -1}, UsageError),
        ("two", {"grace": float("nan")}, UsageError),
    ],
)
async def test_a_users_mistake_is_one_exception_before_anything_is_written(
    project: Space, flow: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await run_flow(flow, **options, **project.directories)
    with pytest.raises(error):
        async with open_run(flow, **options, **project.directories):
            pytest.fail("the block must not begin")

    assert not project.output_dir.exists()


@pytest.mark.anyio
async def test_an_output_directory_that_cannot_be_written_is_an_output_error(project: Space) -> None:
    project.output_dir.write_text("in the way")

    with pytest.raises(OutputError):
        await run_flow("two", **project.directories)


@pytest.mark.anyio
async def test_independent_tasks_run_at_once_under_the_limit(project: Space) -> None:
    # Each waits until all three are there: with fewer at once none would come to its end.
    project.script(
        "meet.py",
        """
        import os, pathlib, time
        folder = pathlib.Path(os.environ["MINIFLOW_RUN_DIR"])
        (folder / f"here-{os.environ['MINIFLOW_TASK_ID']}").touch()
        while len(list(folder.glob("here-*"))) < 3:
            time.sleep(0.01)
        """,
    )
    tasks = [{"id": f"t{n}", "script": "meet.py"} for n in range(9)]
    running = peak = 0

    def on_event(event: Event) -> None:
        nonlocal running, peak
        running += isinstance(event, TaskStarted) - isinstance(event, TaskFinished)
        peak = max(peak, running)

    result = await run_flow({"name": "meet", "tasks": tasks}, parallel=3, on_event=on_event, **project.directories)

    assert result.state == "succeeded"
    assert peak == 3


@pytest.mark.anyio
async def test_the_same_flow_may_run_many_times_at_once(project: Space) -> None:
    results: list[RunResult] = []

    async def one() -> None:
        results.append(await run_flow("two", **project.directories))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(one)

    assert {result.state for result in results} == {"succeeded"}
    assert len({result.run_id for result in results}) == 20


# --- open_run


@pytest.mark.anyio
async def test_a_run_is_a_stream_of_its_events_and_then_a_result(project: Space) -> None:
    async with open_run("two", parallel=2, **project.directories) as run:
        seen = [event async for event in run]

    assert [event.name for event in seen][:3] == ["run.started", "task.started", "task.output"]
    assert [type(event) for event in seen][-1] is RunFinished
    assert not any(isinstance(event, OutputChunk) for event in seen)
    assert run.result.state == "succeeded"
    assert run.result == read_run(run.run_dir)
    assert run.run_id == run.run_dir.name
    assert [task.id for task in run.plan.tasks] == ["first", "second"]


@pytest.mark.anyio
async def test_the_stream_can_be_left_and_taken_up_again(project: Space) -> None:
    project.script("count.py", "for n in range(1000): print(n)")
    flow = {"name": "f", "tasks": [{"id": "a", "script": "count.py"}]}
    lines: list[str] = []

    async with open_run(flow, **project.directories) as run:
        while run.result.state == "running" or lines[-1:] != ["999"]:
            async for event in run:
                if isinstance(event, TaskOutput):
                    lines.append(event.line)
                    break
            else:
                break

    assert lines == [str(n) for n in range(1000)]


@pytest.mark.anyio
async def test_a_block_that_is_left_early_cancels_the_run(project: Space, marker: str) -> None:
    async with open_run(long_flow("long.py", "deaf.py"), parallel=2, grace=0.2, **project.directories) as run:
        async for event in run:
            if isinstance(event, TaskOutput):
                break

    assert run.result.state == "cancelled"
    assert_recorded_as_cancelled(run.run_dir, started=2)


@pytest.mark.anyio
async def test_a_run_that_is_cancelled_tells_its_events_to_the_last(project: Space, marker: str) -> None:
    seen: list[Event] = []
    async with open_run(long_flow("long.py"), **project.directories) as run:
        async for event in run:
            seen.append(event)
            if isinstance(event, TaskOutput):
                run.cancel(143)

    assert [event.name for event in seen][-3:] == ["task.cancelled", "task.finished", "run.finished"]
    assert (run.result.state, run.result.exit_status) == ("cancelled", 143)


@pytest.mark.anyio
async def test_what_the_block_raises_comes_out_as_it_is(project: Space, marker: str) -> None:
    for error in (KeyError("mine"), ExceptionGroup("mine", [ValueError("a"), KeyError("b")])):
        with pytest.raises(type(error)) as caught:  # noqa: PT012  the block is what raises
            async with open_run(long_flow("long.py"), **project.directories) as run:
                async for event in run:
                    if isinstance(event, TaskOutput):
                        raise error

        assert caught.value is error
        assert_recorded_as_cancelled(run.run_dir, started=1)


@pytest.mark.anyio
async def test_a_record_that_cannot_be_written_ends_the_block_with_an_output_error(project: Space, marker: str) -> None:
    with pytest.raises(OutputError, match="cannot write"):  # noqa: PT012  the block is what is ended
        async with open_run(long_flow("long.py", "long.py"), parallel=2, **project.directories) as run:
            (run.run_dir / "logs").rmdir()
            async for _ in run:
                pass
            await anyio.sleep_forever()


@pytest.mark.anyio
async def test_a_slow_reader_slows_the_output_down_and_misses_none_of_it(project: Space) -> None:
    total = 20 * MAX_WAITING_LINES
    project.script("much.py", f"import sys\nfor n in range({total}): print(n)\nprint('done', file=sys.stderr)\nprint('end')")
    flow = {"name": "f", "tasks": [{"id": "a", "script": "much.py", "env": {"PYTHONUNBUFFERED": ""}}]}
    stdout: list[str] = []
    stderr: list[str] = []
    most = 0

    async with open_run(flow, **project.directories) as run:
        while items := await run.take():
            waiting = sum(len(item.lines) for item in items if isinstance(item, OutputChunk))
            most = max(most, waiting)
            for item in items:
                if isinstance(item, OutputChunk):
                    (stdout if item.template.stream == "stdout" else stderr).extend(item.lines)
            for _ in range(5):  # others have their turn: the reader is slower than the task
                await anyio.lowlevel.checkpoint()

    assert stdout == [*(str(n) for n in range(total)), "end"]
    assert stderr == ["done"]
    assert most < MAX_WAITING_LINES + 2 * 65536  # beyond the limit, one read of each pipe


@pytest.mark.anyio
async def test_a_reader_that_stands_still_costs_nothing_of_what_a_task_has_printed(project: Space) -> None:
    # The task fills the queue, then both of its pipes, and ends while nobody reads.
    project.script(
        "fill.py",
        f"""
        import os
        os.write(1, b"x\\n" * {MAX_WAITING_LINES + 1})
        while not os.path.exists(os.environ["MINIFLOW_RUN_DIR"] + "/go"):
            pass
        os.write(1, b"\\n" * 60_000)
        os.write(2, b"\\n" * 60_000)
        """,
    )
    flow = {"name": "f", "tasks": [{"id": "a", "script": "fill.py"}]}
    counts: Counter[str] = Counter()

    async with open_run(flow, **project.directories) as run:
        await until(lambda: (run.run_dir / "logs/a.jsonl").exists())
        (run.run_dir / "go").touch()
        (started,) = only(events(run.run_dir), "task.started")
        await until(lambda: has_ended(started["pid"]))
        items = await run.take()
        await until(lambda: only(events(run.run_dir), "task.finished") != [])
        while more := await run.take():
            items += more

    for item in items:
        if isinstance(item, OutputChunk):
            counts[item.template.stream] += len(item.lines)
    assert counts == {"stdout": MAX_WAITING_LINES + 1 + 60_000, "stderr": 60_000}
    assert run.result.state == "succeeded"


@pytest.mark.anyio
async def test_a_task_that_ended_in_time_is_not_timed_out_because_nobody_was_reading(project: Space) -> None:
    project.script("much.sh", f"yes | head -n {2 * MAX_WAITING_LINES}; until [ -e $MINIFLOW_RUN_DIR/go ]; do :; done")
    flow = {"name": "f", "tasks": [{"id": "a", "script": "much.sh", "timeout": 2}]}

    async with open_run(flow, **project.directories) as run:
        await until(lambda: (run.run_dir / "logs/a.jsonl").exists())
        (run.run_dir / "go").touch()
        await until(lambda: only(events(run.run_dir), "task.finished") != [])
        while await run.take():
            pass

    task = run.result.tasks["a"]
    assert (task.state, task.exit_status, task.reason) == ("succeeded", 0, "exit")


async def until(is_true: Callable[[], bool]) -> None:
    """Let others go on until something is true."""
    while not is_true():
        await anyio.lowlevel.checkpoint()


def has_ended(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


@pytest.mark.anyio
async def test_a_reader_that_stands_still_does_not_keep_a_run_from_being_cancelled(project: Space, marker: str) -> None:
    project.script("forever.py", "while True: print('y' * 50)")

    async with open_run(long_flow("forever.py", "forever.py"), parallel=2, grace=0.2, **project.directories) as run:
        with anyio.move_on_after(0.5):
            await anyio.sleep_forever()

    assert_recorded_as_cancelled(run.run_dir, started=2)


# --- cancellation


@pytest.mark.anyio
async def test_a_cancelled_scope_ends_all_processes_and_records_all_statuses(project: Space, marker: str) -> None:
    with anyio.CancelScope() as scope:
        up = Up(3, scope.cancel)
        await run_flow(long_flow("long.py", "deaf.py", "long.py"), parallel=3, grace=0.2, on_event=up, **project.directories)
        pytest.fail("the cancellation goes on")

    assert scope.cancelled_caught
    assert survivors(marker) == []
    assert_recorded_as_cancelled(project.latest("long"), started=3)
    assert isinstance(up.seen[-1], RunFinished)


@pytest.mark.anyio
async def test_a_cancelled_task_has_its_grace_to_end_as_it_should(project: Space, marker: str) -> None:
    # It lets go of its output at once, and goes on to clean up.
    project.script("polite.sh", "trap 'exec >&- 2>&-; sleep 0.3; exit 5' TERM; echo up; sleep 600 & wait")

    with anyio.CancelScope() as scope:
        flow = {"name": "f", "tasks": [{"id": "a", "script": "polite.sh"}]}
        await run_flow(flow, grace=600, on_event=Up(1, scope.cancel), **project.directories)

    (finished,) = only(events(project.latest("f")), "task.finished")
    assert (finished["state"], finished["exit_status"], finished["reason"]) == ("cancelled", 5, "exit")


@pytest.mark.anyio
async def test_a_task_that_exits_with_0_because_it_was_cancelled_has_not_succeeded(project: Space) -> None:
    project.script("polite.sh", "trap 'exit 0' TERM; echo up; sleep 600 & wait")

    with anyio.CancelScope() as scope:
        flow = {"name": "f", "tasks": [{"id": "a", "script": "polite.sh"}]}
        await run_flow(flow, on_event=Up(1, scope.cancel), **project.directories)

    (finished,) = only(events(project.latest("f")), "task.finished")
    assert (finished["state"], finished["exit_status"]) == ("cancelled", 143)


@pytest.mark.anyio
async def test_after_an_exception_no_further_task_starts(project: Space) -> None:
    seen: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, TaskStarted):
            seen.append(event.task_id)
        if isinstance(event, TaskOutput):
            raise KeyError("mine")

    flow = {"name": "f", "tasks": [{"id": f"t{n}", "script": "long.py", "trigger_rule": "all_done"} for n in range(5)]}
    with pytest.raises(KeyError):
        await run_flow(flow, on_event=on_event, **project.directories)

    journal = events(project.latest("f"))
    assert seen == ["t0"]
    assert len(only(journal, "task.started")) == 1
    assert len(only(journal, "task.cancelled")) == 4


@pytest.mark.anyio
async def test_a_deadline_does_the_same(project: Space, marker: str) -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.5):
            await run_flow(long_flow("long.py"), grace=0.2, **project.directories)

    assert survivors(marker) == []
    assert_recorded_as_cancelled(project.latest("long"), started=1)


@pytest.mark.anyio
async def test_a_run_in_a_scope_that_is_cancelled_already_starts_nothing(project: Space, marker: str) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await run_flow(long_flow("long.py"), **project.directories)

    assert scope.cancelled_caught
    if project.output_dir.exists():
        assert_recorded_as_cancelled(project.latest("long"), started=0)


@pytest.mark.anyio
async def test_a_retry_that_waits_is_cancelled_with_its_last_status(project: Space) -> None:
    flow = {"name": "f", "tasks": [{"id": "a", "script": "fail.py", "retries": {"max": 3, "delay": 600}}]}

    with anyio.CancelScope() as scope:

        def on_event(event: Event) -> None:
            if event.name == "task.retrying":
                scope.cancel()

        await run_flow(flow, on_event=on_event, **project.directories)

    (finished,) = only(events(project.latest("f")), "task.finished")
    assert (finished["state"], finished["exit_status"], finished["attempts"]) == ("cancelled", 3, 1)


class CancelAt:
    """Cancels a scope the n-th time that a run waits, or tells of something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scope: anyio.CancelScope, n: int) -> None:
        self.is_reached = False
        self._scope = scope
        self._left = n
        places = (
            (watch.EpollWatch, "wait"),
            (watch.AsyncioWatch, "wait"),
            (anyio.lowlevel, "checkpoint"),
            (anyio.to_thread, "run_sync"),
        )
        for module, name in places:
            original = getattr(module, name)

            async def counted(*args: Any, _original: Any = original, **kwargs: Any) -> Any:
                self.tick()
                return await _original(*args, **kwargs)

            monkeypatch.setattr(module, name, counted)

    def tick(self, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            self.is_reached = True
            self._scope.cancel()


@pytest.mark.anyio
async def test_a_cancellation_at_any_moment_leaves_a_whole_record_and_no_process(
    project: Space, marker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = {
        "name": "f",
        "tasks": [
            {"id": "a", "script": "hello.sh"},
            {"id": "b", "script": "fail.sh", "retries": 1},
            {"id": "c", "script": "hello.sh", "depends_on": "b", "trigger_rule": "all_done"},
        ],
    }
    project.script("hello.sh", "echo hello")
    project.script("fail.sh", "exit 3")

    for n in range(1, 200):
        with monkeypatch.context() as patch, anyio.CancelScope() as scope:
            moment = CancelAt(patch, scope, n)
            await run_flow(flow, parallel=2, grace=0.2, on_event=moment.tick, **project.directories)

        assert survivors(marker) == []
        if project.output_dir.exists():
            journal = events(project.latest("f"))
            assert journal[0]["event"] == "run.started"
            assert journal[-1]["event"] == "run.finished"
            assert sum(journal[-1]["counts"].values()) == 3
            assert (project.latest("f") / "run.json").exists()
            statuses = {path.name: int(path.read_text()) for path in (project.latest("f") / "status").iterdir()}
            assert statuses == {event["task_id"]: event["exit_status"] for event in only(journal, "task.finished")}
        if not moment.is_reached:
            assert n > 15
            break
    else:
        pytest.fail("the run waits more often than was thought")


def run_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    async def go() -> None:
        await main()

    asyncio.run(go())


def test_a_cancelled_asyncio_task_does_the_same(project: Space, marker: str) -> None:
    async def main() -> None:
        up = Up(2)
        flow = long_flow("long.py", "deaf.py")
        task = asyncio.create_task(run_flow(flow, parallel=2, grace=0.2, on_event=up, **project.directories))
        await up.is_reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert survivors(marker) == []

    run_asyncio(main)

    assert_recorded_as_cancelled(project.latest("long"), started=2)


def test_an_asyncio_task_that_is_cancelled_again_and_again_ends_no_sooner_and_no_worse(project: Space, marker: str) -> None:
    async def main() -> None:
        up = Up(2)
        flow = long_flow("long.py", "deaf.py")
        task = asyncio.create_task(run_flow(flow, parallel=2, grace=0.3, on_event=up, **project.directories))
        await up.is_reached.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0.01)
        assert task.cancelled()
        assert survivors(marker) == []

    run_asyncio(main)

    assert_recorded_as_cancelled(project.latest("long"), started=2)


def test_an_asyncio_task_that_is_cancelled_while_its_run_is_being_made_leaves_no_half_of_one(
    project: Space, marker: str
) -> None:
    async def main() -> None:
        for turns in range(12):
            task = asyncio.create_task(run_flow(long_flow("long.py"), grace=0.2, **project.directories))
            for _ in range(turns):
                await asyncio.sleep(0)
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)

    run_asyncio(main)

    if (project.output_dir / "long").exists():
        for run_dir in (project.output_dir / "long").glob("2*"):
            assert events(run_dir)[-1]["event"] == "run.finished"


def test_asyncio_timeout_does_the_same(project: Space, marker: str) -> None:
    async def main() -> None:
        def expire(event: Event) -> None:
            if isinstance(event, TaskStarted):
                deadline.reschedule(asyncio.get_running_loop().time())

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as deadline:
                await run_flow(long_flow("long.py"), grace=0.2, on_event=expire, **project.directories)
        assert survivors(marker) == []

    run_asyncio(main)

    assert_recorded_as_cancelled(project.latest("long"), started=1)


@pytest.mark.parametrize("is_cancelled_first", [False, True])
def test_an_asyncio_loop_that_shuts_down_meanwhile_does_the_same(project: Space, marker: str, is_cancelled_first: bool) -> None:
    async def main() -> None:
        up = Up(2)
        flow = long_flow("long.py", "deaf.py")
        grace = 600 if is_cancelled_first else 0.2  # who is cancelled a second time has no grace
        task = asyncio.create_task(run_flow(flow, parallel=2, grace=grace, on_event=up, **project.directories))
        await up.is_reached.wait()
        if is_cancelled_first:
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)

    run_asyncio(main)  # its end cancels every task there is, one by one, shielded or not

    assert survivors(marker) == []
    journal = events(project.latest("long"))
    assert journal[-1]["event"] == "run.finished"
    assert journal[-1]["state"] == "cancelled"


def test_a_task_group_of_asyncio_that_fails_does_the_same(project: Space, marker: str) -> None:
    async def main() -> None:
        up = Up(1)

        async def fail() -> None:
            await up.is_reached.wait()
            raise KeyError("elsewhere")

        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  the group is what raises
            async with asyncio.TaskGroup() as group:
                group.create_task(run_flow(long_flow("long.py"), grace=0.2, on_event=up, **project.directories))
                group.create_task(fail())
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert survivors(marker) == []

    run_asyncio(main)

    assert_recorded_as_cancelled(project.latest("long"), started=1)


def test_a_scope_of_trio_does_the_same(project: Space, marker: str) -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            up = Up(2, scope.cancel)
            flow = long_flow("long.py", "deaf.py")
            await run_flow(flow, parallel=2, grace=0.2, on_event=up, **project.directories)
        assert scope.cancelled_caught
        assert survivors(marker) == []

    trio.run(main)

    assert_recorded_as_cancelled(project.latest("long"), started=2)


def test_ctrl_c_in_a_program_with_asyncio_ends_its_runs(project: Space, marker: str) -> None:
    program = """
import asyncio, json, os, signal, sys
from miniflow import run_flow

flow, directories = json.loads(sys.argv[1]), json.loads(sys.argv[2])

def on_event(event):
    if event.name == "task.output":
        os.kill(os.getpid(), signal.SIGINT)

try:
    asyncio.run(run_flow(flow, grace=0.2, on_event=on_event, **directories))
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""
    directories = {key: str(path) for key, path in project.directories.items()}
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, json.dumps(long_flow("long.py")), json.dumps(directories)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert (process.stdout, process.stderr) == ("KeyboardInterrupt\n", "")
    assert_recorded_as_cancelled(project.latest("long"), started=1)


# --- inside an application


def test_a_run_does_not_keep_an_application_from_serving(project: Space) -> None:
    project.script("busy.py", "import time\nfor n in range(200):\n print('x' * 200)\n time.sleep(0.002)")
    tasks = [{"id": f"t{n}", "script": "busy.py"} for n in range(4)]

    async def main() -> None:
        served = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal served
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
                served += 1
            writer.close()
            await writer.wait_closed()

        async def ask() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while True:
                    writer.write(b"ping\n")
                    assert await reader.readline() == b"ping\n"
            finally:
                writer.close()
                await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = asyncio.create_task(ask())
        served_by_event: list[int] = []

        result = await run_flow(
            {"name": "f", "tasks": tasks},
            parallel=2,
            on_event=lambda _: served_by_event.append(served),
            **project.directories,
        )

        client.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await client
        server.close()
        await server.wait_closed()
        assert result.state == "succeeded"
        assert served > 100
        # It was served all along, not before and after alone.
        assert len(set(served_by_event)) > 20

    run_asyncio(main)


def in_a_process(program: str, space: Space) -> str:
    """Run a program of its own, with the directories' keyword arguments as `directories`; return what it prints."""
    directories = {key: str(path) for key, path in space.directories.items()}
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"directories = {directories!r}\n{program}"],
        capture_output=True,
        text=True,
        check=False,
        env=space.environ(),
    )
    assert process.stderr == ""
    return process.stdout


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_leaves_logging_structlog_and_signals_as_they_were(project: Space, backend: str) -> None:
    program = f"""
import anyio, asyncio, logging, signal, structlog, trio
from miniflow import run_flow

def look():
    return (
        structlog.is_configured(),
        structlog.get_config(),
        list(logging.root.handlers),
        logging.root.level,
        sorted(logging.root.manager.loggerDict),
        [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)],
    )

before = []
async def main():
    before.append(look())
    during = []
    await run_flow("two", on_event=lambda event: during.append(look()), **directories)
    assert all(seen == before[0] for seen in during), (before, during)
    assert look() == before[0]

outside = look()
anyio.run(main, backend={backend!r})
assert look() == outside
print("the same")
"""
    assert in_a_process(program, project) == "the same\n"


@pytest.mark.anyio
async def test_an_applications_own_structlog_does_not_change_ours(project: Space) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the application's processor was called")

    structlog.configure(processors=[refuse], cache_logger_on_first_use=True)  # type: ignore[list-item]
    logging.disable(logging.CRITICAL)
    try:
        result = await run_flow("two", **project.directories)
    finally:
        structlog.reset_defaults()
        logging.disable(logging.NOTSET)

    assert len(events(result.run_dir)) == 6


def test_runs_in_threads_with_loops_of_their_own_do_not_meet(project: Space) -> None:
    program = """
import anyio
from concurrent.futures import ThreadPoolExecutor
from miniflow import run_flow

def one(n):
    async def go():
        return await run_flow("two", **directories)
    return anyio.run(go, backend=("asyncio", "trio")[n % 2]).state

with ThreadPoolExecutor(4) as pool:
    print(set(pool.map(one, range(12))))
"""
    assert in_a_process(program, project) == "{'succeeded'}\n"


# --- the synchronous class


@pytest.fixture
def flows(project: Space) -> MiniFlow:
    return MiniFlow(**project.directories)


def test_list_flows_names_the_flows(flows: MiniFlow, project: Space) -> None:
    project.flow({"name": "another", "tasks": [{"id": "a", "script": "hello.py"}]}, name="z")

    assert flows.list_flows() == ["another", "two"]


def test_execute_flow_runs_a_flow_and_returns_the_path_of_its_script(flows: MiniFlow, project: Space) -> None:
    script = flows.execute_flow("two", params={"date": "2023-01-01"}, dry_run=False)

    assert script == project.latest("two") / "flow.sh"
    assert script.read_text().startswith("#!")
    assert read_run(script.parent).state == "succeeded"


def test_execute_flow_raises_what_failed_with_the_result(flows: MiniFlow) -> None:
    flow = {"name": "f", "tasks": [{"id": "a", "script": "fail.py"}]}

    with pytest.raises(RunFailed, match=r'flow "f" failed: a \(exit status 3\); see .*/f/') as caught:
        flows.execute_flow(flow)

    assert caught.value.result.tasks["a"].exit_status == 3
    assert caught.value.result == read_run(caught.value.result.run_dir)


def test_a_dry_run_writes_the_script_and_runs_nothing(flows: MiniFlow, project: Space) -> None:
    script = flows.execute_flow("two", dry_run=True)

    assert script == project.output_dir.resolve() / "two.sh"
    assert os.listdir(project.output_dir) == ["two.sh"]


def test_execute_flow_tells_every_event(flows: MiniFlow) -> None:
    seen: list[Event] = []

    flows.execute_flow("two", parallel=2, on_event=seen.append)

    assert isinstance(seen[0], RunStarted)
    assert isinstance(seen[-1], RunFinished)


@pytest.mark.parametrize("error", [ValueError("mine"), KeyError("mine")])
def test_execute_flow_lets_out_what_on_event_raises(flows: MiniFlow, error: Exception) -> None:
    def on_event(event: Event) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        flows.execute_flow("two", on_event=on_event)

    assert caught.value is error


@pytest.mark.anyio
async def test_execute_flow_inside_an_event_loop_says_what_to_use(flows: MiniFlow) -> None:
    with pytest.raises(UsageError, match=r"runs an event loop: .*await miniflow\.run_flow"):
        flows.execute_flow("two")


@pytest.mark.anyio
async def test_a_dry_run_is_fine_inside_an_event_loop(flows: MiniFlow) -> None:
    assert flows.execute_flow("two", dry_run=True).exists()


@pytest.mark.anyio
async def test_execute_flow_is_fine_in_a_thread_of_an_event_loop(flows: MiniFlow) -> None:
    script = await anyio.to_thread.run_sync(flows.execute_flow, "two")

    assert script.exists()


def test_execute_flow_needs_nothing_that_is_not_among_the_dependencies(project: Space) -> None:
    program = """
import sys
sys.modules["trio"] = sys.modules["sniffio"] = None
from miniflow import MiniFlow
print(MiniFlow(**directories).execute_flow("two").name)
"""
    assert in_a_process(program, project) == "flow.sh\n"


# --- what is exported

EXPORTED = """
    Event Flow FlowError HostError InternalError MiniFlow MiniFlowError OutputError Param ParamsError Plan PlannedTask
    Problem Retries Run RunFailed RunFinished RunResult RunStarted Task TaskCancelled TaskFinished TaskOutput TaskResult
    TaskRetrying TaskReused TaskSkipped TaskStarted UnknownFlowError UsageError load_flow open_run plan_flow read_run
    render_script run_flow write_script
"""


def test_the_public_names_are_these() -> None:
    assert miniflow.__all__ == EXPORTED.split()


@pytest.mark.parametrize("name", EXPORTED.split())
def test_every_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    value = getattr(importlib.import_module("miniflow"), name)

    assert value.__module__.startswith("miniflow.")
    assert value.__doc__
    assert name in dir(miniflow)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'run_flwo'"):
        _ = miniflow.run_flwo  # type: ignore[attr-defined]


def test_the_package_is_typed() -> None:
    assert (Path(miniflow.__file__).parent / "py.typed").exists()


def test_importing_miniflow_loads_nothing_heavy(space: Space) -> None:
    program = """
import sys
import miniflow
print(sorted({"asyncio", "anyio", "structlog", "msgspec", "click", "trio", "rich"} & set(sys.modules)))
"""
    assert in_a_process(program, space) == "[]\n"
