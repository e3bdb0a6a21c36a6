"""`miniflow report`: one file that says what the record says, whatever tasks have printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from miniflow.durations import format_duration
from miniflow.report.collect import MOST_BYTES, collect
from miniflow.report.contents import Contents
from miniflow.report.gantt import slots, ticks
from miniflow.report.markup import element, text
from miniflow.report.page import page
from miniflow.report.words import shown_duration
from miniflow.rundir import RunDir
from miniflow.timeline import AttemptTimeline, TaskTimeline, Timeline, read_timeline
from tests.conftest import Space

HOSTILE = "</script></pre><script>document.title='owned'</script><img src=x onerror=alert(1)><!-- \x1b]0;x\x07 &amp; \ud800"


class Page(HTMLParser):
    """What a browser makes of a page, as far as these tests ask: elements with their attributes and text, links, and rows."""

    def __init__(self, html: bytes | str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: dict[str, list[str]] = {}
        self._row: list[str] | None = None
        self.feed(html.decode() if isinstance(html, bytes) else html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag == "tbody":
            self._row = self.rows[str(attributes["id"])] = []
        elif tag == "tr" and attributes.get("class") == "about":
            self._row = None
        elif tag in ("th", "td") and self._row is not None:
            self._row.append("")

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] not in ("style", "script"):
            self.words.append(data)
        if self._row:
            self._row[-1] += data.strip()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def task(name: str, state: str = "succeeded", *attempts: tuple[float, float | None], **more: Any) -> TaskTimeline:
    ended = attempts[-1][1] if attempts else None
    known: dict[str, Any] = {
        "id": name,
        "script": "t.py",
        "depends_on": (),
        "trigger_rule": "all_success",
        "state": state,
        "reason": "exit" if attempts else None,
        "exit_status": {"succeeded": 0, "failed": 1}.get(state) if attempts else None,
        "signal": None,
        "error": None,
        "attempts": tuple(
            AttemptTimeline(number, start, end, 7, ("python", "t.py"), None if end is None else 0, "exit", None)
            for number, (start, end) in enumerate(attempts, 1)
        ),
        "ready_s": 0.0,
        "started_s": attempts[0][0] if attempts else None,
        "ended_s": ended,
        "duration_s": ended - attempts[0][0] if ended is not None else None,
        "waited_s": attempts[0][0] if attempts else None,
        "slack_s": None,
        "is_critical": False,
        "reused_from": None,
        "started_because": None,
    }
    return TaskTimeline(**{**known, **more})


def timeline(*tasks: TaskTimeline, **more: Any) -> Timeline:
    known: dict[str, Any] = {
        "flow": "f",
        "run_id": "20261123T093612.041Z-3f9a1c",
        "path": Path("/runs/f/20261123T093612.041Z-3f9a1c"),
        "state": "succeeded",
        "exit_status": 0,
        "started_at": "2026-11-23T09:36:12.041000Z",
        "finished_at": "2026-11-23T09:36:22.041000Z",
        "duration_s": 10.0,
        "parallel": 2,
        "keep_going": False,
        "params": {},
        "resumed_from": None,
        "error": None,
        "counts": {},
        "tasks": tasks,
        "critical_path": (),
    }
    return Timeline(**{**known, **more})


def page_of(found: Timeline, **again: str) -> Page:
    return Page(page(Contents(found, {}, again, "2026-11-23T10:00:00.000000Z", "1.2.3")))


def report(space: Space, *args: str) -> Page:
    result = space.miniflow("report", *args)
    assert (result.returncode, result.stderr) == (0, "")
    return Page(Path(space.path, result.stdout.removesuffix("\n")).read_bytes())


# The command


def test_the_report_lies_in_the_run_directory_and_its_path_is_printed(space: Space) -> None:
    space.script("t.py", "print('hello')")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "t.py"}]})
    space.miniflow("run", "f")

    result = space.miniflow("report")

    run_id = space.latest("f").name
    assert result.stdout == f"out/f/{run_id}/report.html\n"
    assert result.stderr == ""
    assert sorted(path.name for path in space.latest("f").iterdir() if path.name.startswith((".", "report"))) == ["report.html"]
    assert space.miniflow("report", run_id[:12]).stdout == result.stdout


def test_it_can_be_written_elsewhere_and_leads_to_the_logs_from_there(space: Space) -> None:
    space.script("t.py", "print('hello')")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "t.py"}]})
    space.miniflow("run", "f")
    (space.path / "a dir").mkdir()

    assert space.miniflow("report", "f", "-o", "a dir/x.html").stdout == "a dir/x.html\n"
    to_stdout = space.miniflow("report", "f", "-o", "-").stdout

    for html, base in (((space.path / "a dir/x.html").read_text(), space.path / "a dir"), (to_stdout, space.path)):
        (href,) = [str(link["href"]) for link in Page(html).all("a") if not str(link["href"]).startswith("#")]
        assert (base / href).resolve() == space.latest("f") / "logs/t.jsonl"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nothing"], "nothing"),
        (["-o", ""], "--output is empty"),
        (["-o", "-", "--open"], "--open needs a file"),
        (["-o", "missing/x.html"], "cannot write missing/x.html: No such file or directory"),
        (["-o", "flows"], "--output: flows is no file"),
        (["-o", "tasks/pipe"], "--output: tasks/pipe is no file"),
    ],
)
def test_mistakes_are_one_message(space: Space, args: list[str], message: str) -> None:
    space.script("t.py")
    os.mkfifo(space.tasks_dir / "pipe")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "t.py"}]})
    space.miniflow("run", "f")

    result = space.miniflow("report", *args)

    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert sorted(path.name for path in space.path.iterdir()) == ["flows", "out", "records", "tasks"]


@pytest.mark.parametrize(("browser", "status"), [("#!/bin/sh\nprintf '%s' \"$1\" > shown\n", 0), (None, 2)])
def test_a_browser_is_shown_it(space: Space, browser: str | None, status: int) -> None:
    space.script("t.py")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "t.py"}]})
    space.miniflow("run", "f")
    name = "/nowhere/at-all"
    if browser:
        name = str(space.script("browser", browser, 0o755))

    result = space.miniflow(
        "report",
        "--open",
        env={"BROWSER": f"{name} %s", "PATH": "/usr/bin:/bin"} if browser else {"BROWSER": name, "PATH": "/nowhere"},
    )

    assert result.returncode == status, result.stderr
    if browser:
        assert (space.path / "shown").read_text() == (space.latest("f") / "report.html").as_uri()
    else:
        assert "no browser was found" in result.stderr


# What it says


def test_every_task_has_a_row_with_the_numbers_of_the_record(space: Space) -> None:
    space.recorder()
    space.flow(
        {
            "name": "f",
            "params": {"date": "<today>"},
            "tasks": [
                {"id": "good", "script": "record.py"},
                {"id": "again", "script": "record.py", "env": {"BEHAVIOUR": "[3, 0]"}, "retries": 1},
                {
                    "id": "bad",
                    "script": "record.py",
                    "depends_on": "again",
                    "env": {"BEHAVIOUR": '[7, "SIGKILL"]'},
                    "retries": 1,
                },
                {"id": "never", "script": "record.py", "depends_on": ["bad", "good"]},
            ],
        }
    )
    space.miniflow("run", "f")

    found = report(space)
    record = read_timeline(RunDir(space.latest("f")))

    assert list(found.rows) == ["task-good", "task-again", "task-bad", "task-never"]
    shown = {task.id: (shown_duration(task.duration_s), shown_duration(task.waited_s)) for task in record.tasks}
    assert [row[1:4] for row in found.rows.values()] == [
        ["succeeded", "0", "1"],
        ["succeeded", "0", "2"],
        ["failed", "137", "2"],
        ["skipped", "–", "–"],
    ]
    assert [(row[5], row[6]) for row in found.rows.values()][:3] == [shown["good"], shown["again"], shown["bad"]]
    assert "bad was killed by SIGKILL, attempt 2, " in found.text
    assert "a task it depends on failed or was cancelled" in found.text
    assert '"<today>"' in found.text
    assert f"Exit status {record.exit_status}" in found.text
    assert "2 succeeded 1 skipped 1 failed" in found.text
    assert "cd " in found.text
    assert "BEHAVIOUR='[7, \"SIGKILL\"]'" in found.text


def test_what_failed_first_stands_first_with_its_last_lines(space: Space) -> None:
    space.script("t.py", "import sys; print(*range(100), sep='\\n'); print('it broke', file=sys.stderr); sys.exit(1)")
    space.flow({"name": "f", "tasks": [{"id": name, "script": "t.py"} for name in ("one", "two")]})
    space.miniflow("run", "f", "--keep-going")

    found = report(space).text

    assert (
        found.index("What failed first one failed with exit status 1")
        < found.index("it broke")
        < found.index("Then failed two .")
    )
    assert "The last 20 lines of logs/one.jsonl" in found


def test_a_run_of_the_bash_script_is_reported_like_any_other(space: Space) -> None:
    space.script("t.py", "print('hello')")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "t.py"}, {"id": "u", "script": "t.py", "depends_on": "t"}]})
    space.bash(space.miniflow("run", "f", "--dry-run").stdout.strip())

    found = report(space)

    assert [row[:4] for row in found.rows.values()] == [["t◆", "succeeded", "0", "1"], ["u◆", "succeeded", "0", "1"]]
    assert "1 line, all of logs/t.log" in found.text
    assert "hello" in found.text


def test_a_run_that_goes_on_says_as_of_when(space: Space) -> None:
    os.mkfifo(space.path / "go")
    space.script("wait.py", "print('waits'); open('go').read()")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "wait.py"}, {"id": "u", "script": "wait.py", "depends_on": "t"}]})
    command = [sys.executable, "-m", "miniflow", "-f", "flows", "-t", "tasks", "-o", "out", "run", "f"]
    with subprocess.Popen(command, cwd=space.path, env=space.environ(), stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if json.loads(line)["event"] == "task.output":
                break
        try:
            found = report(space)
        finally:
            run.terminate()
            run.stdout.read()
    ended = report(space)

    assert [row[1] for row in found.rows.values()] == ["running", "pending"]
    assert "As of" in found.text
    assert "This run goes on" in found.text
    assert "Duration, as recorded" in found.text
    assert "has not ended" not in found.text
    assert [row[1] for row in ended.rows.values()] == ["cancelled", "cancelled"]
    assert "As of" not in ended.text


def test_a_resumed_run_says_what_it_took_over_and_why_the_rest_ran(space: Space) -> None:
    space.recorder()
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "record.py"}, {"id": "u", "script": "u.sh", "depends_on": "t"}]})
    space.script("u.sh", "exit 1")
    space.miniflow("run", "f")
    before = space.latest("f").name
    space.script("u.sh", "exit 0")
    space.miniflow("run", "f", "--resume")

    found = report(space)

    assert [row[1] for row in found.rows.values()] == ["reused", "succeeded"]
    assert f"Resumes {before}" in found.text
    assert f"not run again: it succeeded in {before}" in found.text
    assert "Ran, as it failed" in found.text


def test_a_run_without_any_event_but_its_first_is_reported(space: Space) -> None:
    run_dir = space.output_dir / "f" / "20261123T093612.041Z-3f9a1c"
    (run_dir / "logs").mkdir(parents=True)
    (run_dir / "events.jsonl").write_text(
        '{"timestamp":"2026-11-23T09:36:12.041000Z","event":"run.started","flow":"f","tasks":0}\n'
    )

    found = report(space).text
    assert "The runner died before it could record an end." in found
    assert "Finished –" in found
    assert "As of" not in found
    assert "interrupted" in found
    assert "--resume" not in found  # it has no plan, as none of the bash script has


def test_a_run_that_was_broken_off_says_how_to_go_on() -> None:
    assert "With --resume a new run goes on from here." in page_of(timeline(state="interrupted")).text


# What nothing in it can do


def test_what_a_task_prints_is_text(space: Space) -> None:
    space.script("t.py", f"import sys; sys.stdout.buffer.write({HOSTILE.encode(errors='surrogatepass')!r}); sys.exit(1)")
    space.flow({"name": "f", "params": {"x": HOSTILE[:-1]}, "tasks": [{"id": "t", "script": "t.py"}]})
    space.miniflow("run", "f")

    found = report(space)

    assert (
        "</script></pre><script>document.title='owned'</script><img src=x onerror=alert(1)><!-- \\x1b]0;x\\x07 &amp;"
        in found.text
    )
    assert [tag for tag, _ in found.elements if tag in ("script", "img", "style")] == ["style", "style", "script"]


def test_hostile_names_in_a_record_of_somebody_else_are_text() -> None:
    name = f'"><script>x</script>{HOSTILE}'
    hostile = task(
        name, "failed", (1, 2), error=HOSTILE, depends_on=(name,), signal=HOSTILE, reused_from=HOSTILE, is_critical=True
    )
    also = task("javascript:alert(1)", HOSTILE)

    found = page_of(
        timeline(hostile, also, flow=HOSTILE, state=HOSTILE, error=HOSTILE, params={HOSTILE: HOSTILE}, critical_path=(name,)),
        **{name: HOSTILE},
    )

    assert [tag for tag, _ in found.elements if tag in ("script", "img", "style")] == ["style", "style", "script"]
    for _, attributes in found.elements:
        assert not {key for key in attributes if key.startswith("on") or key in ("style", "src")}
        assert str(attributes.get("href", "#")).startswith("#")


def test_the_policy_allows_nothing_but_what_is_in_the_page(space: Space) -> None:
    (policy,) = [meta["content"] for meta in page_of(timeline(task("t"))).all("meta") if meta.get("http-equiv")]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy
    hashes = [text for name in ("style-src", "script-src") for text in rules[name].split(" ")]
    assert all(re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", text) for text in hashes)


def test_a_page_names_no_address() -> None:
    assert not re.search(
        rb"https?://(?!www\.w3\.org/2000/svg)|url\(|@import",
        page(Contents(timeline(task("t")), {}, {}, "2026-11-23T10:00:00.000000Z", "1")),
    )


# How it is drawn


@pytest.mark.parametrize("end_s", [0.0004, 0.003, 0.9, 1.0, 7, 59, 60, 61, 100, 3599, 3600, 5000, 86_400, 1e6, 3e7])
def test_an_axis_has_a_few_marks_at_round_numbers(end_s: float) -> None:
    found = ticks(end_s)

    assert found[0] == 0
    assert 1 <= len(found) <= 9
    assert end_s < 0.001 or len(found) > 2
    assert found[-1] <= end_s
    assert len({format_duration(seconds) for seconds in found}) == len(found)


def test_attempts_have_the_first_slot_that_is_free() -> None:
    found = slots(
        timeline(task("a", "succeeded", (0, 4)), task("b", "succeeded", (0, 1), (2, 3)), task("c", "running", (1, None)))
    )

    assert [[(task.id, attempt.number) for task, attempt in slot] for slot in found] == [
        [("a", 1)],
        [("b", 1), ("c", 1)],
        [("b", 2)],
    ]


def test_bars_begin_and_end_where_attempts_did() -> None:
    found = page_of(timeline(task("t", "succeeded", (2.5, 5.0), (6.0, 10.0)), duration_s=10.0))

    bars = [(bar["x"], bar["width"], bar.get("class")) for bar in found.all("rect") if bar.get("x")]
    assert bars.count(("25%", "25%", "failed")) == 2
    assert bars.count(("60%", "40%", "succeeded again")) == 2
    assert bars.count(("50%", "10%", "delay")) == 1
    assert bars.count(("0%", "25%", "wait")) == 1


def test_an_attempt_that_is_to_be_tried_again_has_failed() -> None:
    found = page_of(timeline(task("t", "retrying", (2.5, 5.0))))

    bars = [bar.get("class") for bar in found.all("rect") if (bar.get("x"), bar.get("width")) == ("25%", "25%")]
    assert bars == ["failed", "failed"]


def test_a_legend_explains_what_is_drawn_and_nothing_else() -> None:
    found = page_of(
        timeline(task("a", "succeeded", (0, 1), (2, 3)), task("b", "running", (1, None)), task("c", "skipped"))
    ).text

    assert "waiting for a slot waiting for the next attempt failed attempt running attempt succeeded attempt" in found
    assert "skipped attempt" not in found

    found = page_of(timeline(task("a", "succeeded", (0, 1)), task("b", "skipped"))).text
    assert "waiting for" not in found


def test_what_more_tasks_depend_on_than_can_be_drawn_is_in_the_table() -> None:
    tasks = [task(f"t{number}", depends_on=(f"t{number - 1}",) if number else ()) for number in range(1001)]

    found = page_of(timeline(*tasks))

    assert "1,001 tasks are too many to be drawn" in found.text
    assert "#task-t999" in [link["href"] for link in found.all("a")]


def test_thousands_of_tasks_of_one_kind_are_drawn_as_one() -> None:
    between = [task(f"t{n}", "failed" if n == 7 else "succeeded", (1, 2), depends_on=("begin",)) for n in range(3000)]
    end = task("end", "skipped", depends_on=tuple(found.id for found in between))

    found = page_of(timeline(task("begin", "succeeded", (0, 1)), *between, end, critical_path=("begin", "t7")))

    boxes = [str(attributes["class"]) for attributes in found.all("g")]
    assert boxes == ["task succeeded critical", "task failed critical", "task skipped"]
    assert "t7 and 2,999 more: failed 1 failed, 2,999 succeeded" in found.text


def test_durations_are_said_in_the_units_that_suit_them() -> None:
    seconds = (None, 0, 0.0404, 0.9996, 9.99, 12.34, 59.96, 61, 3599.7, 3600, 90_000)
    assert [shown_duration(value) for value in seconds] == [
        "–", "0 ms", "40 ms", "1.00 s", "9.99 s", "12.3 s", "1m00s", "1m01s", "1h00m", "1h00m", "1d01h",
    ]  # fmt: skip


def test_text_is_escaped_and_markup_is_not() -> None:
    inner = element("b", "<&>")
    assert (
        element("p", inner, ' "', title='"<', hidden=True, class_=None)
        == '<p title="&quot;&lt;" hidden><b>&lt;&amp;&gt;</b> &quot;</p>'
    )
    assert text("a\tb\x00\nc") == "a\tb\\x00\nc"


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_all_colours_of_text_have_enough_contrast(theme: int) -> None:
    css = Path(sys.modules["miniflow.report"].__path__[0], "report.css").read_text()
    colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", css.split(":root {")[theme + 1]))
    assert len(colours) >= 16
    for name, colour in colours.items():
        if name in ("page", "card", "line", "faint"):
            continue
        against = ("succeeded", "failed", "critical", "running") if name == "on" else ("card", "page", "faint")
        for other in against:
            bright, dark = sorted((luminance(colour), luminance(colours[other])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, f"{name} on {other}"


# How much there can be of it


def test_logs_have_a_share_each_of_what_there_is_room_for(tmp_path: Path) -> None:
    path = tmp_path / "f" / "20261123T093612.041Z-3f9a1c"
    (path / "logs").mkdir(parents=True)
    count = 5000
    base = {"timestamp": "2026-11-23T09:36:12.041000Z", "flow": "f", "run_id": path.name}
    events: list[dict[str, Any]] = [
        {**base, "event": "run.started", "schema": 1, "tasks": count, "parallel": 4, "keep_going": False, "params": []}
    ]
    line = json.dumps({"event": "task.output", "message": "<" * 100, "stream": "stdout", "attempt": 1}) + "\n"
    for number in range(count):
        name = f"task_{number:04d}"
        failed = number == count - 1
        events.append(
            {**base, "event": "task.started", "task_id": name, "attempt": 1, "pid": 7, "argv": ["python3", f"{name}.py"]}
        )
        events.append(
            {**base, "event": "task.finished", "task_id": name, "attempt": 1, "state": "failed" if failed else "succeeded"}
            | {"exit_status": int(failed), "reason": "exit", "duration_s": 1.0, "attempts": 1}
        )
        (path / f"logs/{name}.jsonl").write_text(line * 20)
    (path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))

    contents = collect(RunDir(path), path)
    html = page(contents)

    sizes = [len(log.tail.lines) for log in contents.logs.values()]
    assert len(sizes) == count
    assert len(contents.logs[f"task_{count - 1:04d}"].tail.lines) == 20
    assert sum(len(line.text) * len("&lt;") for log in contents.logs.values() for line in log.tail.lines) < MOST_BYTES * 1.01
    assert len(html) < 5_000_000
