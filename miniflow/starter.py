"""A flow and a task to start from."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from miniflow.catalog import flow_files, flow_name, shown
from miniflow.errors import FlowError, UsageError
from miniflow.files import write_all, writing
from miniflow.model import MAX_ID_LENGTH
from miniflow.parse import flow_from_mapping
from miniflow.simple import DIRECTORIES
from miniflow.suggest import quoted

SCHEMA_FILE = "flow.schema.json"
"""Where the schema of flow files is looked for, beside the flows directory."""

FLOW = """{
  "name": "NAME",
  "description": "Greets somebody, then says goodbye; `miniflow list` shows this line",
  "params": {
    "who": {"type": "string", "default": "world", "description": "who is greeted; try: -p '{\\"who\\": \\"moon\\"}'"}
  },
  "tasks": [
    {
      "id": "greet",
      "description": "Runs a script of the tasks directory, with arguments",
      "script": "SCRIPT",
      "args": ["hello", "{{ params.who }}"]
    },
    {
      "id": "say_goodbye",
      "description": "Waits for greet; is tried again twice if it fails, and ended if it takes longer than a minute",
      "script": "SCRIPT",
      "args": ["goodbye", "{{ params.who }}"],
      "depends_on": ["greet"],
      "retries": 2,
      "timeout": "1m"
    }
  ]
}
"""

SCRIPT = '''"""Say something to somebody: a task of the flow NAME.

A task is a script. What it prints is its log, and it fails by exiting with anything but 0. It can be run by hand as well:

    python3 SCRIPT hello moon
"""

import argparse
import os

parser = argparse.ArgumentParser(description="Say something to somebody.")
parser.add_argument("what", help="for example hello")
parser.add_argument("who", help="the args of the task in the flow; {{ params.who }} is replaced by the parameter")
options = parser.parse_args()

# MiniFlow tells a task more about itself, in variables of its environment.
print(f"{options.what} {options.who}, from task {os.environ.get('MINIFLOW_TASK_ID', 'run by hand')}")
'''


def start_flow(name: str, *, flows_dir: str, tasks_dir: str) -> tuple[str, str]:
    """Make a flow file and a script for its tasks, both or none; return their paths.

    Raises:
        UsageError: The name is none, or something of that name is there already.
        OutputError: They cannot be written.
    """
    _check_name(name)
    # A script that is called like one of Python's own modules would be loaded instead of it by all scripts beside it.
    script = f"{name}_task.py" if name in sys.stdlib_module_names else f"{name}.py"
    flow_path, script_path = Path(flows_dir, f"{name}.json"), Path(tasks_dir, script)
    _check_free(name, flows_dir, flow_path, script_path)
    flow = FLOW
    if os.path.isfile(Path(flows_dir).absolute().parent.joinpath(SCHEMA_FILE)):
        flow = flow.replace("{\n", f'{{\n  "$schema": "../{SCHEMA_FILE}",\n', 1)
    names = {"NAME": name, "SCRIPT": script}
    with _all_or_nothing() as undo:
        # The script first: there is no moment in which the flow lacks it.
        for path, text in ((script_path, SCRIPT), (flow_path, flow)):
            _make_directory(path.parent, undo)
            _write_new(path, re.sub("NAME|SCRIPT", lambda match: names[match[0]], text), undo)
    return str(flow_path), str(script_path)


def how_to_run(name: str, directories: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return the command that runs a flow with these directories."""
    words = ["miniflow"]
    for option in DIRECTORIES:
        if directories[option.name] != (environ.get(option.variable) or option.default):
            words += (option.flags[0], directories[option.name])
    return shlex.join([*words, "run", name])


def _check_name(name: str) -> None:
    if len(name) > MAX_ID_LENGTH:  # in a file it is said where the name stands
        raise UsageError(f"the name is longer than {MAX_ID_LENGTH} characters")
    try:
        flow_from_mapping({"name": name, "tasks": [{"id": "greet", "script": "greet.py"}]})
    except FlowError as error:
        raise UsageError("\n".join(problem.message for problem in error.problems)) from None
    if name.endswith(".json"):
        raise UsageError(f"{quoted(name)} is the name of a file; a flow is named without .json")


def _check_free(name: str, flows_dir: str, *paths: Path) -> None:
    there = [shown(path) for path in paths if os.path.lexists(path)]
    if there:
        are = "are" if len(there) > 1 else "is"
        raise UsageError(f"{' and '.join(there)} {are} there already, and nothing was made; choose another name")
    if os.path.isdir(flows_dir):
        for path in flow_files(flows_dir):
            if flow_name(path) == name:
                raise UsageError(f"{shown(path)} holds a flow named {quoted(name)} already, and nothing was made")


@contextlib.contextmanager
def _all_or_nothing() -> Iterator[list[Callable[[], None]]]:
    """Collect how to undo each step; undo them all, the last first, if one fails."""
    undo: list[Callable[[], None]] = []
    try:
        yield undo
    except BaseException:
        for step in reversed(undo):
            with contextlib.suppress(OSError):  # a directory that somebody else uses by now stays
                step()
        raise


def _make_directory(path: Path, undo: list[Callable[[], None]]) -> None:
    missing = [each for each in (path, *path.parents) if not os.path.isdir(each)]
    for each in reversed(missing):
        with writing(each):
            try:
                each.mkdir()
            except FileExistsError:
                if os.path.isdir(each):  # somebody else was faster
                    continue
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        undo.append(each.rmdir)


def _write_new(path: Path, text: str, undo: list[Callable[[], None]]) -> None:
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        undo.append(path.unlink)
        try:
            write_all(descriptor, text.encode())
        finally:
            os.close(descriptor)
