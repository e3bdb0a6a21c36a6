"""Plan → the canonical bash script: the same plan, the same bytes.

    header        what it is, for people; what its caller can change
    opening.sh    the same in all scripts: undoes what the caller's environment would change about the language
    settings      the plan's directories, interpreters and parameters
    flow()        the tasks
    masking.sh    if the flow has secrets: how they are kept out of the logs, by the same Python as in the scheduler
    machinery.sh  the same in all scripts: the functions that `flow` is made of

Nothing of the plan is ever interpreted by the shell: every word is quoted here, and `machinery.sh` only passes words on.
"""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeAlias, cast

from miniflow.durations import format_duration, format_seconds
from miniflow.plan import Plan, PlannedTask

if TYPE_CHECKING:
    from importlib.abc import FileLoader

_SAFE_WORD = re.compile(r"[A-Za-z0-9_@%+:,./-][A-Za-z0-9_@%+=:,./-]*")
_KEYWORDS = frozenset({
    "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select", "then", "time",
    "until", "while",
})  # fmt: skip
# What could hide something from whoever reads the script: control characters, and those that turn the direction of writing.
_HIDDEN = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
_HIDING = re.compile(f"[{_HIDDEN}]")
# This one, `_ESCAPED` and `_SPECIAL_IN_DEFAULT` are compiled when they are used, as most flows need none of them.
_TO_ESCAPE = f"[{_HIDDEN}\\\\']"
_ESCAPES = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\\": r"\\", "'": r"\'"}
_ESCAPED = rb"\\(?:([0-3][0-7]{2})|([ntr\\']))"
_UNESCAPES = {escape[1:].encode(): character.encode() for character, escape in _ESCAPES.items()}
# What can stand inside of "${NAME:-}": not what hides, nor what means something there to one shell (or to shellcheck) and
# nothing to another, or something to one that people type into.
_DEFAULT = re.compile(f"[^{_HIDDEN}'!]+")
_SPECIAL_IN_DEFAULT = r'[$`\\"}]'

_Programs: TypeAlias = dict[tuple[str, str | None], tuple[Sequence[str], str]]

# bash runs a list of commands by recursion: a function of 100,000 commands overflows its stack. Groups keep it flat.
_TASKS_IN_A_GROUP = 100

# All about what stands in quotes and might have been meant otherwise; here it is data: dollar signs and tildes that do not
# expand, backslashes before quotes, the quotes of other alphabets.
_SHELLCHECK_EXCEPTIONS = ("SC1003", "SC1110", "SC1111", "SC1112", "SC2016", "SC2088")


def render_script(plan: Plan) -> str:
    """Return the script of a plan: readable from top to bottom, with the tasks first and what drives them after."""
    return b"".join(script_parts(plan)).decode()


def script_parts(plan: Plan) -> Iterator[bytes]:
    """Yield the script in parts, as it is written to a file: of a large flow the whole takes much memory."""
    pythons = _own_pythons(plan)
    lines = [*_header(plan), _part("opening.sh"), *_settings(plan, pythons), "flow() {"]
    programs: _Programs = {}
    in_groups = len(plan.tasks) > _TASKS_IN_A_GROUP
    for place, index in enumerate(plan.order()):
        if in_groups and place % _TASKS_IN_A_GROUP == 0:
            yield "\n".join([*lines, ""]).encode()
            lines = ["  }", "  {"] if place else ["  {  # so many at a time, as bash can take only so many in one go"]
        task = plan.tasks[index]
        if (task.script, task.python) not in programs:
            programs[task.script, task.python] = _program(plan, task, pythons)
        lines += _task(plan, task, *programs[task.script, task.python])
    lines += [*(["  }"] if in_groups else []), "}", "", *_masking(plan), _part("machinery.sh")]
    yield "\n".join(lines).encode()


def quote(word: str) -> str:
    """Return a word that bash reads as exactly these characters, on one line."""
    if _SAFE_WORD.fullmatch(word) and word not in _KEYWORDS:
        return word
    if _HIDING.search(word):
        return "$'" + re.sub(_TO_ESCAPE, _escape, word) + "'"
    return "'" + word.replace("'", "'\\''") + "'"


