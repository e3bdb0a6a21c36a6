"""What a terminal shows of a run that goes on: lines that scroll by, and below them what runs and how far the run is."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miniflow.events import RunStarted, TaskFinished, TaskRetrying, TaskStarted
from miniflow.progress import Progress, estimate
from miniflow.region import RegionDrawer
from tests.conftest import Space, events, only
from tests.terminals import COMMANDS, Terminal

AT: Any = (0, "f", "r")
BAR = re.compile(r"^ [━╍─]+  \d+/\d+  ", re.MULTILINE)

# Says that it is there, waits for a line in a FIFO, and prints it; "fail" makes it fail.
WAITS = """
import os, sys
print("here is", os.environ["MINIFLOW_TASK_ID"])
with open(os.environ["RECORDS"] + "/" + os.environ["MINIFLOW_TASK_ID"]) as fifo:
    told = fifo.readline().strip()
print("told", told, file=sys.stderr)
sys.exit(told == "fail")
"""


class Waiting(Space):
    """A flow of tasks that go on when they are told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.script("waits.py", WAITS)

    def tasks(self, *ids: str, **more: Any) -> None:
        """Make a flow `f` of such tasks, and another that depends on the first of them."""
        tasks = [{"id": task_id, "script": "waits.py", **more} for task_id in ids]
        self.script("quick.py", "print('quick')")
        self.flow({"name": "f", "tasks": [*tasks, {"id": "after", "script": "quick.py", "depends_on": ids[0]}]})
        for task_id in ids:
            os.mkfifo(self.records_dir / task_id)

    def tell(self, task_id: str, what: str = "go") -> None:
        """Have a task go on: once it runs."""
        (self.records_dir / task_id).write_text(f"{what}\n")


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return Waiting(tmp_path)


def bars(text: str) -> int:
    return len(BAR.findall(text))


def test_what_runs_stands_below_what_tasks_print(waiting: Waiting) -> None:
    waiting.tasks("fetch", "convert")
    terminal = Terminal(waiting, "run", "f", "--parallel", "2")

    text = terminal.until(lambda text: "2 running" in text and text.count("here is") == 2)
    lines = text.split("\n")
    assert re.fullmatch(r" ● fetch +[\d.]+s", lines[-3])
    assert re.fullmatch(r" ● convert +[\d.]+s", lines[-2])
    assert re.fullmatch(r" [━╍─]+  0/3  [\d.]+s  0 done · 0 failed · 2 running · 1 waiting", lines[-1])
    assert lines[-4] == ""
    assert {"fetch   │ here is fetch", "convert │ here is convert"} <= set(lines[:-4])

    waiting.tell("convert")
    text = terminal.until(lambda text: "1/3" in text)
    assert "● convert" not in text
    assert "convert ┃ told go" in text
    assert bars(text) == 1

    waiting.tell("fetch")
    assert terminal.end() == 0


def test_at_the_end_only_lines_are_left_and_the_cursor_is_seen(waiting: Waiting) -> None:
    waiting.tasks("fetch")
    terminal = Terminal(waiting, "run", "f")
    terminal.until(bars)

    waiting.tell("fetch")

    assert terminal.end() == 0
    assert bars(terminal.scrolled) == 0
    assert "●" not in terminal.scrolled
    assert not terminal.screen.cursor.hidden
    assert terminal.screen.cursor.x == 0
    lines = [re.sub(r"\d+\.\d+ ?s|\S*-[0-9a-f]{6}", "*", line) for line in terminal.scrolled.split("\n")]
    assert lines == [
        "run * of f started",
        "fetch │ here is fetch",
        "fetch ┃ told go",
        "fetch ✓ succeeded in *",
        "after │ quick",
        "after ✓ succeeded in *",
        "",
        "TASK     STATE      EXIT  ATTEMPTS  DURATION  SLACK",
        "fetch  ✓ succeeded     0         1      *   *",
        "after  ✓ succeeded     0         1      *   *",
        "",
        "recorded in *",
        "run * of f succeeded in *: 2 succeeded",
    ]


def test_a_run_that_is_over_at_once_draws_nothing(waiting: Waiting) -> None:
    waiting.script("quick.py", "print('quick')")
    waiting.flow({"name": "f", "tasks": [{"id": "t", "script": "quick.py"}]})

    terminal = Terminal(waiting, "run", "f")

    assert terminal.end() == 0
    assert b"\x1b[J" not in terminal.shown or bars(terminal.scrolled) == 0
    assert "t │ quick" in terminal.scrolled


