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
_SETTING = re.compile(r"^(mf_[a-z_0-9]+)=(.*)$", re.MULTILINE)
_SECRET = re.compile(r"(\S+)(?: \(for (.+)\))?")
_OVERRIDABLE = re.compile(r'"\$\{[A-Za-z0-9_]+:-((?:[^"\\]|\\.)*)\}"(?:/(.*))?')
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")
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


def read_planned(run_dir: RunDir) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]:
    """Return the parameters, and all about the tasks, by their ids, as in `plan.json`; nothing where it is recorded nowhere.

    Of a run by the bash script it is what the script says, whatever its caller has overridden.

    Raises:
        MiniFlowError: It cannot be read.
    """
    document = read_document(run_dir) or _parsed(run_dir.script, _document_of_script) or {}
    return document.get("params", {}), {task["id"]: task for task in document.get("tasks", ())}


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


def _document_of_script(data: bytes) -> dict[str, Any]:
    """Return what a script tells of what stands in a `plan.json`; nothing if it is no script of ours."""
    text = data.decode(errors="backslashreplace")
    flow = _FLOW.search(text)
    if flow is None:
        return {}
    raw = dict(_SETTING.findall(text[: flow.start()]))
    settings = {name: unquote(value) for name, value in raw.items()}
    work_dir = settings.get("mf_work_dir", "")
    settings |= {name: os.path.join(work_dir, path) for name, path in settings.items() if _is_interpreter(name, path)}
    secrets = [_SECRET.fullmatch(unquote(word)) for word in re.findall(_WORD, raw.get("mf_secrets", "()")[1:-1])]
    tasks: list[dict[str, Any]] = []
    for line in flow[1].split("\n"):
        if task := _TASK.fullmatch(line):
            needed = [secret[1] for secret in secrets if secret and _is_needed(secret[2], task[1])]
            upstream = task[3].split()
            tasks.append({"id": task[1], "argv": [], "env": {}, "cwd": work_dir, "upstream": upstream, "trigger_rule": task[2]})
            tasks[-1] |= {"timeout_s": None, "retry_delays_s": [], "retry_on": [], "secret_env": needed}
            continue
        what, _, rest = line.strip().partition(" ")
        if not tasks:
            continue
        if what == "directory":
            tasks[-1]["cwd"] = os.path.join(work_dir, unquote(rest))
        elif what == "time_limit":
            tasks[-1]["timeout_s"] = float(rest)
        elif what == "retry_after":
            tasks[-1]["retry_delays_s"] = [float(word) for word in rest.split()]
        elif what == "retry_on":
            tasks[-1]["retry_on"] = [int(word) for word in rest.split()]
        elif what == "run":
            tasks[-1]["env"], tasks[-1]["argv"] = _command(re.findall(_WORD, rest), settings)
    return {
        "params": msgspec.json.decode(settings.get("mf_params", "{}"), type=dict[str, Any]),
        "tasks": [task for task in tasks if task["argv"]],
    }


def _is_interpreter(name: str, path: str) -> bool:
    """Return whether a setting is the path of one, and not a name to be looked up."""
    return name.startswith("mf_python") and "/" in path


def _is_needed(who: str | None, task_id: str) -> bool:
    """Return whether a task is among those that need a secret; where not all of them are named, any may be."""
    return who is not None and (who == "every task" or " and " in who or task_id in who.split(", "))


def _command(words: list[str], settings: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return what a command sets in the environment, and the command, as it is if nobody overrides anything."""
    env: dict[str, str] = {}
    if words[:1] == ["env"]:
        del words[0]
        while words and (variable := _VARIABLE.fullmatch(words[0])):
            env[variable[1]] = unquote(variable[2])
            del words[0]
        if words[:2] == ["bash", "-c"]:  # for a program that `env` would take for a variable
            del words[:3]
    return env, [_default(word, settings) for word in words]


def _default(word: str, settings: Mapping[str, str]) -> str:
    """Return what a word stands for; if it names a variable of the caller's, as if that were not set."""
    overridable = _OVERRIDABLE.fullmatch(word)
    if overridable is None:
        return unquote(word)
    default, rest = overridable[1], overridable[2]
    value = settings.get(default[1:], "") if default.startswith("$") else re.sub(r"\\(.)", r"\1", default)
    return value if rest is None else f"{value}/{unquote(rest)}"