def unquote(word: str) -> str:
    """Return the characters of a word that `quote` made."""
    if word.startswith("$'"):
        data = re.sub(_ESCAPED, lambda m: bytes([int(m[1], 8)]) if m[1] else _UNESCAPES[m[2]], word[2:-1].encode())
        return data.decode(errors="backslashreplace")
    return word[1:-1].replace("'\\''", "'") if word.startswith("'") else word


def _escape(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0]) or "".join(f"\\{byte:03o}" for byte in match[0].encode())


def _default(variable: str, value: str, holder: str) -> str:
    """Return a word that stands for the variable or, where it is unset or empty, for the value.

    The value itself stands there, so that the line can be pasted into a shell. One that cannot stand there is left in the
    variable `holder`.
    """
    default = re.sub(_SPECIAL_IN_DEFAULT, r"\\\g<0>", value) if _DEFAULT.fullmatch(value) else f"${holder}"
    return f'"${{{variable}:-{default}}}"'


@cache
def _part(name: str) -> str:
    # What `pkgutil` and `importlib.resources` ask as well, who load much; also in an archive.
    loader = cast("FileLoader", __spec__.loader)
    return loader.get_data(os.path.join(os.path.dirname(__file__), name)).decode("utf-8")


def _comment(text: str, indent: str = "# ") -> list[str]:
    lines = []
    for line in text.splitlines():
        # A tab is harmless.
        shown = _HIDING.sub(lambda m: m[0] if m[0] == "\t" else "\N{REPLACEMENT CHARACTER}", line).rstrip()
        if shown.lstrip().startswith("shellcheck"):
            shown = f'"{shown}"'  # else it would be a directive
        lines.append((indent + shown).rstrip())
    return lines


def _header(plan: Plan) -> list[str]:
    place = plan.place
    version = f", version {plan.version}" if plan.version else ""
    named = plan.selection.named() if plan.selection else ()
    part = " ".join(f"--{name} {task_id}" for name, ids in named for task_id in ids)
    timeout = "none" if plan.timeout_s is None else format_duration(plan.timeout_s)
    return [
        "#!/usr/bin/env bash",
        *_comment(f"Flow {plan.flow}{version}"),
        *(["#", *_comment(plan.description, "#   ")] if plan.description.strip() else []),
        *(["#", f"# A part of the flow: {part}. What its tasks depend on besides counts as done."] if part else []),
        "#",
        "# Written by MiniFlow, whose `miniflow run` does the same. It needs bash 4.3 or newer, coreutils and python3,",
        "# and nothing of MiniFlow. It runs the tasks one after the other, and records what happens in a directory of its own",
        "# below the output directory: events.jsonl (what happened), status/ (exit statuses), logs/ (what the tasks printed).",
        "#",
        "# Environment variables that change what it does, and what holds without them:",
        *_comment(f"MINIFLOW_TASKS_DIR   the task scripts          {place.tasks_dir}", "#   "),
        *_comment(f"MINIFLOW_OUTPUT_DIR  where it records          {place.output_dir}", "#   "),
        *_comment(f"MINIFLOW_WORK_DIR    where the tasks run       {place.work_dir}", "#   "),
        *_comment(f"MINIFLOW_PYTHON      runs the .py scripts (*)  {place.python}, or python3 if that is not there", "#   "),
        f"#   MINIFLOW_KEEP_GOING  1: after a failure, go on with what does not depend on it   {int(plan.keep_going)}",
        f"#   MINIFLOW_GRACE       between SIGTERM and SIGKILL: 5, 500ms, 1m30s                {format_duration(plan.grace_s)}",
        f"#   MINIFLOW_TIMEOUT     for all together, likewise; then what runs is ended         {timeout}",
        *_comment(_secrets_comment(plan), "#   "),
        "#   (*) but for the tasks that name an interpreter of their own",
        "#",
        "# It exits with 0 if every task that ran has succeeded, 1 if one failed, 2 if it cannot run at all, 124 if it took",
        "# longer than its timeout, and after SIGINT, SIGTERM or SIGHUP by that signal.",
        "#",
        "# What stands in quotes here is data, whatever it looks like:",
        f"# shellcheck disable={','.join(_SHELLCHECK_EXCEPTIONS)}",
        "",
    ]


def _secrets(plan: Plan) -> list[str]:
    return [f"{name} ({who})" if who else name for name, who in plan.secrets().items()]


def _secrets_comment(plan: Plan) -> str:
    return f"Secrets, which have to be set, and are masked in the logs: {', '.join(_secrets(plan))}" if plan.secret_env else ""


