"""The layers: each module imports only what stands above it, and the core stays pure."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import miniflow

PACKAGE = Path(miniflow.__file__).parent

# From the innermost to the outermost; on one line, what stands further right may import what stands further left.
LAYERS = """
    values
    errors
    suggest model
    durations graph critical jsontext kinds masking placeholders
    layout
    drawing drawing.labels drawing.markup drawing.svg drawing.flowgraph drawing.mermaid drawing.dot drawing.boxes drawing.text
    variables
    fields
    schema
    check parse dump expand selection positions
    plan
    bash
    again
    results events
    progress
    documents
    reuse
    actions scheduler lines
    files journal rundir scripts guardian processes lifeline
    resume history tails
    runs planfile notebook timeline overview prune
    logs explain differences
    outcomes junit
    executors executors.spawn executors.watch executors.loop executors.start executors.strays executors.group
    executors.process executors.local
    sinks sinks.callback sinks.console sinks.colored sinks.github sinks.json_lines sinks.run_directory
    step_summary ci_files
    report report.markup report.words report.contents report.picture report.gantt report.table report.overview
    report.page report.collect
    catalog collector interrupts observer reporter runner feed
    options prepare
    prepared running
    api
    tables
    readers messages simple completion listing diagrams printing
    signals stdout terminal display region live github_log summary foreground
    excerpt validation findings starter
    runtasks logforms showlogs explaining difftext comparing
    status showstatus
    arguments completion_table
    commands loading launch commands.planning commands.completion
    commands.list commands.run commands.status commands.logs commands.runs commands.explain commands.diff commands.report
    commands.validate commands.graph commands.script commands.schema
    commands.new
    cli commandline __main__
