"""Who runs a workload: what all of them have in common, MiniFlow, and the floor. Other runners are in `peers`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from benchmarks.measure import BenchmarkError, Sample, run
from benchmarks.workloads import Workload, with_proof

ROOT = Path(__file__).resolve().parent.parent

# A task's proof: its argument as a line of one file. One short append is atomic, and a shell is cheaper than a Python.
PROOF = """#!/bin/sh
echo "$2" >>"$BENCHMARK_PROOFS"
"""

# What pip makes of an entry point, for the package in this clone.
LAUNCHER = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT)!r})
from miniflow.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""

# Also tells, in a file, the most memory that MiniFlow itself has used. (What `wait4` tells may be a task's, or our own.)
MEMORY_LAUNCHER = f"""#!{sys.executable}
import atexit, os, sys
def note():
    with open("/proc/self/status") as status, open(os.environ["BENCHMARK_MEMORY"], "w") as file:
        file.write(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
atexit.register(note)
sys.path.insert(0, {str(ROOT)!r})
from miniflow.__main__ import main
sys.exit(main())
"""

# As much as MiniFlow adds to what its tasks inherit: whoever starts a program pays for each variable.
TASK_VARIABLES = {
    "MINIFLOW_FLOW": "benchmark",
    "MINIFLOW_RUN_ID": "20230101T000000.000Z-000000",
    "MINIFLOW_RUN_DIR": "/tmp/benchmark/out/benchmark/20230101T000000.000Z-000000",  # noqa: S108
    "MINIFLOW_PARAMS": "{}",
    "MINIFLOW_TASK_ID": "t100",
    "MINIFLOW_ATTEMPT": "1",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A workload that one contender can run, any number of times."""

    argv: Sequence[str]
    folder: Path
    env: Mapping[str, str]
    stdin: Path | None = None
    leftovers: Sequence[Path] = ()
    """What a run leaves and the next one must not find."""
    journals: Path | None = None
    """Below it the run's journal, if it writes one."""
    memory: Path | None = None
    """The file that tells how much memory it has used, in kB, if it does."""
    tasks: int = 0

    def run(self, terminal: int | None = None) -> Sample:
        """Run it once, on a terminal if there is one.

        Raises:
            BenchmarkError: It failed, or says itself that not every task has succeeded.
        """
        for path in self.leftovers:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        sample = run(self.argv, cwd=self.folder, env=self.env, stdin=self.stdin, terminal=terminal)
        if self.journals is not None:
            own_s, succeeded = read_journal(self.journals)
            if succeeded != self.tasks:
                raise BenchmarkError(f"{succeeded} of {self.tasks} tasks have succeeded")
            sample = replace(sample, own_s=own_s)
        if self.memory is not None:
            sample = replace(sample, memory_mb=int(self.memory.read_text()) / 1000)
        return sample


class Contender(Protocol):
    """Somebody who can run workloads."""

    @property
    def name(self) -> str: ...

    def missing(self) -> str | None:
        """Return why it cannot take part, or None."""

    def version(self) -> str:
        """Return which one it is."""

    def can_run(self, workload: Workload) -> bool:
        """Return whether a workload makes sense for it."""

    def prepare(self, workload: Workload, folder: Path) -> Prepared:
        """Write what it needs into an empty folder."""


def environment(**more: str) -> dict[str, str]:
    """Return our environment for every contender and its tasks, without what would configure MiniFlow."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MINIFLOW_")}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # what pip installs is compiled; a clone is by its first run
    return {**inherited, "PYTHONUNBUFFERED": "1", **more}


def executable(path: Path, text: str) -> str:
    """Write a program; return its path."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def script(workload: Workload, folder: Path) -> Path:
    """Write the program of the tasks into a folder `tasks`."""
    path = folder / "tasks" / "task.py"
    path.parent.mkdir()
    path.write_text(workload.program)
    return path


def read_journal(output_dir: Path) -> tuple[float, int]:
    """Return how long the latest run of a flow took by its own account, in seconds, and how many tasks have succeeded."""
    duration_s, succeeded = 0.0, 0
    with open(output_dir / "benchmark" / "latest" / "events.jsonl", "rb") as journal:
        for line in journal:
            event = json.loads(line)
            if event["event"] == "task.finished" and event["state"] == "succeeded":
                succeeded += 1
            elif event["event"] == "run.finished":
                duration_s = event["duration_s"]
    return duration_s, succeeded


def write_flow(workload: Workload, path: Path) -> None:
    """Write the workload as a flow file."""
    path.parent.mkdir()
    tasks = [
        {
            "id": f"t{number}",
            "script": "task.py",
            "args": [task.argument],
            "depends_on": [f"t{other}" for other in task.upstream],
        }
        for number, task in enumerate(workload.tasks)
    ]
    path.write_text(json.dumps({"name": "benchmark", "python": workload.interpreter, "tasks": tasks}, indent=1))


class MiniFlow:
    """The command line as users have it: journal, statuses, logs, summary, and every event as JSON on standard output."""

    name = "miniflow"

    def __init__(self, *, notes_memory: bool = False, keeps_runs: bool = False) -> None:
        self._notes_memory = notes_memory
        self._keeps_runs = keeps_runs
        if keeps_runs:
            self.name = "miniflow, later"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        from miniflow import __version__

        return __version__

    def can_run(self, workload: Workload) -> bool:
        return not self._keeps_runs or workload.shortest_s > 0  # elsewhere earlier runs would only fill the disk

    def prepare(self, workload: Workload, folder: Path) -> Prepared:
        script(workload, folder)
        write_flow(workload, folder / "flows" / "benchmark.json")
        output = folder / "out"
        memory = folder / "memory"
        launcher = executable(folder / "miniflow", MEMORY_LAUNCHER if self._notes_memory else LAUNCHER)
        return Prepared(
            [sys.executable, launcher, "-o", str(output), "run", "benchmark", "--parallel", str(workload.parallel)],
            folder,
            environment(BENCHMARK_MEMORY=str(memory)),
            leftovers=() if self._keeps_runs else (output,),
            journals=output,
            memory=memory if self._notes_memory else None,
            tasks=len(workload.tasks),
        )


class Floor:
    """floor.c, compiled when there is a compiler."""

    name = "floor"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "floor"
        self._compiler = shutil.which("cc")

    def missing(self) -> str | None:
        return None if self._compiler else "there is no C compiler"

    def version(self) -> str:
        said = subprocess.run([self._compiler or "cc", "--version"], capture_output=True, text=True, check=True)
        return said.stdout.splitlines()[0]

    def can_run(self, workload: Workload) -> bool:
        return True

    def prepare(self, workload: Workload, folder: Path) -> Prepared:
        if not self._path.exists():
            source = Path(__file__).with_name("floor.c")
            subprocess.run([self._compiler or "cc", "-O2", "-Wall", "-o", str(self._path), str(source)], check=True)
        program = script(workload, folder)
        graph = folder / "graph"
        with graph.open("w") as file:
            print(len(workload.tasks), file=file)
            for task in workload.tasks:
                print(task.argument, len(task.upstream), *task.upstream, file=file)
        return Prepared(
            [str(self._path), str(workload.parallel), str(graph), workload.interpreter, str(program)],
            folder,
            environment(**TASK_VARIABLES),
        )


class BareLoop:
    """bare_loop.py: what a loop of Python costs that makes MiniFlow's system calls."""

    name = "bare loop"

    def missing(self) -> str | None:
        return None if hasattr(os, "pidfd_open") else "this system has no pidfds"

    def version(self) -> str:
        return sys.version.split()[0]

    def can_run(self, workload: Workload) -> bool:
        return not (workload.has_dependencies or workload.lines or workload.shortest_s)

    def prepare(self, workload: Workload, folder: Path) -> Prepared:
        program = script(workload, folder)
        arguments = folder / "arguments"
        arguments.write_text("".join(f"{task.argument}\n" for task in workload.tasks))
        output = folder / "out"
        loop = [sys.executable, str(Path(__file__).with_name("bare_loop.py"))]
        return Prepared(
            [*loop, str(workload.parallel), str(arguments), str(output), workload.interpreter, str(program)],
            folder,
            environment(**TASK_VARIABLES),
            leftovers=(output,),
        )


def check_every_task_runs(contender: Contender, workload: Workload, folder: Path) -> None:
    """Let a contender run the workload with tasks that leave a proof; see that each has run once, after its upstream.

    Raises:
        BenchmarkError: One has not.
    """
    proofs = folder / "proofs"
    checked = with_proof(workload, executable(folder / "proof", PROOF))
    place = folder / "checked"
    place.mkdir()
    prepared = contender.prepare(checked, place)
    run(prepared.argv, cwd=place, env={**prepared.env, "BENCHMARK_PROOFS": str(proofs)}, stdin=prepared.stdin)
    ran = [int(line) for line in proofs.read_text().split()]
    if Counter(ran) != Counter(range(len(workload.tasks))):
        raise BenchmarkError(f"{contender.name} has run {len(set(ran))} of {len(workload.tasks)} tasks, in {len(ran)} runs")
    place_of = {task: number for number, task in enumerate(ran)}
    for number, task in enumerate(workload.tasks):
        if any(place_of[other] > place_of[number] for other in task.upstream):
            raise BenchmarkError(f"{contender.name} has run task {number} before its upstream")
    shutil.rmtree(place)
    proofs.unlink()