def _masking(plan: Plan) -> list[str]:
    if not plan.secret_env:
        return []
    return [
        "# What masks secrets, in Python; its use comes below.",
        "mf_masking='" + _part("masking.py").replace("'", "'\\''") + "'",
        _part("masking.sh"),
    ]


def _settings(plan: Plan, pythons: dict[str, str]) -> list[str]:
    names = ",".join(json.dumps(name, ensure_ascii=False) for name in plan.params)
    return [
        f"mf_flow={quote(plan.flow)}",
        f"mf_tasks={len(plan.tasks)}",
        f"mf_tasks_dir={quote(plan.place.tasks_dir)}",
        f"mf_output_dir={quote(plan.place.output_dir)}",
        f"mf_work_dir={quote(plan.place.work_dir)}",
        *([f"mf_python={quote(plan.place.python)}"] if any(map(_runs_on_the_plans_python, plan.tasks)) else []),
        f"mf_keep_going={int(plan.keep_going)}",
        f"mf_grace={format_duration(plan.grace_s)}",
        f"mf_timeout={format_duration(plan.timeout_s) if plan.timeout_s is not None else ''}",
        f"mf_params={quote(plan.params_json)}",
        f"mf_param_names={quote(names)}",
        *([f"mf_secrets=({' '.join(map(quote, _secrets(plan)))})"] if plan.secret_env else []),
        *(f"{variable}={quote(path)}" for path, variable in pythons.items()),
        "",
    ]


def _runs_on_the_plans_python(task: PlannedTask) -> bool:
    return task.python is None and task.script.endswith(".py")


def _own_pythons(plan: Plan) -> dict[str, str]:
    """Return a variable's name for each interpreter that tasks name themselves."""
    paths = dict.fromkeys(task.python for task in plan.tasks if task.python is not None)
    return {path: f"mf_python_{number}" for number, path in enumerate(paths, 1)}


def _task(plan: Plan, task: PlannedTask, program: Sequence[str], first: str) -> list[str]:
    """Return the lines of a task; for `program` and `first` see `_program`."""
    lines = [f"  # --- {task.id} {'-' * max(3, 100 - len(task.id))}"]
    if task.description:
        lines += _comment(task.description, "  # ")
    upstream = [plan.tasks[index].id for index in task.upstream]
    lines.append(f"  {' '.join(['task', task.id, task.trigger_rule, *upstream])}")
    if task.cwd:
        lines.append(f"  directory {quote(task.cwd)}")
    if task.timeout_s is not None:
        lines.append(f"  time_limit {format_seconds(task.timeout_s)}")
    if task.retry_delays_s:
        lines.append(f"  retry_after {' '.join(map(format_seconds, task.retry_delays_s))}")
        if task.retry_on:
            lines.append(f"  retry_on {' '.join(map(str, task.retry_on))}")
    return [*lines, f"  run {' '.join(_command(task, program, first))}", ""]


def _program(plan: Plan, task: PlannedTask, pythons: dict[str, str]) -> tuple[Sequence[str], str]:
    """Return the words that stand before a task's arguments, and what the first of them is if nothing overrides it.

    They are the same for all tasks that have script and interpreter in common.
    """
    script = f"{_default('MINIFLOW_TASKS_DIR', plan.place.tasks_dir, 'mf_tasks_dir')}/{quote(task.script)}"
    program: list[str]
    if task.script.endswith(".py"):
        first = plan.python(task)
        if task.python is None:
            program = [_default("MINIFLOW_PYTHON", first, "mf_python"), script]
        else:
            program = [_default(pythons[task.python], first, pythons[task.python]), script]
    elif task.script.endswith(".sh"):
        program, first = ["bash", script], "bash"
    else:
        program, first = [script], f"{plan.place.tasks_dir}/{task.script}"
    return program, first


def _command(task: PlannedTask, program: Sequence[str], first: str) -> Sequence[str]:
    words = [*program, *map(quote, task.args)]
    if not task.env:
        return words
    if "=" in first:
        # `env` would take this program for one more variable. The machinery knows these words, and sees through them.
        words = ["bash", "-c", quote('exec "$0" "$@"'), *words]
    return ["env", *(f"{name}={quote(value) if value else ''}" for name, value in task.env.items()), *words]