"""
ORDER = [name for line in LAYERS.splitlines() for name in line.split()]
PURE = [
    *ORDER[: ORDER.index("lines") + 1],
    *ORDER[ORDER.index("report.markup") : ORDER.index("report.page")],
]

# What each part of the package may know of the others, besides standing further out: the axes of growth know little.
ALLOWED = {
    "errors": set(),
    "model": set(),
    "graph": set(),
    "critical": {"graph"},
    "layout": {"graph"},
    "drawing": set(),
    "drawing.markup": set(),
    "drawing.labels": set(),
    "drawing.svg": {"drawing.labels", "drawing.markup", "layout"},
    "drawing.flowgraph": {"durations", "graph", "layout", "model"},
    "drawing.mermaid": {"drawing.flowgraph", "drawing.markup"},
    "drawing.dot": {"drawing.flowgraph", "drawing.markup"},
    "drawing.boxes": {"layout"},
    "drawing.text": {"drawing.boxes", "drawing.flowgraph", "drawing.labels", "layout"},
    "durations": set(),
    "masking": set(),
    "variables": {"jsontext", "kinds", "masking", "suggest"},
    "results": set(),
    "events": {"durations", "results"},
    "lines": set(),
    "actions": {"results"},
    "scheduler": {"actions", "errors", "graph", "model", "results"},
    "files": {"errors"},
    "journal": {"errors", "files", "model"},
    "rundir": {"events", "files", "journal", "results"},
    "reuse": {"documents", "events", "model", "plan", "results"},
    "documents": set(),
    "scripts": {"files"},
    "resume": {"errors", "files", "journal", "processes", "reuse", "rundir", "suggest"},
    "history": {"errors", "files", "resume", "rundir"},
    "tails": {"rundir"},
    "runs": {"errors", "resume", "rundir", "suggest"},
    "planfile": {"bash", "errors", "files", "model", "rundir"},
    "notebook": {
        "drawing.flowgraph",
        "drawing.markup",
        "drawing.svg",
        "errors",
        "model",
        "planfile",
        "results",
        "rundir",
    },
    "timeline": {"critical", "journal", "planfile", "results", "rundir"},
    "differences": {"durations", "timeline"},
    "explain": {"durations", "events", "timeline"},
    "logs": {"errors", "events", "files", "journal", "lines", "rundir"},
    "overview": {"durations", "errors", "files", "journal", "results", "rundir"},
    "prune": {"errors", "files", "journal", "resume", "rundir", "runs"},
    "executors": {"events", "results"},
    "guardian": set(),
    "processes": {"guardian"},
    "lifeline": {"errors", "files", "guardian"},
    "executors.spawn": {"executors"},
    "executors.watch": {"errors"},
    "executors.loop": {"executors.watch"},
    "executors.start": {"executors", "executors.spawn", "executors.watch", "files", "guardian", "results"},
    "executors.strays": {"guardian"},
    "executors.group": {"guardian"},
    "executors.process": {
        "events",
        "executors",
        "executors.group",
        "executors.start",
        "executors.strays",
        "executors.watch",
        "results",
    },
    "executors.local": {
        "results",
        "executors",
        "executors.process",
        "executors.start",
        "executors.strays",
        "executors.watch",
        "guardian",
        "lifeline",
    },
    "sinks": {"events"},
    "sinks.callback": {"events", "sinks"},
    "sinks.console": {"events", "sinks"},
    "sinks.colored": {"events", "sinks", "sinks.console"},
    "region": {"durations", "progress", "sinks.colored"},
    "feed": {"events", "sinks"},
    "sinks.github": {"events", "sinks.console"},
    "sinks.json_lines": {"events", "sinks"},
    "sinks.run_directory": {"documents", "errors", "events", "files", "journal", "rundir", "sinks", "sinks.json_lines"},
    "observer": {"events", "lines", "masking", "results"},
    "reporter": {
        "actions",
        "durations",
        "errors",
        "events",
        "masking",
        "plan",
        "reuse",
        "scripts",
        "sinks",
    },
    "runner": {
        "actions",
        "errors",
        "executors",
        "graph",
        "interrupts",
        "masking",
        "observer",
        "plan",
        "reporter",
        "results",
        "reuse",
        "scheduler",
        "scripts",
        "sinks",
    },
    "report.markup": {"sinks.console"},
    "report.words": {"durations", "outcomes"},
    "report.contents": set(),
    "report.picture": {"drawing.svg", "layout", "report.markup", "report.words"},
    "report.gantt": {"durations", "report.markup", "report.words"},
    "report.table": {"bash", "events", "report.contents", "report.markup", "report.words"},
    "report.overview": {"outcomes", "report.contents", "report.markup", "report.table", "report.words"},
    "interrupts": set(),
    "signals": set(),
    "terminal": set(),
    "logforms": {"lines", "logs", "sinks.console"},
    "display": {"events", "feed", "running", "sinks", "sinks.colored", "sinks.console", "sinks.json_lines", "stdout"},
}

# Who may import what does not come with Python.
THIRD_PARTY = {
    "click": {"cli", "completion_table", *(name for name in ORDER if name.startswith("commands."))},
    "anyio": {
        "api",
        "executors.local",
        "executors.process",
        "executors.start",
        "executors.strays",
        "executors.watch",
        "foreground",
        "live",
        "prepared",
        "runner",
        "running",
        "feed",
        "github_log",
        "stdout",
    },
    "msgspec": {
        "actions",
        "documents",
        "executors.spawn",
        "executors.start",
        "github_log",
        "history",
        "journal",
        "logs",
        "overview",
        "planfile",
        "sinks.json_lines",
    },
    "rich": {"region", "showstatus"},
    "structlog": {"sinks.json_lines"},
}

# Values that notebooks show as more than text.
SHOWN_IN_NOTEBOOKS = {"model", "results"}

# What has an effect on the world, or depends on when and where it is called.
EFFECTS = {
    "asyncio", "concurrent", "ctypes", "fcntl", "getpass", "glob", "io", "logging", "multiprocessing", "pathlib", "platform",
    "random", "resource", "secrets", "select", "selectors", "shutil", "signal", "socket", "subprocess", "sys", "tempfile",
    "threading", "time", "uuid",
}  # fmt: skip
# What of it is pure: paths as values, formatting of times that were given, the text of our own files.
HARMLESS = {
    "bash": {"os.path"},
    "plan": {"os.path"},
    "results": {"pathlib"},
    "events": {"time"},
}
# Where functions are made at run time, as `dataclasses` does.
COMPILED = {"values": {"exec"}}


def modules() -> dict[str, ast.Module]:
    """Return the package's modules by their names within it; a package's own is named like the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        found[name] = ast.parse(path.read_text(), str(path))
    return found


MODULES = modules()


