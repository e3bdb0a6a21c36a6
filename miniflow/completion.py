"""What a shell can offer for a word that is being typed.

A key press starts this: it does without click, which takes longer to load than all else that is done here. What commands and
options there are stands in a table that the shell hands over, as the line of its start-up file has got it from click
(`completion_table`). It reads what it needs for names and nothing else, and says nothing about what is wrong with that, as its
words would end up in the midst of the user's own. Running the command will say it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from miniflow.errors import MiniFlowError
from miniflow.simple import FLOWS_DIR, OUTPUT_DIR, SHELL_VARIABLE
from miniflow.values import dataclass, field

TABLE_VARIABLE = "_MINIFLOW_COMMANDS"

FILES, DIRECTORIES = ":file", ":dir"
"""Offered alone: the shell knows files itself."""

MOST_FLOWS_READ = 200
"""Of more flows the names of their files are offered, which will do as well."""
LARGE_FLOW_BYTES = 64 * 1024
MOST_RUNS = 100
MOST_TASKS = 1000
MOST_PLAN_BYTES = 16 * 1024 * 1024

_RUN_ID = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{6}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# The tasks of a plan have a line each, and so has each event. To read all of a large file as JSON takes too long.
_PLANNED_TASK = re.compile(rb'^ *\{"id": ?"([A-Za-z0-9_.-]+)"', re.MULTILINE)
_TASK_OF_EVENT = re.compile(rb'"task_id":"([A-Za-z0-9_.-]+)"')


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command."""

    flags: tuple[str, ...]
    kind: str | None
    """Of its value: `flow`, `task`, `run`, `run_id`, `file`, `dir`, `any`, or `a|b|c`; None: it has none."""
    is_repeatable: bool
    help_text: str


@dataclass(slots=True)
class Command:
    """A command, or all of MiniFlow."""

    help_text: str = ""
    arguments: list[str] = field(default_factory=list)
    """The kind of each; one that ends in `*` is that of all that follow."""
    options: list[Option] = field(default_factory=list)


Table = Mapping[str, Command]
"""By the words that call it, the empty text for all of MiniFlow."""


def read_table(text: str) -> Table:
    """Return the table of a text: `completion_table.table_text` says how that is made."""
    table = {"": Command()}
    command = table[""]
    for line in text.split("\n"):
        spec, _, help_text = line.partition("\t")
        if not line.startswith(" "):
            command = table[spec] = Command(help_text)
        elif not spec.startswith(" -"):
            command.arguments.append(spec[1:])
        else:
            flags, equals, kind = spec[1:].partition("=")
            repeatable = flags.endswith("*")
            names = tuple(flags.rstrip("*").split(","))
            command.options.append(Option(names, kind if equals else None, repeatable, help_text))
    return table


def answer(args: Sequence[str], environ: Mapping[str, str], table: Table) -> Iterator[str]:
    """Yield the lines for a shell: what is offered and, after a tab, a few words on it."""
    shell = environ[SHELL_VARIABLE]
    words = _rejoined(args) if shell == "bash" else list(args)
    line = _Line(words[:-1], table)
    current = words[-1] if words else ""
    before = ""
    if line.pending is None and current.startswith("--") and "=" in current and not line.ends_options:
        flag, _, rest = current.partition("=")
        option = line.option(flag)
        if option is None or option.kind is None:
            return
        # bash completes what comes after the sign, and the others the whole word.
        before, current, line.pending = ("" if shell == "bash" else f"{flag}="), rest, option
    offered: Iterable[tuple[str, str]]
    if line.pending is not None:
        kind = line.pending.kind or "any"
        offered = Names(line, environ).of_kind(kind, current, given=line.values(line.pending))
    elif current.startswith("-") and not line.ends_options:
        offered = line.options(current)
    else:
        commands = [(name, text) for name, text in line.commands() if name.startswith(current)]
        offered = [*commands, *Names(line, environ).of_kind(line.next_argument(), current, given=line.positionals)]
    for name, text in offered:
        yield f"{before}{name}\t{text}" if text and shell != "bash" else f"{before}{name}"


def _rejoined(words: Iterable[str]) -> list[str]:
    """Return words as they were typed: bash takes `--from=x` for three."""
    joined: list[str] = []
    is_value = False
    for word in words:
        if is_value or (word == "=" and joined and joined[-1].startswith("--")):
            joined[-1] += word
            is_value = not is_value
        else:
            joined.append(word.strip("'\""))  # as it is typed, with its quotes
    return joined


