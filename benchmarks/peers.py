"""Other runners on the same tasks, each as its users would use it: two at a time, no output, nothing up to date."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.contenders import TASK_VARIABLES, Prepared, environment, script
from benchmarks.workloads import Workload


def _program(name: str) -> str | None:
    """Return a program that stands beside our Python (one of our environment), or on the PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    return beside if os.access(beside, os.X_OK) else shutil.which(name)


class _Program:
    """A peer that is a program."""

    name = ""

    def missing(self) -> str | None:
        return None if _program(self.name) else "it is not installed"

    def version(self) -> str:
        said = subprocess.run([self._path(), "--version"], capture_output=True, text=True, check=True)
        return said.stdout.splitlines()[0]

    def can_run(self, workload: Workload) -> bool:
        return True

    def _path(self) -> str:
        return _program(self.name) or self.name


class Make(_Program):
    """GNU make: phony targets, one command each, which it starts without a shell."""

    name = "make"

    def prepare(self, workload: Workload, folder: Path) -> Prepared:
        program = script(workload, folder)
        names = [f"t{number}" for number in range(len(workload.tasks))]
        with (folder / "Makefile").open("w") as file:
            print(".PHONY: all", *names, file=file)
            print("all:", *names, file=file)
            for name, task in zip(names, workload.tasks, strict=True):
                print(f"{name}:", *(names[other] for other in task.upstream), file=file)
                print(f"\t{workload.interpreter} {program} {task.argument}", file=file)
        return Prepared([self._path(), "-s", f"-j{workload.parallel}"], folder, environment(**TASK_VARIABLES))


class Ninja(_Program):
    """ninja: outputs that no command makes, so that all is always out of date. It starts each command by a shell."""

    name = "ninja"

    def prepare(self, workload: Workload, folder: Path) -> Prepared:
        program = script(workload, folder)
        with (folder / "build.ninja").open("w") as file:
            print(f"rule task\n  command = {workload.interpreter} {program} $argument", file=file)
            for number, task in enumerate(workload.tasks):
                print(f"build t{number}: task", *(f"t{other}" for other in task.upstream), file=file)
                print(f"  argument = {task.argument}", file=file)
        return Prepared(
            [self._path(), "--quiet", f"-j{workload.parallel}"],
            folder,
            environment(**TASK_VARIABLES),
            leftovers=(folder / ".ninja_log", folder / ".ninja_deps"),
        )


class Xargs(_Program):
    """xargs -P: no graph, no record, nothing but processes."""

    name = "xargs"

    def can_run(self, workload: Workload) -> bool:
        return not workload.has_dependencies

    def prepare(self, workload: Workload, folder: Path) -> Prepared:
        program = script(workload, folder)
        arguments = folder / "arguments"
        arguments.write_text("".join(f"{task.argument}\n" for task in workload.tasks))
        return Prepared(
            [self._path(), "-n1", f"-P{workload.parallel}", workload.interpreter, str(program)],
            folder,
            environment(**TASK_VARIABLES),
            stdin=arguments,
        )


class _Module:
    """A peer that is a Python package, fed with the graph as JSON."""

    name = ""
    distribution = ""
    module = ""

    def missing(self) -> str | None:
        return None if importlib.util.find_spec(self.module) else "it is not installed"

    def version(self) -> str:
        return importlib.metadata.version(self.distribution)

    def can_run(self, workload: Workload) -> bool:
        return True

    def _write_graph(self, workload: Workload, folder: Path) -> Path:
        program = script(workload, folder)
        path = folder / "graph.json"
        command = [workload.interpreter, str(program)]
        tasks = [{"argv": [*command, task.argument], "upstream": task.upstream} for task in workload.tasks]
        path.write_text(json.dumps({"parallel": workload.parallel, "tasks": tasks}))
        return path


class Doit(_Module):
    """doit with threads (its processes are slower); commands without a shell, no list of what was done."""

    name = distribution = module = "doit"

    _DODO = """
import json
DOIT_CONFIG = {"reporter": "zero", "dep_file": "doit.db", "backend": "json"}
GRAPH = json.load(open("graph.json"))
def task_t():
    for number, task in enumerate(GRAPH["tasks"]):
        yield {"name": str(number), "actions": [task["argv"]], "task_dep": [f"t:{other}" for other in task["upstream"]]}
"""

    def prepare(self, workload: Workload, folder: Path) -> Prepared:
        self._write_graph(workload, folder)
        (folder / "dodo.py").write_text(self._DODO)
        return Prepared(
            [sys.executable, "-m", "doit", "run", "-n", str(workload.parallel), "-P", "thread"],
            folder,
            environment(**TASK_VARIABLES),
            leftovers=(folder / "doit.db",),
        )


class Dask(_Module):
    """Dask: a LocalCluster of as many workers as slots, one thread each, that call `subprocess.run`."""

    name = "dask"
    distribution = module = "distributed"

    def prepare(self, workload: Workload, folder: Path) -> Prepared:
        graph = self._write_graph(workload, folder)
        program = Path(__file__).with_name("dask_runner.py")
        return Prepared([sys.executable, str(program), str(graph)], folder, environment(**TASK_VARIABLES))


def peers() -> list[Make | Ninja | Xargs | Doit | Dask]:
    """Return all of them, installed or not."""
    return [Make(), Ninja(), Xargs(), Doit(), Dask()]