@pytest.mark.parametrize("columns", [60, 140])
def test_a_resize_leaves_nothing_behind(waiting: Waiting, columns: int) -> None:
    waiting.tasks("fetch", "convert")
    terminal = Terminal(waiting, "run", "f", "--parallel", "2")
    terminal.until(lambda text: "2 running" in text and text.count("here is") == 2)

    terminal.resize(columns, 30)
    drawn = len(terminal.shown)
    text = terminal.until(lambda text: terminal.shown.count(b"\x1b[J", drawn) > 3 and bars(text))

    assert bars(text) == 1
    assert text.count("● fetch") == 1
    for task_id in ("fetch", "convert"):
        waiting.tell(task_id)
    assert terminal.end() == 0
    assert bars(terminal.scrolled) == 0


def test_forty_columns_are_enough(waiting: Waiting) -> None:
    waiting.tasks("a_task_with_a_name_of_forty_characters__", "short")
    terminal = Terminal(waiting, "run", "f", "--parallel", "2", columns=40, rows=12)

    text = terminal.until(lambda text: "● short" in text and "◌" in text)

    below = text[text.index(" ●") :].split("\n")
    assert re.fullmatch(r" ● a_task_with_a_name_of_fort…    ?[\d.]+s", below[0])
    assert re.fullmatch(r" ● short {23} +[\d.]+s", below[1])
    assert re.fullmatch(r" [━╍─]+  0/3  [\d.]+s", below[2])
    assert below[3] == " 0 ✓  0 ✗  2 ●  1 ◌"
    for task_id in ("a_task_with_a_name_of_forty_characters__", "short"):
        waiting.tell(task_id)
    assert terminal.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_only_lines_and_the_cursor(waiting: Waiting, number: signal.Signals) -> None:
    waiting.tasks("fetch")
    terminal = Terminal(waiting, "run", "f")
    terminal.until(lambda text: "● fetch" in text and bars(text))

    terminal.process.send_signal(number)

    assert terminal.end() == -number
    assert bars(terminal.scrolled) == 0
    assert not terminal.screen.cursor.hidden
    assert "fetch – was stopped" in terminal.scrolled


def test_a_second_signal_does_so_too(waiting: Waiting) -> None:
    waiting.script("waits.py", "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('deaf'))\n" + WAITS)
    waiting.tasks("fetch")
    terminal = Terminal(waiting, "run", "f", "--grace", "10m")
    terminal.until(lambda text: bars(text) and "here is fetch" in text)

    terminal.process.send_signal(signal.SIGINT)
    terminal.until(lambda text: "deaf" in text)
    terminal.process.send_signal(signal.SIGINT)

    assert terminal.end() == -signal.SIGINT
    assert bars(terminal.scrolled) == 0
    assert not terminal.screen.cursor.hidden


def test_a_terminal_that_is_closed_does_not_end_the_run(waiting: Waiting) -> None:
    waiting.tasks("fetch")
    terminal = Terminal(waiting, "run", "f")
    terminal.until(bars)

    terminal.close()
    waiting.tell("fetch")

    assert terminal.process.wait() == 0
    assert only(events(waiting.latest("f")), "run.finished")[0]["state"] == "succeeded"


def test_a_terminal_that_stands_still_keeps_nobody_from_stopping_the_run(waiting: Waiting) -> None:
    waiting.script("waits.py", "print('x' * 1000 + '\\n' * 1000)\n" + WAITS)
    waiting.tasks("fetch", "second")
    terminal = Terminal(waiting, "run", "f", "--parallel", "2", "--grace", "100ms")
    terminal.until(bars)  # and from now on nobody reads

    waiting.tell("fetch")
    terminal.process.send_signal(signal.SIGTERM)

    assert terminal.process.wait() == -signal.SIGTERM
    assert json.loads((waiting.latest("f") / "run.json").read_text())["state"] == "cancelled"
    terminal.close()


