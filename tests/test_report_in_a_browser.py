"""The report as a browser shows it: to the keyboard, on a telephone, in the dark, on paper, and whatever tasks have printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from miniflow.report.contents import Contents
from miniflow.report.page import page
from miniflow.report.words import shown_duration
from miniflow.rundir import RunDir
from miniflow.timeline import Timeline, read_timeline
from tests.browser import CHROMIUM, Browser, Tab, browser
from tests.conftest import Space
from tests.test_report import task, timeline

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"), pytest.mark.long]

HOSTILE = """
</script></pre></table><script>document.title = "owned"; fetch("https://example.org/")</script>
<img src="https://example.org/x.png" onerror="document.title='owned'"><style>body{display:none}</style>
<svg onload="document.title='owned'"><meta http-equiv="refresh" content="0;url=https://example.org/"><!--
"""
VISIBLE = """[...document.querySelectorAll('#tasks-table tbody')]
  .filter((task) => task.checkVisibility()).map((task) => task.id.slice(5))"""
CELLS = "[...document.querySelectorAll('#tasks-table tbody')].map((t) => [...t.rows[0].cells].map((c) => c.textContent))"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Space:
    """A run in which tasks succeed, fail, are tried again and are skipped, and print what is meant to be more than text."""
    folder = tmp_path_factory.mktemp("world")
    space = Space(folder)
    space.recorder()
    space.script("hostile.py", f"import sys; print({HOSTILE!r}); print({HOSTILE!r}, file=sys.stderr); sys.exit(3)")
    tasks: list[dict[str, Any]] = [
        {"id": "fetch", "script": "record.py"},
        {"id": "load", "script": "record.py", "depends_on": "fetch", "env": {"BEHAVIOUR": "[1, 0]"}, "retries": 1},
        {"id": "a_task_with_a_name_that_is_as_long_as_names_come_in_the_wild", "script": "record.py", "depends_on": "load"},
        {"id": "hostile", "script": "hostile.py", "args": [HOSTILE]},
        {"id": "after", "script": "record.py", "depends_on": ["hostile", "load"]},
    ]
    space.flow({"name": "f", "description": HOSTILE, "params": {"x": HOSTILE}, "tasks": tasks})
    space.miniflow("run", "f", "--parallel", "2", "--keep-going")
    assert space.miniflow("report").returncode == 0
    return space


@pytest.fixture(scope="module")
def record(world: Space) -> Timeline:
    return read_timeline(RunDir(world.latest("f")))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def tab(chromium: Browser) -> Tab:
    return chromium.tab()


@pytest.fixture
def shown(world: Space, tab: Tab) -> Iterator[Tab]:
    """The report of the run, which at the end has asked for nothing but itself, and has nothing to complain about."""
    path = world.latest("f") / "report.html"
    tab.open(path)
    yield tab
    assert tab.requests() == [path.as_uri()]
    assert tab.complaints() == []
    assert str(tab.run("document.title")).startswith("f: failed (")


def focus(tab: Tab, selector: str) -> None:
    tab.run(f"document.querySelector({json.dumps(selector)}).focus()")


def focused(tab: Tab) -> str:
    return str(tab.run("document.activeElement.id || document.activeElement.textContent || document.activeElement.ariaLabel"))


def test_what_a_task_printed_is_shown_and_does_nothing(shown: Tab) -> None:
    shown.run("document.getElementById('open-logs').click()")
    shown.settle()

    log = shown.run("document.querySelector('#task-hostile pre').innerText")
    assert HOSTILE.strip() in log
    assert shown.run("document.querySelectorAll('script').length") == 1
    assert shown.run("document.querySelectorAll('img, [onload], [onerror]').length") == 0
    assert shown.run("getComputedStyle(document.body).display") == "block"


def test_the_numbers_are_those_of_the_record(shown: Tab, record: Timeline) -> None:
    rows = shown.run(
        "[...document.querySelectorAll('#tasks-table tbody')].map((t) => [...t.rows[0].cells].map((c) => c.textContent))"
    )

    assert [row[0].removesuffix("◆") for row in rows] == [task.id for task in record.tasks]
    assert [row[1] for row in rows] == [task.state for task in record.tasks] == ["succeeded"] * 3 + ["failed", "skipped"]
    assert [row[3] for row in rows] == [str(len(task.attempts) or "–") for task in record.tasks]
    assert [row[5] for row in rows] == [shown_duration(task.duration_s if task.attempts else None) for task in record.tasks]
    assert [row[0].endswith("◆") for row in rows] == [task.is_critical for task in record.tasks]
    assert shown.run(
        "document.querySelector('.counts').innerText.split(/\\s+/).join(' ')"
    ) == "✓ 3 succeeded ↷ 1 skipped ✗ 1 failed".replace("✓ ", "").replace("↷ ", "").replace("✗ ", "")


def test_bars_stand_where_the_record_says(shown: Tab, record: Timeline) -> None:
    places = shown.run(
        """[...document.querySelectorAll('.by-task li')].map((row) => {
          const plot = row.querySelector('svg').getBoundingClientRect();
          const bars = [...row.querySelectorAll('rect:not(.wait, .delay, .critical)')];
          return [row.querySelector('a').textContent, bars.map((bar) => {
            const box = bar.getBBox();
            return [box.x / plot.width, box.width / plot.width];
          })];
        })"""
    )
    assert record.duration_s is not None
    for name, bars in places:
        (found,) = [task for task in record.tasks if task.id == name]
        expected = [
            (attempt.started_s / record.duration_s, ((attempt.ended_s or 0) - attempt.started_s) / record.duration_s)
            for attempt in found.attempts
        ]
        assert bars == [pytest.approx(pair, abs=0.002) for pair in expected]


def test_the_keyboard_filters(shown: Tab) -> None:
    focus(shown, "#filter")
    shown.type("LOAD succ")
    assert shown.run(VISIBLE) == ["load"]
    assert shown.run("document.querySelector('[role=status]').textContent") == "1 of 5 tasks"

    shown.press("Escape")
    assert len(shown.run(VISIBLE)) == 5
    assert shown.run("document.querySelector('[role=status]').textContent") == "5 tasks"

    shown.press("Tab")
    assert focused(shown) == "1 failed"
    shown.press("Enter", "\r")
    assert shown.run(VISIBLE) == ["hostile"]
    assert shown.run("document.activeElement.ariaPressed") == "true"
    shown.press("Tab")
    shown.press(" ", " ")
    assert shown.run(VISIBLE) == ["hostile", "after"]


def test_the_keyboard_sorts(shown: Tab, record: Timeline) -> None:
    took = {task.id: round(task.duration_s or 0.0, 3) for task in record.tasks if task.attempts}  # a page tells milliseconds
    focus(shown, "th:nth-child(6) button")

    shown.press("Enter", "\r")
    assert shown.run(VISIBLE) == [*sorted(took, key=took.__getitem__), "after"]
    shown.press("Enter", "\r")
    assert shown.run(VISIBLE) == [*sorted(took, key=took.__getitem__, reverse=True), "after"]  # last: it took no time

    assert shown.run("[...document.querySelectorAll('thead th')].map((header) => header.ariaSort)") == [
        *["none"] * 5, "descending", "none", "none",
    ]  # fmt: skip
    assert shown.run("document.querySelector('[role=status]').textContent") == "5 tasks, sorted by duration, descending"


def test_tasks_that_took_equally_long_stay_in_the_order_of_the_file(tab: Tab, tmp_path: Path) -> None:
    took = {"b": 0.035, "c": 0.02, "a": 0.035, "d": 0.0351}  # a page tells milliseconds
    path = tmp_path / "report.html"
    found = timeline(*(task(name, "succeeded", (0.0, seconds)) for name, seconds in took.items()), duration_s=1.0, parallel=4)
    path.write_bytes(page(Contents(found, {}, {}, "2026-11-23T10:00:00.000000Z", "1")))

    tab.open(path)
    tab.run("document.querySelector('th:nth-child(6) button').click()")
    assert tab.run(VISIBLE) == ["c", "b", "a", "d"]
    tab.run("document.querySelector('th:nth-child(6) button').click()")
    assert tab.run(VISIBLE) == ["b", "a", "d", "c"]
    assert tab.complaints() == []


def test_a_task_of_the_graph_leads_to_its_row_though_that_was_filtered_away(shown: Tab) -> None:
    focus(shown, "#filter")
    shown.type("nothing is called this")
    assert shown.run(VISIBLE) == []
    focus(shown, ".miniflow-graph a[href='#task-hostile']")

    shown.press("Enter", "\r")

    assert len(shown.run(VISIBLE)) == 5
    assert shown.run("document.querySelector('#task-hostile details').open")
    assert focused(shown) == "About hostile"
    place = shown.run("document.querySelector('#task-hostile').getBoundingClientRect().top")
    assert 0 <= place < 900


def test_the_timeline_has_two_views(shown: Tab) -> None:
    seen = "[...document.querySelectorAll('.rows')].filter((rows) => rows.checkVisibility()).map((rows) => rows.ariaLabel)"
    assert shown.run(seen) == ["Timeline, one row a task"]

    shown.run("document.getElementById('by-slot').click()")

    assert shown.run(seen) == ["Timeline, one row a slot"]
    assert shown.run("[...document.querySelectorAll('.by-slot li b')].map((slot) => slot.textContent)") == ["slot 1", "slot 2"]


@pytest.mark.parametrize("width", [320, 390, 768])
def test_no_page_scrolls_sideways(world: Space, tab: Tab, width: int) -> None:
    tab.open(world.latest("f") / "report.html", width=width, height=844)
    tab.run("document.getElementById('open-logs').click()")
    tab.settle()

    assert tab.run("document.documentElement.scrollWidth") == tab.run("innerWidth") == width
    assert tab.complaints() == []


@pytest.mark.parametrize("end_s", [0.9, 1.57, 8.1, 100.0, 7000.0, 90000.0])
@pytest.mark.parametrize("width", [320, 390, 768])
def test_the_marks_of_the_axis_stand_apart(tab: Tab, tmp_path: Path, width: int, end_s: float) -> None:
    path = tmp_path / "report.html"
    found = timeline(task("t", "succeeded", (0.0, end_s)), duration_s=end_s)
    path.write_bytes(page(Contents(found, {}, {}, "2026-11-23T10:00:00.000000Z", "1")))

    tab.open(path, width=width)

    marks = tab.run(
        """[...document.querySelectorAll('.by-task .axis text')].filter((mark) => mark.checkVisibility()).map((mark) => {
          const box = mark.getBoundingClientRect();
          return [box.left, box.right];
        })"""
    )
    assert len(marks) >= 2
    assert all(left - right >= 4 for (_, right), (left, _) in pairwise(marks)), marks


def test_the_dark_is_dark(world: Space, tab: Tab) -> None:
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    ink = "getComputedStyle(document.querySelector('h2')).color.match(/\\d+/g).map(Number)"
    drawn = "getComputedStyle(document.querySelector('.miniflow-graph text')).fill.match(/\\d+/g).map(Number)"

    tab.open(world.latest("f") / "report.html", dark=True)
    assert max(tab.run(ground)) < 40
    assert min(*tab.run(ink), *tab.run(drawn)) > 200

    tab.open(world.latest("f") / "report.html")
    assert min(tab.run(ground)) > 240
    assert max(*tab.run(ink), *tab.run(drawn)) < 60


def test_on_paper_nothing_is_cut_off_and_nothing_waits_to_be_pressed(world: Space, tab: Tab) -> None:
    tab.open(world.latest("f") / "report.html", media="print")

    boxes = "[...document.querySelectorAll('.rows, .scroll, .drawing')]"
    assert tab.run(f"{boxes}.every((box) => getComputedStyle(box).overflowY === 'visible')")
    controls = "[...document.querySelectorAll('button, input, nav')].filter((e) => !e.closest('thead'))"
    assert tab.run(f"{controls}.filter((e) => e.checkVisibility()).map((e) => e.outerHTML)") == []
    assert len(tab.run(VISIBLE)) == 5


@pytest.mark.parametrize("width", [960, 1280])
def test_the_headings_of_a_long_table_stay_in_sight(tab: Tab, tmp_path: Path, width: int) -> None:
    tasks = [task(f"task_{number}", "succeeded", (0.0, 1.0)) for number in range(90)]
    path = tmp_path / "report.html"
    path.write_bytes(page(Contents(timeline(*tasks, duration_s=1.0, parallel=90), {}, {}, "2026-11-23T10:00:00.000000Z", "1")))
    tab.open(path, width=width)

    tab.run("document.getElementById('task-task_60').scrollIntoView({ block: 'start' })")
    tab.settle()

    seen = """['th:nth-child(6) button', '#task-task_60 th'].map((selector) => {
      const box = document.querySelector(selector).getBoundingClientRect();
      return document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2)?.textContent;
    })"""
    assert tab.run(seen) == ["Duration", "task_60"]  # neither is out of sight, nor behind the other
    assert tab.run("document.documentElement.scrollWidth") == width


PAPER = 718
"""How wide the text on A4 is, in pixels of a page."""


def test_on_paper_names_are_in_one_piece_and_headings_apart(world: Space, tab: Tab) -> None:
    tab.open(world.latest("f") / "report.html", media="print", width=PAPER)

    heights = tab.run("[...document.querySelectorAll('tbody th')].map((name) => name.getBoundingClientRect().height)")
    assert [height > 40 for height in heights] == [False, False, True, False, False]  # the third is the long one
    assert max(heights) < 60
    ends = tab.run(
        """[...document.querySelectorAll('thead th')].map((heading) => {
          const text = document.createRange();
          text.selectNodeContents(heading);
          const box = text.getBoundingClientRect();
          return [box.left, box.right];
        })"""
    )
    assert all(right < left for (_, right), (left, _) in pairwise(ends)), ends


def test_paper_is_white_whatever_the_screen_is(world: Space, tab: Tab) -> None:
    tab.open(world.latest("f") / "report.html", media="print", width=PAPER, dark=True)

    def colour(selector: str, of: str) -> list[int]:
        found = tab.run(f"getComputedStyle(document.querySelector('{selector}')).{of}")
        return [int(part) for part in re.findall(r"\d+", found)]

    for selector, of in (("h1", "color"), ("tbody th", "color"), (".miniflow-graph text", "fill"), (".command", "color")):
        assert max(colour(selector, of)) < 60, selector
    assert min(colour(".command", "backgroundColor")) > 200


def test_a_drawing_that_is_wider_than_paper_is_made_smaller(tab: Tab, tmp_path: Path) -> None:
    tasks = [task("first", "succeeded", (0.0, 1.0))]
    for number in range(8):
        name = f"a_name_that_takes_some_room_{number}"
        tasks.append(task(name, "succeeded", (1.0, 2.0), depends_on=(tasks[-1].id, tasks[0].id)))
    tasks += [task(f"beside_it_another_one_{number}", "succeeded", (0.0, 1.0)) for number in range(7)]
    path = tmp_path / "report.html"
    path.write_bytes(page(Contents(timeline(*tasks, duration_s=2.0, parallel=9), {}, {}, "2026-11-23T10:00:00.000000Z", "1")))
    widths = "['.miniflow-graph', '.drawing'].map((part) => document.querySelector(part).getBoundingClientRect().width)"

    tab.open(path, width=PAPER)
    assert tab.run(widths)[0] > PAPER
    tab.open(path, media="print", width=PAPER)
    drawn, room = tab.run(widths)
    assert drawn <= room <= PAPER


def test_a_screen_reader_finds_its_way(shown: Tab) -> None:
    nodes = [node for node in shown.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
    roles = {role for role, _ in found}

    assert {"banner", "navigation", "main", "contentinfo", "search", "table", "columnheader", "rowheader", "status"} <= roles
    for role in ("button", "link", "radio", "searchbox", "region", "DisclosureTriangle", "table"):
        assert [name for kind, name in found if kind == role and not name] == [], role
    levels = shown.run("[...document.querySelectorAll('h1, h2, h3')].map((heading) => Number(heading.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    shown.press("Tab")
    assert focused(shown) == "Skip to the content"


def test_it_can_be_read_without_a_script(world: Space, tab: Tab) -> None:
    tab.open(world.latest("f") / "report.html", scripts=False)

    assert len(tab.run(VISIBLE)) == 5
    assert not tab.run("document.getElementById('filter').checkVisibility()")


def test_thousands_of_tasks_can_be_looked_through(tab: Tab, tmp_path: Path) -> None:
    count = 5000
    tasks = [task(f"task_{n:04d}", "succeeded", (n / 100, n / 100 + 1 + (n * 7919 % 1000) / 1000)) for n in range(count)]
    path = tmp_path / "report.html"
    found = timeline(*tasks, duration_s=count / 100 + 2, parallel=200)
    path.write_bytes(page(Contents(found, {}, {}, "2026-11-23T10:00:00.000000Z", "1")))

    tab.open(path)
    focus(tab, "#filter")
    tab.type("task_49")
    assert tab.run("document.querySelector('[role=status]').textContent") == "100 of 5,000 tasks"
    tab.run("document.querySelector('th:nth-child(6) button').click()")
    longest = sorted(range(4900, 5000), key=lambda n: n * 7919 % 1000)
    assert tab.run(VISIBLE) == [f"task_{n:04d}" for n in longest]
    assert tab.complaints() == []
