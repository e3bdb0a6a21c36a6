"""Parts of MiniFlow alone: a decision of the scheduler, loading a large flow, capturing output.

Each is measured in a process of its own, which is this module as a program: what one leaves in memory does not slow the next.
What only computes is measured in CPU time, which does not count what else the machine does meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import ROOT, environment, write_flow
from benchmarks.measure import spread
from benchmarks.report import Result, with_ends
from benchmarks.workloads import LINE_BYTES, large_flow, layered


@dataclass(frozen=True, slots=True)
class _Task:
    """What the scheduler needs to know of a task."""

    upstream: tuple[int, ...]
    trigger_rule: str = "all_success"
    retry_delays_s: tuple[float, ...] = ()
    retry_on: tuple[int, ...] = ()


def decide(tasks: int) -> dict[str, float]:
    """Let a scheduler run a layered graph in thought; return the CPU time of its construction, and of its decisions."""
    from miniflow.actions import AttemptEnded, Begin, Start
    from miniflow.results import Outcome
    from miniflow.scheduler import Scheduler

    graph = [_Task(task.upstream) for task in layered(tasks)]
    began = time.process_time()
    scheduler = Scheduler(graph, limit=2, order=range(tasks))  # type: ignore[arg-type]
    constructed = time.process_time()
    succeeded = Outcome(0, "exit")
    actions = deque(scheduler.handle(Begin()))
    ended = 0
    while actions:
        action = actions.popleft()
        if isinstance(action, Start):
            actions.extend(scheduler.handle(AttemptEnded(action.task, succeeded)))
            ended += 1
    decided = time.process_time()
    assert ended == tasks
    return {"construction_s": constructed - began, "decisions_s": decided - constructed}


def load(folder: str) -> dict[str, float]:
    """Return the seconds from a flow file to its plan, and the memory that has taken at most."""
    from miniflow import plan_flow

    began, cpu_began = time.perf_counter(), time.process_time()
    plan = plan_flow("benchmark", flows_dir=f"{folder}/flows", tasks_dir=f"{folder}/tasks", output_dir=f"{folder}/out")
    ended, cpu_ended = time.perf_counter(), time.process_time()
    assert plan.tasks
    # `getrusage` would tell of whoever has started us, too.
    status = Path("/proc/self/status").read_text()
    most_kb = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return {"load_s": ended - began, "cpu_s": cpu_ended - cpu_began, "memory_mb": int(most_kb) / 1000}


def capture(lines: int) -> dict[str, float]:
    """Return the seconds from bytes as they come out of a pipe to events in a task's log."""
    from miniflow.events import OutputChunk, TaskOutput
    from miniflow.executors.process import READ_BYTES
    from miniflow.lines import LineSplitter
    from miniflow.rundir import create_run_dir
    from miniflow.sinks.json_lines import JsonRenderer
    from miniflow.sinks.run_directory import RunDirectorySink

    printed = (b"x" * (LINE_BYTES - 1) + b"\n") * lines
    with tempfile.TemporaryDirectory() as folder:
        sink = RunDirectorySink(create_run_dir(Path(folder), "benchmark"), JsonRenderer())
        splitter = LineSplitter()
        began, cpu_began = time.perf_counter(), time.process_time()
        for start in range(0, len(printed), READ_BYTES):
            for text, partial in splitter.feed(printed[start : start + READ_BYTES]):
                template = TaskOutput(time.time_ns(), "benchmark", "x", "t", 1, "stdout", "", partial)
                sink.emit(OutputChunk(template, text))
        sink.close()
        ended, cpu_ended = time.perf_counter(), time.process_time()
    return {"capture_s": ended - began, "cpu_s": cpu_ended - cpu_began}


def _measure(what: str, argument: str, count: int) -> list[dict[str, float]]:
    samples = []
    for _ in range(count):
        said = subprocess.run(
            [sys.executable, "-m", "benchmarks.micro", what, argument],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        samples.append(json.loads(said.stdout))
    return samples


def scheduler(sizes: Sequence[int], count: int) -> Result:
    """Measure decisions."""
    rows, raw, figures = [], {}, {}
    for size in sizes:
        samples = raw[str(size)] = _measure("decide", str(size), count)
        decisions = spread([sample["decisions_s"] / size * 1e6 for sample in samples])
        construction = spread([sample["construction_s"] / size * 1e6 for sample in samples])
        rows.append([f"{size:,}", *with_ends(decisions), f"{construction.median:.2f}"])
        figures[f"scheduler-{size}"] = decisions.median
    columns = ("tasks", "decisions, CPU per task, µs", "between", "construction, CPU per task, µs")
    remark = f"Layers with three upstream tasks each, two slots, every task succeeds; {count} rounds."
    return Result("scheduler", "What does a decision of the scheduler cost?", columns, rows, [remark], raw, figures)


def loading(sizes: Sequence[int], folder: Path, count: int) -> Result:
    """Measure the way from flow file to plan."""
    rows, raw, figures = [], {}, {}
    for size in sizes:
        place = folder / str(size)
        workload = large_flow(size)
        (place / "tasks").mkdir(parents=True)
        (place / "tasks" / "task.py").touch()
        write_flow(workload, place / "flows" / "benchmark.json")
        samples = raw[str(size)] = _measure("load", str(place), count)
        load_s = spread([sample["load_s"] for sample in samples])
        memory = spread([sample["memory_mb"] for sample in samples])
        dependencies = sum(len(task.upstream) for task in workload.tasks)
        cpu = spread([sample["cpu_s"] for sample in samples])
        per_task = f"{cpu.median / size * 1e6:.1f}"
        rows.append([f"{size:,}", f"{dependencies:,}", *with_ends(load_s), per_task, f"{memory.median:.0f}"])
        figures[f"load-{size}"] = load_s.median
    columns = ("tasks", "dependencies", "s", "between", "CPU per task, µs", "memory, MB")
    remark = f"`plan_flow`: read, parse, check, expand, plan; {count} rounds."
    return Result("load", "How long does it take to load, check and plan a flow?", columns, rows, [remark], raw, figures)


def capturing(lines: int, count: int) -> Result:
    """Measure output on its way to a log."""
    samples = _measure("capture", str(lines), count)
    rate = spread([lines / sample["capture_s"] / 1e6 for sample in samples])
    cpu = spread([sample["cpu_s"] / lines * 1e9 for sample in samples])
    return Result(
        "capture",
        "How fast do lines of output become events on disk, without any process?",
        ("lines", "M lines/s", "between", "CPU per line, ns"),
        [[f"{lines:,}", *with_ends(rate), f"{cpu.median:.0f}"]],
        [f"{LINE_BYTES} bytes each, from bytes to a task's log; {count} rounds."],
        {"capture": samples},
    )


def main() -> None:
    """Measure one thing, and print what was measured."""
    what, argument = sys.argv[1:]
    measured = load(argument) if what == "load" else {"decide": decide, "capture": capture}[what](int(argument))
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