@pytest.mark.parametrize("read_bytes", [300, 4096, 1024 * 1024])
def test_every_line_comes_once_and_in_order_however_slowly_the_terminal_reads(waiting: Waiting, read_bytes: int) -> None:
    """Lines come while the run is drawn: large blocks of them, and single ones in between."""
    count = 200_000 if read_bytes > 300 else 20_000
    waiting.script(
        "waits.py",
        f"{WAITS.replace('sys.exit', '')}\n"
        "name = os.environ['MINIFLOW_TASK_ID']\n"
        f"for n in range({count} if name != 'few' else 50):\n"
        "    if n % 20_000 == 0 or name == 'few': sys.stdout.flush()\n"
        "    sys.stdout.write(f'{n} of what a task prints, for a line of some length\\n')\n",
    )
    waiting.tasks("first", "second", "few", env={"PYTHONUNBUFFERED": ""})
    terminal = Terminal(waiting, "run", "f", "--parallel", "3")
    terminal.until(bars)
    for task_id in ("first", "second", "few"):
        waiting.tell(task_id)

    terminal.read_all(read_bytes)

    assert terminal.process.wait() == 0
    written = COMMANDS.sub("", terminal.shown.decode().replace("\x1b[J", "\n"))  # what stood there is gone
    printed = re.findall(r"^(\w+) +│ (\d+) of what a task prints, for a line of some length$", written, re.MULTILINE)
    for task_id, lines in (("first", count), ("second", count), ("few", 50)):
        assert [int(number) for name, number in printed if name == task_id] == list(range(lines))


def test_lines_that_come_while_a_slow_terminal_takes_others_wait_for_these(waiting: Waiting) -> None:
    """A block is made of what came in several refreshes, and the terminal takes it in many parts."""
    waiting.script(
        "waits.py",
        f"{WAITS.replace('sys.exit', '')}\n"
        "import time\n"
        "for n in range(25):\n"
        "    numbers = range(300 * n, 300 * n + 300)\n"
        "    os.write(1, b''.join(b'%d of what a task prints, for a line of some length\\n' % k for k in numbers))\n"
        "    time.sleep(0.04)\n",
    )
    waiting.tasks("first")
    terminal = Terminal(waiting, "run", "f")
    terminal.until(bars)
    waiting.tell("first")

    terminal.read_all(1024, pause_s=0.01)

    assert terminal.process.wait() == 0
    written = COMMANDS.sub("", terminal.shown.decode().replace("\x1b[J", "\n"))
    lines = [line for line in written.split("\n") if "of what" in line]
    assert lines == [f"first │ {n} of what a task prints, for a line of some length" for n in range(7500)]


def test_without_colors_there_is_no_color_and_all_the_rest(waiting: Waiting) -> None:
    waiting.tasks("fetch")
    terminal = Terminal(waiting, "run", "f", env={"NO_COLOR": "1"})
    terminal.until(lambda text: "● fetch" in text and bars(text))
    waiting.tell("fetch", "fail")

    assert terminal.end() == 1
    assert not re.search(rb"\x1b\[[0-9;]*m", terminal.shown)
    assert "fetch ┃ told fail" in terminal.scrolled
    assert "fetch ✗ failed" in terminal.scrolled


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor_shows_plain_lines(waiting: Waiting, term: str) -> None:
    waiting.script("quick.py", "print('quick')")
    waiting.flow({"name": "f", "tasks": [{"id": "t", "script": "quick.py"}]})

    terminal = Terminal(waiting, "run", "f", env={"TERM": term})

    assert terminal.end() == 0
    assert b"\x1b" not in terminal.shown
    assert "t │ quick" in terminal.scrolled
    assert "t started" in terminal.scrolled


def test_json_is_json_on_a_terminal_too(waiting: Waiting) -> None:
    waiting.script("quick.py", "print('quick')")
    waiting.flow({"name": "f", "tasks": [{"id": "t", "script": "quick.py"}]})

    terminal = Terminal(waiting, "run", "f", "--log-format", "json")

    assert terminal.end() == 0
    assert [json.loads(line)["event"] for line in terminal.written.splitlines()][-1] == "run.finished"


def test_below_a_level_lines_are_left_out_and_what_runs_is_shown(waiting: Waiting) -> None:
    waiting.tasks("fetch")
    terminal = Terminal(waiting, "-l", "ERROR", "run", "f")
    text = terminal.until(lambda text: "● fetch" in text and bars(text))
    assert "here is" not in text

    waiting.tell("fetch", "fail")

    assert terminal.end() == 1
    lines = terminal.scrolled.split("\n")
    assert lines[0] == "fetch ✗ failed with exit status 1"
    assert "TASK" not in terminal.scrolled
    assert lines[-1].startswith("error: run ")