class _Line:
    """What stands on a command line before the word that is being typed."""

    def __init__(self, words: Sequence[str], table: Table) -> None:
        self._table = table
        self._path = ""
        self._given: list[tuple[Option, str | None]] = []
        self.positionals: list[str] = []
        self.ends_options = False
        self.pending: Option | None = None
        """The option that the next word is the value of."""
        for word in words:
            self._read(word)

    def _read(self, word: str) -> None:
        if self.pending is not None:
            self._given.append((self.pending, word))
            self.pending = None
        elif self.ends_options or not word.startswith("-") or word == "-":
            path = f"{self._path} {word}".strip()
            if path in self._table and not self.positionals:
                self._path = path
            else:
                self.positionals.append(word)
        elif word == "--":
            self.ends_options = True
        else:
            flag, equals, value = word.partition("=")
            option = self.option(flag)
            if option is None:
                return
            if option.kind is not None and not equals:
                self.pending = option
            else:
                self._given.append((option, value))

    def option(self, flag: str) -> Option | None:
        """Return the option that has this flag."""
        return next((option for option in self._table[self._path].options if flag in option.flags), None)

    def values(self, option: Option) -> list[str]:
        """Return the values that an option has been given."""
        return [value for given, value in self._given if given is option and value is not None]

    def value(self, *flags: str) -> str | None:
        """Return the last value that an option has been given."""
        return next((value for option, value in reversed(self._given) if {*flags} & {*option.flags}), None)

    def options(self, beginning: str) -> Iterator[tuple[str, str]]:
        """Yield the flags that may come next."""
        given = [option for option, _ in self._given]
        for option in self._table[self._path].options:
            if option.is_repeatable or option not in given:
                yield from ((flag, option.help_text) for flag in option.flags[::-1] if flag.startswith(beginning))

    def commands(self) -> Iterator[tuple[str, str]]:
        """Yield the commands that may come next."""
        if not self.positionals:
            for path, command in self._table.items():
                before, _, name = path.rpartition(" ")
                if before == self._path and name:
                    yield name, command.help_text

    def next_argument(self) -> str:
        """Return the kind of the argument that may come next."""
        kinds = self._table[self._path].arguments
        if len(self.positionals) < len(kinds):
            return kinds[len(self.positionals)].rstrip("*")
        return kinds[-1].rstrip("*") if kinds and kinds[-1].endswith("*") else "any"

    def argument(self, kind: str) -> str | None:
        """Return the last word that was given for an argument of a kind."""
        kinds = [each.rstrip("*") for each in self._table[self._path].arguments]
        found = [word for word, each in zip(self.positionals, kinds, strict=False) if each == kind]
        return found[-1] if found else None

    def has_argument(self, kind: str) -> bool:
        """Return whether the command has an argument of a kind."""
        return kind in [each.rstrip("*") for each in self._table[self._path].arguments]


class Names:
    """What there is of each kind, as far as it can be read."""

    def __init__(self, line: _Line, environ: Mapping[str, str]) -> None:
        self._line = line
        # The shell passes on what is typed, the tilde too.
        self._flows_dir, self._output_dir = (
            os.path.expanduser(line.value(*each.flags) or environ.get(each.variable) or each.default)
            for each in (FLOWS_DIR, OUTPUT_DIR)
        )

    def of_kind(self, kind: str, beginning: str, given: Collection[str] = ()) -> Iterable[tuple[str, str]]:
        """Return the names of a kind that begin so, each with a few words."""
        is_path = "/" in beginning or beginning.startswith(("~", "."))
        if kind == "file" or (kind == "flow" and is_path):
            return [(FILES, "")]
        if kind == "dir" or (kind == "run" and is_path):
            return [(DIRECTORIES, "")]
        if kind == "flow":
            return [(name, "") for name in flow_names(beginning, self._flows_dir) if name not in given]
        if kind == "task":
            return [task for task in self._tasks(beginning) if task[0] not in given]
        if kind == "run":
            tasks = self._tasks(beginning) if self._line.has_argument("task") else []  # one word alone may be one
            return [*((name, "") for name in run_names(beginning, self._output_dir)), *tasks]
        if kind == "run_id":
            flow = self._line.argument("flow")
            runs = run_ids(os.path.join(self._output_dir, flow)) if flow is not None and _NAME.fullmatch(flow) else []
            return [(name, "") for name in ("latest", *runs[:MOST_RUNS]) if name.startswith(beginning)] if flow else []
        return [(name, "") for name in kind.split("|") if "|" in kind and name.startswith(beginning)]

    def _tasks(self, beginning: str) -> list[tuple[str, str]]:
        """Return the tasks of the flow or the run on the command line."""
        if self._line.has_argument("flow"):
            flow = self._line.argument("flow") or self._line.value("--resume")  # `run --resume FLOW`
            return task_ids(beginning, flow, self._flows_dir)
        run = self._line.argument("run") or self._line.value("--run")
        found = recorded_task_ids(run_path(run, self._output_dir))
        return [(task_id, "") for task_id in found if task_id.startswith(beginning)][:MOST_TASKS]


