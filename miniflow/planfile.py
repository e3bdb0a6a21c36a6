"""What was to run, as a run directory has it: its `plan.json` or, of a run by the bash script, the copy of that script.

The script is not executed, nor read as bash: the lines that `bash` writes for a task are known by how they begin. What has been
changed by hand so that they are not is not seen here; the journal tells what happened all the same.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from miniflow.bash import unquote
from miniflow.errors import MiniFlowError
from miniflow.files import read_file
from miniflow.model import ID_PATTERN, MAX_ID_LENGTH
from miniflow.rundir import RunDir
from miniflow.values import dataclass

_Parsed = TypeVar("_Parsed")

_WORD = r"""(?:[^\s'"\\$]|\$'(?:[^'\\]|\\.)*'|'[^']*'|"(?:[^"\\]|\\.)*"|\\.)+"""
_TASK = re.compile(rf"  task ({ID_PATTERN.pattern}) (\S+)((?: \S+)*)")
_SCRIPT = re.compile(rf"""  run (?:{_WORD} )*?"\$\{{MINIFLOW_TASKS_DIR:-(?:[^"\\]|\\.)*\}}"/({_WORD})""")
_PARAMS = re.compile(r"^mf_params=(.*)$", re.MULTILINE)
_FLOW = re.compile(r"^flow\(\) \{\n(.*?)^\}$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class RecordedTask:
    """A task that was to run."""

    id: str
    script: str
    """Relative to the tasks directory; empty if that is not known."""
    depends_on: tuple[str, ...] = ()
    trigger_rule: str = "all_success"


@dataclass(frozen=True, slots=True)
class RecordedPlan:
    """What was to run, as far as it is recorded."""

    params: Mapping[str, Any]
    tasks: Sequence[RecordedTask]
    """In the file's order; of a run by the script in that of the script."""


class _Task(msgspec.Struct):
    """A task of a `plan.json`, as far as anybody reads it."""

    id: Annotated[str, msgspec.Meta(pattern=f"^{ID_PATTERN.pattern}$", max_length=MAX_ID_LENGTH)]
    argv: Annotated[list[str], msgspec.Meta(min_length=1)]
    upstream: list[str]
    trigger_rule: str
    env: dict[str, str] = {}
    secret_env: list[str] = []
    cwd: str = ""
    timeout_s: float | None = None
    retry_delays_s: list[float] = []
    retry_on: list[int] = []
    script_sha256: str | None = None


class _Plan(msgspec.Struct):
    tasks_dir: str
    params: dict[str, Any]
    tasks: list[_Task]


def read_plan(run_dir: RunDir) -> RecordedPlan | None:
    """Return what was to run in a run; None if it is recorded nowhere.

    Raises:
        MiniFlowError: It cannot be read.
    """
    plan = _parsed(run_dir.plan, _of_document)
    return plan if plan is not None else _parsed(run_dir.script, _of_script)


def read_planned_task(run_dir: RunDir, task_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a task as it stands in `plan.json`, and the parameters; nothing of a run that has none.

    Raises:
        MiniFlowError: It cannot be read.
    """
    document = read_document(run_dir)
    task: dict[str, Any] = next((task for task in document.get("tasks", ()) if task["id"] == task_id), {})
    return task, document.get("params", {})


def read_document(run_dir: RunDir) -> dict[str, Any]:
    """Return what `plan.json` holds; nothing of a run that has none, like those of the bash script.

    Raises:
        MiniFlowError: It cannot be read.
    """
    return _parsed(run_dir.plan, _document) or {}


def _parsed(path: Path, parse: Callable[[bytes], _Parsed]) -> _Parsed | None:
    """Return what is in a file; None if there is none."""
    try:
        return parse(read_file(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MiniFlowError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MiniFlowError(f"{path} is damaged, or of another version of MiniFlow ({error})") from None


def _document(data: bytes) -> dict[str, Any]:
    msgspec.json.decode(data, type=_Plan)  # what it holds, not only that it is JSON
    return msgspec.json.decode(data, type=dict[str, Any])


def _of_document(data: bytes) -> RecordedPlan:
    plan = msgspec.json.decode(data, type=_Plan)
    prefix = os.path.join(plan.tasks_dir, "")
    return RecordedPlan(
        plan.params,
        [
            RecordedTask(task.id, _script(task.argv, prefix), tuple(task.upstream), task.trigger_rule)
            for task in plan.tasks
        ],
    )  # fmt: skip


def _script(argv: Sequence[str], prefix: str) -> str:
    """Return the script of a command: the first of its words, or the one after its interpreter."""
    path = next((word for word in argv[1::-1] if word.startswith(prefix)), None)
    return path.removeprefix(prefix) if path is not None else ""


def _of_script(data: bytes) -> RecordedPlan | None:
    text = data.decode(errors="backslashreplace")
    flow, params = _FLOW.search(text), _PARAMS.search(text)
    if flow is None or params is None:
        return None
    tasks: list[RecordedTask] = []
    for line in flow[1].split("\n"):
        if task := _TASK.fullmatch(line):
            tasks.append(RecordedTask(task[1], "", tuple(task[3].split()), task[2]))
        elif tasks and (run := _SCRIPT.match(line)):
            last = tasks[-1]
            tasks[-1] = RecordedTask(last.id, unquote(run[1]), last.depends_on, last.trigger_rule)
    return RecordedPlan(msgspec.json.decode(unquote(params[1]), type=dict[str, Any]), tasks)