# --- the region alone


@pytest.fixture(params=[True, False], ids=["colors", "plain"])
def drawer(request: pytest.FixtureRequest) -> RegionDrawer:
    return RegionDrawer(has_colors=request.param)


def visible(lines: list[str]) -> list[str]:
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]


def progress_of(total: int, running: int, known_s: float | None = None) -> Progress:
    ids = [f"task_{n}" for n in range(total)]
    progress = Progress(ids)
    progress.apply(RunStarted(*AT, total, running, keep_going=False, params=()), 0)
    progress.expect(estimate(ids, [[]] * total, dict.fromkeys(ids, known_s) if known_s else {}))
    for n in range(running):
        progress.apply(TaskStarted(*AT, f"task_{n}", 1, 1, ()), n / 100)
    return progress


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("rows", [3, 10, 24, 60])
def test_five_hundred_running_tasks_take_half_of_the_terminal(drawer: RegionDrawer, columns: int, rows: int) -> None:
    lines = visible(drawer.draw(progress_of(20_000, 500, 10.0), 62, columns, rows))

    assert len(lines) <= max(rows // 2, 2)
    assert all(len(line) < columns for line in lines)
    tasks = [line for line in lines if line.startswith(" ● task_")]
    hidden = [int(found[1]) for line in lines if (found := re.search(r"(\d+) (?:more )?running$", line))]
    if columns >= 40 and rows >= 10:
        assert len(tasks) + hidden[0] == 500
        assert tasks[0].split() == ["●", "task_0", "1m02s"]


def test_what_is_known_of_the_tasks_is_told_as_an_estimate(drawer: RegionDrawer) -> None:
    progress = progress_of(40, 2, 10.0)
    for n in range(2):
        progress.apply(TaskFinished(*AT, f"task_{n}", 1, "succeeded", 0, "exit", None, None, 10.0, 1), 10)
    progress.apply(TaskStarted(*AT, "task_2", 1, 1, ()), 10)

    (_, below) = visible(drawer.draw(progress, 10, 120, 40))

    assert below.endswith("  2/40  10s  ~3m10s left  2 done · 0 failed · 1 running · 37 waiting")


def test_a_run_that_takes_longer_than_expected_is_not_told_to_be_over() -> None:
    drawer = RegionDrawer(has_colors=False)
    progress = progress_of(1, 1, 10.0)

    assert "~0.1s left" in drawer.draw(progress, 9.9, 120, 40)[-1]
    assert "left" not in drawer.draw(progress, 11, 120, 40)[-1]


def test_attempts_are_told_and_what_waits_for_one(drawer: RegionDrawer) -> None:
    progress = progress_of(2, 2)
    progress.apply(TaskRetrying(*AT, "task_0", 1, 30, 1, "exit"), 6)
    progress.apply(TaskStarted(*AT, "task_1", 3, 1, ()), 6)

    lines = visible(drawer.draw(progress, 8, 80, 24))

    assert [" ".join(line.split()) for line in lines[:2]] == [
        "◌ task_0 8.0s waits for attempt 2",
        "● task_1 8.0s attempt 3",
    ]


def kinds(width: int) -> Iterator[tuple[int, int]]:
    yield from ((ended, running) for ended in range(0, width + 1, 7) for running in range(0, width - ended + 1, 5))


def test_a_bar_is_as_long_as_it_has_to_be_whatever_it_shows() -> None:
    drawer = RegionDrawer(has_colors=False)
    for ended, running in kinds(60):
        progress = progress_of(60, ended + running)
        for n in range(ended):
            state: Any = ("succeeded", "failed", "cancelled")[n % 3]
            progress.apply(TaskFinished(*AT, f"task_{n}", 1, state, 0, "exit", None, None, 1.0, 1), 1)

        *_, bar = drawer.draw(progress, 5, 150, 200)

        shown = bar.split("  ")[0]
        assert len(shown) == 41
        assert ("╍" in shown) == (running > 0 and shown.count("━") < 40)
        assert ("─" in shown) == (ended + running < 60)