def is_for_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the full names of all modules imported, at the top or in a function, but for type checking alone."""
    for node in ast.iter_child_nodes(tree):
        if is_for_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = full.startswith("miniflow.") and full.removeprefix("miniflow.") in MODULES
                yield full if is_module else node.module
        else:
            yield from imported(node)


def inside(name: str) -> set[str]:
    """Return what a module imports of the package; `__version__` and the like of the package itself aside."""
    names = {full.removeprefix("miniflow.") for full in imported(MODULES[name]) if full.startswith("miniflow.")}
    return names - {"__version__"} - shown_by(name)


def shown_by(name: str) -> set[str]:
    """Return what a value that shows itself in notebooks imports for that.

    The one way outwards: notebooks ask the value, and the value is what they have.
    """
    if name not in SHOWN_IN_NOTEBOOKS:
        return set()
    methods = [node for node in ast.walk(MODULES[name]) if isinstance(node, ast.FunctionDef) and node.name == "_repr_html_"]
    found = {full.removeprefix("miniflow.") for method in methods for full in imported(method)}
    assert found == {"notebook"}
    everywhere = [full for full in imported(MODULES[name]) if full == "miniflow.notebook"]
    assert len(everywhere) == len(methods), "elsewhere, this would be a cycle"
    return found


def outside(name: str) -> set[str]:
    return {full for full in imported(MODULES[name]) if full.partition(".")[0] != "miniflow"}


def test_every_module_has_its_place() -> None:
    assert sorted(MODULES) == sorted(["", *ORDER])


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_what_stands_above_it(name: str) -> None:
    outward = {other for other in inside(name) if ORDER.index(other) >= ORDER.index(name)}

    assert not outward


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_a_module_knows_no_more_than_it_needs(name: str) -> None:
    assert inside(name) <= ALLOWED[name] | {"values"}  # which is to all of them what `dataclasses` would be


def test_the_package_itself_imports_its_modules_only_when_they_are_used() -> None:
    assert inside("") == set()
    assert outside("") <= {"__future__", "typing", "importlib"}


def test_executors_and_sinks_do_not_know_each_other_nor_what_wires_them() -> None:
    wiring = set(ORDER[ORDER.index("catalog") :])
    for name in ORDER:
        axis = name.partition(".")[0]
        if axis in ("executors", "sinks"):
            other = {"executors", "sinks"} - {axis}
            assert not {known for known in inside(name) if known.partition(".")[0] in other | wiring}


@pytest.mark.parametrize("name", ORDER)
def test_what_does_not_come_with_python_is_known_where_it_belongs(name: str) -> None:
    for full in outside(name):
        top = full.partition(".")[0]
        if top not in sys.stdlib_module_names:
            assert name in THIRD_PARTY.get(top, ()), f"{name} imports {full}"


def test_values_know_nothing_of_flows() -> None:
    assert inside("values") == set()


def test_the_guardian_is_a_program_of_its_own_that_starts_fast() -> None:
    assert inside("guardian") == set()
    assert outside("guardian") == {"__future__", "_signal", "os", "select", "sys", "time"}


@pytest.mark.parametrize("name", PURE)
def test_the_core_imports_nothing_that_has_an_effect(name: str) -> None:
    effects = {full for full in outside(name) if full.partition(".")[0] in EFFECTS | {"os", "importlib"}}

    assert effects <= HARMLESS.get(name, set())


@pytest.mark.parametrize("name", PURE)
def test_the_core_opens_no_file_and_awaits_nothing(name: str) -> None:
    for node in ast.walk(MODULES[name]):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "eval", "__import__", *({"exec"} - COMPILED.get(name, set()))}


def test_events_format_times_and_never_ask_for_them() -> None:
    used = {
        node.attr
        for node in ast.walk(MODULES["events"])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
    }

    assert used <= {"strftime", "gmtime"}


@pytest.mark.parametrize("name", ["", *ORDER])
def test_no_module_changes_what_belongs_to_the_whole_process(name: str) -> None:
    changes = {
        "os.chdir",
        "os.fork",
        "os.putenv",
        "os.umask",
        "asyncio.create_task",
        "asyncio.ensure_future",
        "structlog.configure",
    }
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in changes
        if isinstance(node, ast.Assign | ast.Delete):
            for target in node.targets:
                assert not ast.unparse(target).startswith("os.environ")
        if isinstance(node, ast.Call):
            assert "preexec_fn" not in {keyword.arg for keyword in node.keywords}


def test_signals_are_touched_by_the_command_line_alone() -> None:
    for name in ORDER:
        if outside(name) & {"signal", "_signal"}:
            calls = {ast.unparse(node.func) for node in ast.walk(MODULES[name]) if isinstance(node, ast.Call)}
            if name not in ("signals", "foreground", "__main__", "guardian"):
                assert not calls & {"signal.signal", "signal.pthread_sigmask", "signal.set_wakeup_fd", "signal.alarm"}
