"""What is run: graphs of tasks, the same for every contender, and the same on every machine."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

SEED = 20_230_101
LINE_BYTES = 100

EMPTY = ""
IMPORTS = "import argparse, csv, datetime, decimal, json, logging, pathlib, sqlite3, urllib.request\n"
PRINTS = f"""
import sys
left = int(sys.argv[1])
block = "{"x" * (LINE_BYTES - 1)}\\n" * 1000
while left > 0:
    sys.stdout.write(block[: left * {LINE_BYTES}])
    left -= 1000
"""
SLEEPS = """
import sys, time
time.sleep(int(sys.argv[1]) / 1000)
"""


@dataclass(frozen=True, slots=True)
class Task:
    """One task: `interpreter script argument`, once all of its upstream has ended."""

    argument: str
    upstream: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """A graph of tasks that all run the same program."""

    name: str
    question: str
    tasks: Sequence[Task]
    program: str = EMPTY
    interpreter: str = sys.executable
    """Given the program's file and the task's argument; one that ignores both is the cheapest task there is."""
    parallel: int = 2
    lines: int = 0
    """How many lines the tasks print in all."""
    shortest_s: float = 0.0
    """The least time that it can take, where that is known."""

    @property
    def has_dependencies(self) -> bool:
        return any(task.upstream for task in self.tasks)

    def upstream(self) -> list[tuple[int, ...]]:
        """Return the upstream of each task."""
        return [task.upstream for task in self.tasks]


def true() -> str:
    """Return an executable that does nothing."""
    path = shutil.which("true")
    assert path is not None, "POSIX has it"
    return path


def numbered(upstream: Sequence[tuple[int, ...]]) -> tuple[Task, ...]:
    """Return tasks whose argument is their own number."""
    return tuple(Task(str(number), needed) for number, needed in enumerate(upstream))


def wide(count: int) -> tuple[Task, ...]:
    """Return tasks that wait for nothing."""
    return numbered([()] * count)


def chain(count: int) -> tuple[Task, ...]:
    """Return tasks that each wait for the one before."""
    return numbered([(number - 1,) if number else () for number in range(count)])


def layered(count: int, width: int = 20, needs: int = 3) -> tuple[Task, ...]:
    """Return layers of tasks, each of which waits for some of the layer before, at random."""
    choose = random.Random(SEED)
    upstream: list[tuple[int, ...]] = []
    for number in range(count):
        layer = number // width
        before = range((layer - 1) * width, layer * width) if layer else range(0)
        upstream.append(tuple(sorted(choose.sample(before, min(needs, len(before))))))
    return numbered(upstream)


def fan(count: int, width: int = 50) -> tuple[Task, ...]:
    """Return stages that each open into `width` tasks and close into one that waits for all of them."""
    upstream: list[tuple[int, ...]] = [()]
    hub = 0
    while len(upstream) < count:
        first = len(upstream)
        upstream += [(hub,)] * min(width, max(1, count - first - 1))
        hub = len(upstream)
        upstream.append(tuple(range(first, hub)))
    return numbered(upstream[:count])


def uneven(short: int, long: int, short_ms: int = 40, long_ms: int = 120, longest_ms: int = 0) -> tuple[Task, ...]:
    """Return many short tasks, behind them in the file one long one, and a chain of rather long ones.

    Who starts with the short ones ends late; and from the graph alone nobody sees that the one is longer than others.
    """
    tasks = [Task(str(short_ms)) for _ in range(short)]
    tasks += [Task(str(longest_ms))] if longest_ms else []
    first = len(tasks)
    tasks += [Task(str(long_ms), (number - 1,) if number > first else ()) for number in range(first, first + long)]
    return tuple(tasks)


def shortest_s(tasks: Sequence[Task], slots: int) -> float:
    """Return the least time that tasks which sleep can take: the longest path, or all of the work on all slots."""
    ends: list[int] = []  # upstream stands before in all our graphs
    for task in tasks:
        ends.append(int(task.argument) + max((ends[other] for other in task.upstream), default=0))
    return max(max(ends), sum(int(task.argument) for task in tasks) / slots) / 1000


def comparisons(*, quick: bool) -> dict[str, Workload]:
    """Return the workloads that contenders are compared on, by name."""
    few = 25 if quick else 1  # how many times less there is to do
    lines = 1_000_000 // few
    slots = 2
    sleeping = uneven(60 // few, 20 // min(few, 5), longest_ms=800)
    workloads = (
        Workload("wide", "What does a run of independent, empty Python tasks cost?", wide(1000 // few)),
        Workload("layered", "What do dependencies add: layers of 20, three upstream tasks each?", layered(1000 // few)),
        Workload("small", "What does the whole command cost when there is little to do?", wide(100 // min(few, 5))),
        Workload("chain", "How long is it between a task's end and the start of the next?", chain(200 // few)),
        Workload("fan", "What do fan-out and fan-in cost: stages of 50 between single tasks?", fan(1000 // few)),
        Workload("imports", "What is left of the cost when tasks import a little?", wide(200 // few), IMPORTS),
        Workload(
            "logs",
            f"How fast is output captured: 8 tasks that print {lines:,} lines of {LINE_BYTES} bytes in all?",
            tuple(Task(str(lines // 8)) for _ in range(8)),
            PRINTS,
            lines=lines // 8 * 8,
        ),
        Workload("spawn", "What is our own work per task, when the task is `true`?", wide(10_000 // few), interpreter=true()),
        Workload(
            "uneven",
            "How well are the slots used when the longest path stands last in the file?",
            sleeping,
            SLEEPS,
            parallel=slots,
            shortest_s=shortest_s(sleeping, slots),
        ),
    )
    return {workload.name: workload for workload in workloads}


def growing(size: int) -> Workload:
    """Return the workload of a size for the tables of growth: three upstream tasks each, nothing to do."""
    return Workload(f"growth-{size}", "How does cost grow with the number of tasks?", layered(size), interpreter=true())


def large_flow(tasks: int) -> Workload:
    """Return a graph for loading alone, of about three dependencies a task."""
    return Workload("load", "How long does it take to load a large flow?", layered(tasks, width=100))


def with_proof(workload: Workload, interpreter: str) -> Workload:
    """Return the same workload whose tasks leave a proof: see `contenders.check_every_task_runs`."""
    return replace(workload, name=f"{workload.name}-proof", tasks=numbered(workload.upstream()), interpreter=interpreter)