def flow_names(beginning: str, flows_dir: str) -> list[str]:
    """Return the names of the flows in a directory that begin so."""
    from miniflow.catalog import flow_files, flow_name, stem

    try:
        files = flow_files(flows_dir)
    except MiniFlowError:
        return []
    is_quick = len(files) <= MOST_FLOWS_READ
    names = {flow_name(path) if is_quick and _size(path) <= LARGE_FLOW_BYTES else stem(path) for path in files}
    return sorted(name for name in names if name.startswith(beginning) and _NAME.fullmatch(name))


def task_ids(beginning: str, flow: str | None, flows_dir: str) -> list[tuple[str, str]]:
    """Return the ids of a flow's tasks that begin so, in the flow's order, each with a few words."""
    if flow is None:
        return []
    from miniflow.catalog import load_named_flow

    try:
        tasks = load_named_flow(os.path.expanduser(flow), flows_dir).tasks
    except MiniFlowError:
        return []
    found = [(task.id, " ".join(task.description.split())[:60]) for task in tasks if task.id.startswith(beginning)]
    return found[:MOST_TASKS]


def run_names(beginning: str, output_dir: str) -> list[str]:
    """Return what a run may be called by: its flow, `latest`, its id, the newest first."""
    flows = _flows_with_runs(output_dir)
    ids = sorted({run for flow in flows for run in run_ids(os.path.join(output_dir, flow))}, reverse=True)
    names = ["latest", *flows] if ids else []
    return [
        *(name for name in names if name.startswith(beginning)),
        *[run for run in ids if run.startswith(beginning)][:MOST_RUNS],
    ]


def run_ids(path: str) -> list[str]:
    """Return the runs of a flow's directory, the newest first."""
    try:
        return sorted(filter(_RUN_ID.fullmatch, os.listdir(path)), reverse=True)
    except (OSError, ValueError):
        return []


def run_path(name: str | None, output_dir: str) -> str | None:
    """Return the directory of the run that a word means, if it means one."""
    if name is not None and "/" in name:
        return os.path.expanduser(name)
    flows = _flows_with_runs(output_dir)
    if name in flows:
        flows, name = [str(name)], None
    beginning = "" if name in (None, "latest") else str(name)
    found = [(run, flow) for flow in flows for run in run_ids(os.path.join(output_dir, flow)) if run.startswith(beginning)]
    if not found or (beginning and len(found) > 1):
        return None
    run, flow = max(found)
    return os.path.join(output_dir, flow, run)


def recorded_task_ids(path: str | None) -> list[str]:
    """Return the tasks of a run: by its plan or, if it has none, by what has happened."""
    if path is None:
        return []
    for name, pattern in (("plan.json", _PLANNED_TASK), ("events.jsonl", _TASK_OF_EVENT)):
        try:
            with open(os.path.join(path, name), "rb", opener=_at_once) as file:
                data = file.read(MOST_PLAN_BYTES) or b""
            return list(dict.fromkeys(found.decode() for found in pattern.findall(data)))
        except (OSError, ValueError):
            continue
    return []


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO must not keep a shell waiting


def _flows_with_runs(output_dir: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(output_dir) if _NAME.fullmatch(entry.name) and os.path.isdir(entry))
    except (OSError, ValueError):
        return []


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def complete() -> int:
    """Answer the shell that asks: the words up to the one that is being typed are the arguments."""
    text = os.environ.get(TABLE_VARIABLE)
    if text is None:
        return 2
    sys.stdout.write("".join([f"{line}\n" for line in answer(sys.argv[1:], os.environ, read_table(text))]))
    return 0
