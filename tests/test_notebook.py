"""What a notebook shows of a result and of a flow: all of it, nothing that acts, and with nothing of Jupyter needed."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from miniflow import Flow, RunResult, Task, TaskResult, read_run
from miniflow.notebook import MOST_DRAWN, MOST_ROWS
from tests.conftest import Space

HOSTILE = "<script>alert('\"')</script>&amp;\x1b]0;x\x07\x00\u202e"
SVG = "{http://www.w3.org/2000/svg}"


def shown(value: Any) -> ET.Element:
    text = value._repr_html_()
    text.encode()
    return ET.fromstring(text)  # noqa: S314


def rows(page: ET.Element) -> list[list[str]]:
    return [["".join(cell.itertext()).strip() for cell in row] for row in page.iter("tr")][1:]


def drawn(page: ET.Element) -> dict[str, str]:
    """Return the classes of the tasks in the graph, by their titles."""
    return {group.findtext(f"{SVG}title", ""): group.attrib["class"] for group in page.iter(f"{SVG}g")}


@pytest.fixture
def run(space: Space) -> RunResult:
    space.script("hello.py", "print('hello')")
    space.script("fail.py", "import sys; sys.exit(3)")
    tasks = [
        {"id": "first", "script": "hello.py"},
        {"id": "second", "script": "fail.py", "depends_on": "first", "retries": 1},
        {"id": "third", "script": "hello.py", "depends_on": "second"},
    ]
    space.flow({"name": "demo", "tasks": tasks})
    assert space.miniflow("run", "demo").returncode == 1
    return read_run(space.latest("demo"))


def test_a_result_shows_its_tasks_as_a_table_and_as_a_graph(run: RunResult) -> None:
    page = shown(run)

    first, second, third = rows(page)
    assert first[:4] == ["first", "✓ succeeded", "0", "1"]
    assert second[:4] == ["second", "✗ failed", "3", "2"]
    assert first[4].endswith("s")
    assert third == ["third", "↷ skipped", "", "", "", "upstream_failed"]
    assert [title.partition("\n")[0] for title in drawn(page)] == ["first: succeeded", "second: failed", "third: skipped"]
    assert list(drawn(page).values()) == ["task succeeded", "task failed", "task skipped"]
    assert "demo ✗ failed in " in "".join(page.itertext())
    assert str(run.run_dir) in "".join(page.itertext())


def test_tasks_that_nothing_has_happened_to_yet_are_pending(run: RunResult) -> None:
    journal = run.run_dir / "events.jsonl"
    journal.write_bytes(journal.read_bytes().split(b"\n")[0] + b"\n")
    page = shown(read_run(run.run_dir))

    assert [row[:2] for row in rows(page)] == [[name, "· pending"] for name in ("first", "second", "third")]


def test_without_its_run_directory_a_result_shows_the_table(run: RunResult) -> None:
    for name in ("plan.json", "flow.sh"):
        (run.run_dir / name).unlink()
    page = shown(run)

    assert len(rows(page)) == 3
    assert drawn(page) == {}


def test_a_plan_that_is_damaged_is_as_none(run: RunResult) -> None:
    (run.run_dir / "plan.json").write_text('{"tasks": [')

    assert drawn(shown(run)) == {}


def test_a_run_of_the_bash_script_is_shown_as_well(space: Space, run: RunResult) -> None:
    assert space.miniflow("run", "demo", "--dry-run").returncode == 0
    space.bash(space.output_dir / "demo.sh")

    page = shown(read_run(space.latest("demo")))
    assert not (space.latest("demo") / "plan.json").exists()
    assert list(drawn(page).values()) == ["task succeeded", "task failed", "task skipped"]


def test_text_of_tasks_and_flows_stays_text(tmp_path: Path) -> None:
    task = TaskResult("x", "failed", 127, "spawn", signal=HOSTILE, error=HOSTILE)
    result = RunResult(HOSTILE, HOSTILE, tmp_path / "<b>", "failed", 1, 1.5, {"x": task}, HOSTILE, HOSTILE)
    flow = Flow(HOSTILE, [Task(HOSTILE, "x.py", description=HOSTILE)], description=HOSTILE, version=HOSTILE)

    for value in (result, flow):
        page = shown(value)
        assert not {"script", "b"} & {element.tag.removeprefix(SVG) for element in page.iter()}
        assert not any(name.startswith("on") for element in page.iter() for name in element.attrib)
        assert "<script>alert('\"')</script>&amp;\\x1b]0;x\\x07\\x00\\u202e" in "".join(page.itertext())


def test_a_flow_shows_its_graph() -> None:
    page = shown(Flow("demo", [Task("a", "x.py", description="the first"), Task("b", "x.py", depends_on="a")]))

    assert drawn(page) == {"a\nthe first": "task", "b": "task"}


@pytest.mark.parametrize(
    "tasks",
    [
        [Task("a", "x.py", depends_on=["b"])],
        [Task("a", "x.py", depends_on=["a"])],
        [Task("a", "x.py"), Task("a", "x.py")],
    ],
)
def test_a_flow_that_is_wrong_is_shown_as_any_value(tasks: list[Task]) -> None:
    assert Flow("demo", tasks)._repr_html_() is None


def test_of_many_tasks_the_failed_ones_are_shown_first_and_none_are_drawn(tmp_path: Path) -> None:
    ends = {f"t{n}": TaskResult(f"t{n}", "failed" if n == 4000 else "succeeded", 0) for n in range(5000)}
    result = RunResult("demo", "x", tmp_path, "failed", 1, 1.0, ends)

    found = rows(shown(result))
    assert found[0][:2] == ["t4000", "✗ failed"]
    assert found[-1] == [f"and {5000 - MOST_ROWS} more"]
    assert len(found) == MOST_ROWS + 1
    assert drawn(shown(Flow("demo", [Task(f"t{n}", "x.py") for n in range(MOST_DRAWN + 1)]))) == {}


def test_nothing_of_it_is_loaded_before_it_is_shown() -> None:
    code = (
        "import sys; from miniflow import Flow, RunResult;"
        " assert not {name for name in sys.modules if 'notebook' in name or 'drawing' in name}"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
