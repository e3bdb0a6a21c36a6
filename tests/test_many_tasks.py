"""Flows of very many tasks: never more at once than allowed, and nothing of them is left in the process that ran them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import anyio
import pytest

from miniflow import RunResult, run_flow
from tests.conftest import Space

# Takes one of the places, as many bytes in a FIFO as attempts may run at once, and gives it back; fails if there is none.
TAKES_A_PLACE = """
exec 3<>"$PLACES"
read -r -t 0 -u 3 || exit 9
read -r -n 1 -u 3
read -r -t 0.05 -u 4 4<>"$PLACES.never"  # so that those who are there at once meet
echo "$MINIFLOW_TASK_ID"
printf x >&3
"""


def left_behind() -> tuple[set[str], int, set[str]]:
    """Return this process's descriptors, how many threads it has, and its children, zombies included."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return set(os.listdir("/proc/self/fd")), threading.active_count(), set(children)


def many_tasks(space: Space, monkeypatch: pytest.MonkeyPatch, count: int, backend: str) -> None:
    places = space.path / "places"
    os.mkfifo(places)
    os.mkfifo(f"{places}.never")
    limit = 8
    free = os.open(places, os.O_RDWR)
    os.write(free, b"x" * limit)
    monkeypatch.setenv("PLACES", str(places))
    space.script("task.sh", TAKES_A_PLACE)
    most = 0

    def on_event(_: object) -> None:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))

    async def main(tasks: int) -> RunResult:
        flow = {"name": "f", "tasks": [{"id": f"t{n}", "script": "task.sh"} for n in range(tasks)]}
        return await run_flow(flow, parallel=limit, on_event=on_event, **space.directories)

    assert anyio.run(main, 2 * limit, backend=backend).state == "succeeded"  # what is loaded and opened once
    descriptors, threads, children = left_behind()
    most_of_few = most

    result = anyio.run(main, count, backend=backend)

    left = left_behind()
    assert left[0] == descriptors
    assert left[1] <= threads + 1  # the event loops' own ends in a moment, or waits for more work for some seconds
    assert left[2] == children
    assert most <= most_of_few + 16  # not with the number of tasks, that is
    assert {task.exit_status for task in result.tasks.values()} == {0}
    assert len(result.tasks) == count
    assert len(list((result.run_dir / "status").iterdir())) == count
    assert os.read(free, 100) == b"x" * limit
    os.close(free)


@pytest.mark.long
def test_500_tasks_leave_nothing_behind_and_keep_to_the_limit(
    space: Space, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    many_tasks(space, monkeypatch, 500, anyio_backend)


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_10_000_tasks_leave_nothing_behind_and_keep_to_the_limit(
    space: Space, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    many_tasks(space, monkeypatch, 10_000, anyio_backend)
