"""`miniflow graph`: the same dependencies in every form, drawings that can be followed, and what they tell of durations."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miniflow.drawing.boxes import ASCII, draw_boxes
from miniflow.drawing.dot import dot
from miniflow.drawing.flowgraph import FlowGraph, graph_of
from miniflow.drawing.mermaid import mermaid
from miniflow.drawing.text import _listed, text
from miniflow.model import ID_PATTERN, Flow, Task
from tests.conftest import Space
from tests.test_graph import Graph, acyclic_graphs

GOLDEN = Path(__file__).parent / "golden"
Edges = set[tuple[str, str]]

DEMO: dict[str, Any] = {
    "name": "demo",
    "params": {"date": {"type": "string"}},
    "tasks": [
        {"id": "fetch_orders", "script": "x.py", "args": ["{{ params.date }}"], "description": "Orders of <one> day"},
        {"id": "fetch_customers", "script": "x.py"},
        *({"id": f"clean_{n}", "script": "x.py", "depends_on": ["fetch_orders", "fetch_customers"]} for n in range(1, 6)),
        {"id": "join", "script": "x.py", "depends_on": [f"clean_{n}" for n in range(1, 6)]},
        {"id": "train", "script": "x.py", "depends_on": ["join"]},
        {"id": "report", "script": "x.py", "depends_on": ["train", "fetch_customers"]},
        {"id": "end", "script": "x.py", "depends_on": ["join", "report"], "trigger_rule": "all_done"},
    ],
}


def recorded(space: Space, durations_s: dict[str, float], flow: str = "demo") -> None:
    """Record a run in which tasks took so long."""
    run = space.output_dir / flow / "20261123T093612.041Z-3f9a1c"
    run.mkdir(parents=True)
    tasks = {task: {"state": "succeeded", "reason": "exit", "duration_s": took_s} for task, took_s in durations_s.items()}
    (run / "run.json").write_text(json.dumps({"tasks": tasks}))


def flow_of(graph: Graph, ids: list[str] | None = None) -> Flow:
    names = ids or [f"a_task_of_the_number_{n}" for n in range(len(graph))]
    return Flow("x", [Task(names[n], "x.py", depends_on=[names[other] for other in needed]) for n, needed in enumerate(graph)])


def drawable(graph: Graph, ids: list[str] | None = None) -> FlowGraph:
    found = graph_of(flow_of(graph, ids), {})
    assert found is not None
    return found


def edges_of(graph: FlowGraph) -> Edges:
    ids = graph.task_ids
    return {(ids[other], ids[task]) for task, needed in enumerate(graph.upstream) for other in needed}


@pytest.mark.parametrize("form", ["text", "ascii", "list", "mermaid", "dot", "svg"])
def test_every_form_is_as_it_was(space: Space, form: str) -> None:
    space.flow(DEMO)
    recorded(space, {"fetch_orders": 12.34, "fetch_customers": 0.5, "join": 75.0, "train": 3601.2, "clean_3": 4.321})
    env = {"COLUMNS": "30" if form == "list" else "90", "PYTHONIOENCODING": "ascii" if form == "ascii" else "utf-8"}
    result = space.miniflow("graph", "demo", "--format", "text" if form in ("ascii", "list") else form, env=env)

    assert (result.returncode, result.stderr) == (0, "")
    golden = GOLDEN / f"graph.{form if form in ('mermaid', 'dot', 'svg') else f'{form}.txt'}"
    if os.environ.get("MINIFLOW_REWRITE_GOLDEN"):
        golden.write_text(result.stdout)
    assert result.stdout == golden.read_text()


LIGHT = dict(zip(" │─┘┐┤└┌├┴┬┼", (0, 3, 12, 5, 6, 7, 9, 10, 11, 13, 14, 15), strict=True))
UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
STEP = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}
BACK = {UP: DOWN, DOWN: UP, LEFT: RIGHT, RIGHT: LEFT}


def followed(lines: list[str]) -> Edges:
    """Return the dependencies that somebody sees who follows the lines of a drawing with a finger."""
    width = max(map(len, lines), default=0)
    canvas = [line.ljust(width) for line in lines]
    boxes = {
        (row, column): match[1]
        for row, line in enumerate(canvas)
        for match in re.finditer(r"│ +([A-Za-z_.0-9-]+) +│", line)
        for column in range(match.start(), match.end())
    }
    found = set()
    for row, line in enumerate(canvas):
        for column, char in enumerate(line):
            if char != "┬" or (row - 1, column) not in boxes or canvas[row - 1][column] in "┬│▼":
                continue
            source = boxes[row - 1, column]
            waiting, seen = [(row + 1, column, DOWN)], set()
            while waiting:
                at = waiting.pop()
                if at in seen:
                    continue
                seen.add(at)
                y, x, direction = at
                here = canvas[y][x]
                if here == "▼":
                    found.add((source, boxes[y + 2, x]))
                    continue
                arms = LIGHT[here]
                if direction in (LEFT, RIGHT) and arms == UP | DOWN:  # another line, which goes down here
                    ways = [direction]
                else:
                    assert arms & BACK[direction], f"the line breaks off at {y}, {x}"
                    ways = [way for way in STEP if arms & way and way != BACK[direction]]
                waiting.extend((y + STEP[way][0], x + STEP[way][1], way) for way in ways)
    return found


@given(acyclic_graphs())
@example([[], [0], [], [0, 1], [], [], [], [], [], [0, 2, 3], [0, 1, 2, 3], [0, 9]])  # two edges that change places
@example([[], [], [5], [], [], [], [5, 0, 2], [2]])  # three that come from the right
def test_the_lines_of_a_drawing_lead_to_what_depends_on_what(graph: Graph) -> None:
    names = [f"a_task_of_the_number_{n}" for n in range(len(graph))]
    lines = draw_boxes(graph, [[name] for name in names], width=10_000)

    assert lines is not None
    assert followed(lines) == {(names[other], names[task]) for task, needed in enumerate(graph) for other in needed}


@given(acyclic_graphs(), st.integers(20, 60))
def test_a_list_says_what_depends_on_what(graph: Graph, width: int) -> None:
    drawn = drawable(graph, [f"a_task_{chr(ord('a') + n)}" for n in range(len(graph))])
    found = set()
    entries = re.sub(r"\n {5,}", " ", "\n".join(_listed(drawn, width, "…", "←"))).split("\n")
    for entry in entries:
        tasks, _, needed = entry.replace("*", "").partition(" ← ")
        for task in re.findall(r"a_task\w+", tasks):
            found |= {(other, task) for other in re.findall(r"a_task\w+", needed)}
    expected = edges_of(drawn)
    shortened = {task for task in drawn.task_ids if sum(task == one for _, one in expected) > 8}
    assert found <= expected
    assert shortened or "tasks)" in "".join(entries) or found == expected


LEGAL_IDS = st.lists(
    st.one_of(
        st.from_regex(ID_PATTERN, fullmatch=True).filter(lambda text: len(text) <= 200 and text.isascii()),
        st.sampled_from(["end", "graph", "node", "digraph", "strict", "1.", "_x_", "__init__", "www.x.y", "a.-"]),
    ),
    min_size=12,
    max_size=12,
    unique=True,
)


@given(acyclic_graphs(), LEGAL_IDS)
def test_mermaid_has_every_dependency_and_every_id(graph: Graph, ids: list[str]) -> None:
    drawn = drawable(graph, ids[: len(graph)])
    lines = list(mermaid(drawn))

    assert lines[0] == "flowchart TD"
    labels = {}
    edges = set()
    for line in lines[1:]:
        if match := re.fullmatch(r'  (t\d+)\["([A-Za-z0-9_.#;-]+)"\]', line):
            labels[match[1]] = match[2].replace("#95;", "_").replace("#46;", ".")
        elif match := re.fullmatch(r"  (t\d+) --> (t\d+)", line):
            edges.add((labels[match[1]], labels[match[2]]))
        else:
            assert line.startswith(("  %% ", "  classDef critical ", "  class t", "  linkStyle "))
    assert list(labels.values()) == list(drawn.task_ids)
    assert edges == edges_of(drawn)


@pytest.mark.parametrize(
    ("task_id", "label"),
    [("_x_", "#95;x#95;"), ("__a_b", "#95;#95;a_b"), ("1.", "1#46;"), ("WWW.x.y", "WWW#46;x#46;y"), ("v1.2", "v1.2")],
)
def test_mermaid_takes_no_id_for_markdown(task_id: str, label: str) -> None:
    assert f'  t0["{label}"]' in list(mermaid(drawable([[]], [task_id])))


@given(acyclic_graphs(), LEGAL_IDS)
def test_dot_has_every_dependency_and_every_id(graph: Graph, ids: list[str]) -> None:
    drawn = drawable(graph, ids[: len(graph)])
    lines = [line.strip() for line in dot(drawn)]

    tasks = [match[1] for line in lines if (match := re.fullmatch(r'"([^"]+)"( \[.*\])?;', line))]
    edges = {(match[1], match[2]) for line in lines if (match := re.fullmatch(r'"([^"]+)" -> "([^"]+)"( \[.*\])?;', line))}
    assert (lines[0], lines[-1]) == ('digraph "x" {', "}")
    assert tasks == list(drawn.task_ids)
    assert edges == edges_of(drawn)


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_graphviz_reads_it() -> None:
    graph = "\n".join(dot(drawable([[], [0], [0, 1]], ["graph", "1.", "_x-"])))

    subprocess.run(["dot", "-Tsvg"], input=graph, capture_output=True, text=True, check=True)


@given(acyclic_graphs(), st.integers(24, 120), st.booleans())
def test_a_drawing_is_no_wider_than_asked_and_ascii_where_nothing_else_can_be_shown(
    graph: Graph, width: int, is_unicode: bool
) -> None:
    lines = list(text(drawable(graph, [f"t{n}" for n in range(len(graph))]), width=width, is_unicode=is_unicode))

    assert all(len(line) <= width for line in lines)
    assert is_unicode or all(line.isascii() for line in lines)
    assert all(line == line.rstrip() for line in lines)


def many(width: int) -> list[str]:
    names = ["begin", *(f"measure_module_{n:03}" for n in range(198)), "end"]
    return list(text(drawable([[], *([0] for _ in range(198)), list(range(1, 199))], names), width=width))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_many_tasks_of_a_kind_are_one_box(width: int) -> None:
    lines = many(width)

    assert len(lines) < 25
    assert "198 tasks" in "\n".join(lines)
    assert "critical: measure_module_000" in "\n".join(lines)


def test_many_tasks_of_different_kinds_are_a_list_with_the_critical_ones_marked() -> None:
    graph = [sorted({max(0, n - 20 - n % 3), max(0, n - 20)}) if n >= 20 else [] for n in range(200)]
    lines = list(text(drawable(graph), width=80))

    assert 20 < len(lines) < 800
    assert sum("*a_task" in line for line in lines) == 10
    assert "* on the critical path" in lines


def test_of_many_lines_that_differ_in_numbers_alone_the_first_and_the_last_are_listed() -> None:
    names = ["begin", *(f"{name}_{n}" for n in range(50) for name in ("load", "fit"))]
    graph = [[], *([0] if n % 2 == 0 else [n] for n in range(100))]
    lines = list(text(drawable(graph, names), width=80))

    assert lines[:6] == [
        "1  *begin",
        "2  *load_0 … load_49 (50 tasks) ← begin",
        "3  *fit_0 ← load_0",
        "   fit_1 ← load_1",
        "   … 47 more, which differ in numbers alone",
        "   fit_49 ← load_49",
    ]


def test_the_critical_path_has_a_colour_where_there_are_any(space: Space) -> None:
    space.flow({"name": "demo", "tasks": [{"id": "a", "script": "x.py"}, {"id": "b", "script": "x.py", "depends_on": "a"}]})

    plain = space.miniflow("graph", "demo").stdout
    colored = space.miniflow("graph", "demo", env={"FORCE_COLOR": "1"}).stdout
    assert "\x1b" not in plain
    assert colored.startswith("\x1b[1;33m┏━━━┓\x1b[0m\n\x1b[1;33m┃\x1b[0m a \x1b[1;33m┃\x1b[0m\n")
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain
    assert space.miniflow("graph", "demo", env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout == plain


def test_the_critical_path_is_drawn_heavy() -> None:
    lines = draw_boxes([[], [0], [0]], [["a"], ["b"], ["c"]], width=80, critical=[0, 2], steps=[(0, 2)], pen=ASCII)

    assert lines == [
        "    +===+",
        "    # a #",
        "    +=+=+",
        "  +---+==+",
        "  v      v",
        "+---+  +===+",
        "| b |  # c #",
        "+---+  +===+",
    ]


def test_the_critical_path_is_the_longest_by_what_earlier_runs_took(space: Space) -> None:
    tasks = [{"id": name, "script": "x.py"} for name in ("a", "b", "slow")]
    tasks += [{"id": "c", "script": "x.py", "depends_on": ["a"]}, {"id": "d", "script": "x.py", "depends_on": ["c"]}]
    tasks += [{"id": "end", "script": "x.py", "depends_on": ["b", "slow"]}]
    space.flow({"name": "demo", "tasks": tasks})
    assert "critical path: a → c → d\n" in space.miniflow("graph", "demo").stdout

    recorded(space, {"a": 1, "b": 1, "slow": 100, "c": 1, "d": 1, "end": 0.123})
    output = space.miniflow("graph", "demo").stdout
    assert "critical path: slow → end\n" in output
    assert "expected: 1m40s at least, 1m44s one after the other, by earlier runs\n" in output


def test_what_has_never_run_is_guessed_and_said_to_be(space: Space) -> None:
    space.flow(DEMO)
    recorded(space, {"join": 10, "train": 20})

    assert "by earlier runs (9 tasks guessed)" in space.miniflow("graph", "demo", env={"COLUMNS": "200"}).stdout


def test_neither_parameters_nor_scripts_are_needed(space: Space) -> None:
    space.flow({"name": "demo", "params": {"x": {"required": True}}, "tasks": [{"id": "a", "script": "gone.py"}]})

    assert space.miniflow("graph", "demo").returncode == 0
    assert space.miniflow("graph", str(space.flows_dir / "demo.json")).returncode == 0
    assert space.miniflow("run", "demo").returncode == 2


def test_a_flow_that_is_wrong_is_an_error_as_for_run(space: Space) -> None:
    space.flow({"name": "round", "tasks": [{"id": "a", "script": "x.py", "depends_on": "a"}]})
    for flow, message in (("round", "cycle"), ("rond", 'did you mean "round"?')):
        result = space.miniflow("graph", flow)
        assert (result.returncode, result.stdout) == (2, "")
        assert message in result.stderr


def test_it_is_written_to_a_file_whole_or_not_at_all(space: Space) -> None:
    space.flow(DEMO)
    target = space.path / "graph.svg"
    result = space.miniflow("graph", "demo", "--format", "svg", "-o", str(target), env={"PYTHONIOENCODING": "ascii"})

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert target.read_text() == space.miniflow("graph", "demo", "--format", "svg").stdout
    assert space.miniflow("graph", "demo", "-o", "-").stdout == space.miniflow("graph", "demo").stdout
    os.mkfifo(space.path / "pipe")
    result = space.miniflow("graph", "demo", "-o", "pipe")
    assert (result.returncode, result.stderr) == (2, "error: --output: pipe is no file\n")
    result = space.miniflow("graph", "demo", "-o", str(space.path / "no" / "graph.txt"))
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot write ")


def test_an_image_is_ascii_where_nothing_else_can_be_written(space: Space) -> None:
    space.flow({"name": "demo", "tasks": [{"id": "a", "script": "x.py", "description": "Größe ✓"}]})

    output = space.miniflow("graph", "demo", "--format", "svg", env={"PYTHONIOENCODING": "ascii"}).stdout
    assert "Gr&#246;&#223;e &#10003;" in output


def test_an_unknown_form_is_a_mistake_of_the_caller(space: Space) -> None:
    result = space.miniflow("graph", "demo", "--format", "png")

    assert result.returncode == 2
    assert "'png' is not one of" in result.stderr


@pytest.mark.stress
def test_the_lines_of_larger_drawings_lead_to_what_depends_on_what() -> None:
    rng = random.Random(0)  # noqa: S311
    for _ in range(2000):
        reach, most = rng.randrange(1, 15), rng.randrange(1, 5)
        graph: Graph = [[]]
        for task in range(1, rng.randrange(5, 60)):
            graph.append(sorted({rng.randrange(max(0, task - reach), task) for _ in range(rng.randrange(most))}))
        names = [f"task_{n}" for n in range(len(graph))]
        lines = draw_boxes(graph, [[name] for name in names], width=10_000)
        assert lines is not None
        assert followed(lines) == {(names[other], names[task]) for task, needed in enumerate(graph) for other in needed}
