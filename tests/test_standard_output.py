"""Standard output: written at once if its reader takes it, else later, and never so that the event loop waits."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import cast

import anyio
import pytest

from miniflow import stdout
from miniflow.display import Display
from miniflow.events import OutputChunk, TaskOutput, TaskSkipped
from miniflow.running import OpenRun
from miniflow.sinks.json_lines import JsonRenderer
from miniflow.stdout import Output

MUCH = b"0123456789" * 100_000


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe that a write waits for if it is full."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture(params=["refuses", "waits", "forbids"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lets a write refuse to wait, one that does not, and one in a sandbox that forbids to ask."""
    if request.param == "waits":
        monkeypatch.setattr(stdout, "_REFUSE", 0)
    if request.param == "forbids":
        monkeypatch.setattr(os, "pwritev", forbidden)


def forbidden(*args: object) -> int:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.anyio
@pytest.mark.usefixtures("kernel")
async def test_a_reader_of_the_same_event_loop_gets_everything(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    read = b""

    async with anyio.create_task_group() as group:
        group.start_soon(Output(writing).write, MUCH)
        while len(read) < len(MUCH):
            await anyio.wait_readable(reading)
            read += os.read(reading, 10_000)

    assert read == MUCH


@pytest.mark.usefixtures("kernel")
def test_a_pipe_that_is_full_keeps_nobody_waiting(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    output = Output(writing)

    rest = output.write_now(MUCH)
    assert len(output.write_now(rest)) == len(rest)

    assert os.get_blocking(writing)  # it is not ours alone
    if len(rest) < len(MUCH):
        assert os.read(reading, len(MUCH)) + bytes(rest) == MUCH


@pytest.mark.anyio
@pytest.mark.usefixtures("kernel")
async def test_what_nobody_reads_any_more_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    output = Output(writing)

    await output.write(MUCH)
    os.close(writing)

    assert output.error is None
    assert not output.write_now(MUCH)


@pytest.mark.anyio
async def test_what_comes_while_something_waits_does_not_overtake_it(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = pipe
    monkeypatch.setattr("miniflow.display.Output", lambda number: Output(writing))
    display = Display(JsonRenderer(), use_json=False, level="info", ending=lambda _: "the end")
    read = b""

    async with anyio.create_task_group() as group:
        group.start_soon(display.show, cast("OpenRun", None))
        await anyio.wait_all_tasks_blocked()
        for number in range(2_000):  # the pipe is full long before the last
            printed = OutputChunk(TaskOutput(0, "f", "r", f"t{number}", 1, "stdout", ""), "x" * 100)
            display.emit(printed if number % 2 else TaskSkipped(0, "f", "r", f"t{number}", "stopped"))
            if number % 200 == 0:
                await anyio.wait_readable(reading)
                read += os.read(reading, 65536)
        display.close()
        while b"the end" not in read:
            await anyio.wait_readable(reading)
            read += os.read(reading, 65536)

    assert re.findall(rb"t(\d+)", read.rpartition(b"the end")[0]) == [b"%d" % number for number in range(2_000)]
