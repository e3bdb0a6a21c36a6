"""`--junit FILE`: what CI systems show of a run, there whatever has become of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniflow.junit import _ILLEGAL, _element
from tests.conftest import Space
from tests.faulty import ERRORS
from tests.judging import BAD, Faulty, clear

CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-err"},
    "properties": {"property"},
    "testcase": {"failure", "error", "skipped", "rerunFailure", "flakyFailure", "system-out", "system-err"},
}
ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "property": {"name", "value"},
    "testcase": {"classname", "name", "time"},
    **{tag: {"message", "type"} for tag in ("failure", "error", "skipped", "rerunFailure", "flakyFailure")},
}


def read(path: Path) -> ET.Element:
    """Return the suite, in the form that Jenkins and Surefire have written down."""
    root = ET.parse(path).getroot()  # noqa: S314  our own
    assert root.tag == "testsuites"
    for element in root.iter():
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set())
        assert set(element.attrib) == ATTRIBUTES.get(element.tag, set())
    (suite,) = root
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases)
    for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(suite.attrib[count]) == sum(case.find(tag) is not None for case in cases)
    return suite


def told(suite: ET.Element) -> dict[str, list[tuple[str, str | None, str | None]]]:
    """Return what is said of each task, its output aside."""
    return {
        case.attrib["name"]: [
            (part.tag, part.get("type"), part.get("message")) for part in case if not part.tag.startswith("system-")
        ]
        for case in suite.findall("testcase")
    }


def task(name: str, *behaviour: object, **fields: object) -> dict[str, object]:
    return {"id": name, "script": "record.py", "env": {"BEHAVIOUR": json.dumps(behaviour or [0])}, **fields}


def test_a_case_says_how_a_task_ended(space: Space) -> None:
    space.recorder()
    space.flow({
        "name": "x",
        "tasks": [
            task("good"),
            task("flaky", 1, 0, retries=1),
            task("bad", 7, "SIGKILL", retries=1),
            task("none", python="/nowhere/python"),
            task("late", "hang", timeout=0.2),
            task("after", depends_on="bad"),
        ],
    })  # fmt: skip

    done = space.miniflow("run", "x", "--keep-going", "--parallel", "4", "--grace", "0", "--junit", "reports/x/junit.xml")

    assert done.returncode == 1
    suite = read(space.path / "reports/x/junit.xml")
    assert told(suite) == {
        "good": [],
        "flaky": [("flakyFailure", "exit", "attempt 1 failed with exit status 1")],
        "bad": [
            ("failure", "signal", "was killed by SIGKILL, attempt 2"),
            ("rerunFailure", "exit", "attempt 1 failed with exit status 7"),
        ],
        "none": [("error", "spawn", "could not be started: No such file or directory: /nowhere/python")],
        "late": [("failure", "timeout", "took longer than its timeout")],
        "after": [("skipped", "upstream_failed", "skipped: a task it depends on failed or was cancelled")],
    }
    assert suite.attrib["name"] == "x"
    properties = {each.attrib["name"]: each.attrib["value"] for each in suite.iter("property")}
    assert properties["run_dir"] == str(space.latest("x"))
    assert float(suite.attrib["time"]) >= 0.2


def test_output_stands_there_whatever_is_in_it(space: Space) -> None:
    space.script(
        "odd.py", r"import os; os.write(1, b'<b>]]>&amp; \x1b[1m\x00\xff\r\n\tend'); os.write(2, b'err\n'); os._exit(1)"
    )
    space.flow({"name": "odd", "tasks": [{"id": "a", "script": "odd.py"}]})

    space.miniflow("run", "odd", "--junit", "j.xml")

    case = read(space.path / "j.xml").find("testcase")
    assert case is not None
    assert case.findtext("system-out") == "<b>]]>&amp; \\x1b[1m\\x00\\xff\\r\n\tend"
    assert case.findtext("system-err") == "err"
    assert set((case.findtext("failure") or "").split("\n")) == {"<b>]]>&amp; \\x1b[1m\\x00\\xff\\r", "\tend", "err"}


def test_of_long_output_the_end_is_there_and_where_the_rest_is(space: Space) -> None:
    space.script("much.py", "for n in range(10_000): print(n)")
    space.flow({"name": "much", "tasks": [{"id": "a", "script": "much.py"}]})

    space.miniflow("run", "much", "--junit", "j.xml")

    (output,) = read(space.path / "j.xml").iter("system-out")
    first, *_, last = (output.text or "").split("\n")
    assert first == f"[the end of {space.latest('much') / 'logs/a.jsonl'}]"
    assert last == "9999"


def test_a_task_that_was_taken_over_has_passed_and_says_where(space: Space) -> None:
    space.recorder()
    space.flow({"name": "x", "tasks": [task("good"), task("bad", 1)]})
    space.miniflow("run", "x", "--keep-going")
    before = space.latest("x").name

    space.miniflow("run", "x", "--resume", "--junit", "j.xml")

    suite = read(space.path / "j.xml")
    assert told(suite)["good"] == []
    assert suite.findtext("testcase/system-out") == f"not run again: it succeeded in {before}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_stopped_has_its_file(space: Space, number: int) -> None:
    space.script("wait.py", "import os, time; open('ready', 'w').close(); time.sleep(600)")
    os.mkfifo(space.path / "ready")
    space.flow({"name": "x", "tasks": [{"id": "a", "script": "wait.py"}, {"id": "b", "script": "wait.py", "depends_on": "a"}]})
    command = [sys.executable, "-m", "miniflow", "-o", "out", "run", "x", "--junit", "j.xml"]
    process = subprocess.Popen(command, cwd=space.path, env=space.environ(), stdout=subprocess.DEVNULL)
    (space.path / "ready").open().close()  # waits for the task

    process.send_signal(number)

    assert process.wait() == -number
    assert told(read(space.path / "j.xml")) == {
        "a": [("error", "signal", "was stopped")],
        "b": [("skipped", "stopped", "cancelled: the run was stopped")],
    }


def test_a_run_that_was_out_of_time_has_its_file(space: Space) -> None:
    space.recorder()
    space.flow({"name": "x", "tasks": [task("a", "hang")]})

    assert space.miniflow("run", "x", "--timeout", "0.2", "--grace", "0", "--junit", "j.xml").returncode == 124

    suite = read(space.path / "j.xml")
    assert [part[0] for part in told(suite)["a"]] == ["error"]
    assert suite.findtext("system-err") == "it took longer than its timeout of 200ms"


def test_a_run_that_could_not_be_recorded_has_its_file_and_no_success(space: Space) -> None:
    space.script("vandal.py", "import os, shutil; shutil.rmtree(os.environ['MINIFLOW_RUN_DIR'] + '/status')")
    space.flow({"name": "x", "tasks": [{"id": "a", "script": "vandal.py"}, {"id": "b", "script": "vandal.py"}]})

    done = space.miniflow("run", "x", "--junit", "j.xml")

    assert done.returncode == 2
    suite = read(space.path / "j.xml")
    assert [tag for tag, *_ in told(suite)["b"]] in (["error"], ["skipped"])
    assert "status" in (suite.findtext("system-err") or "")


@pytest.mark.parametrize("where", ["there", "flows/x.json/j.xml", "/proc/j.xml", "pipe", ""])
def test_a_file_that_cannot_be_written_is_refused_before_anything_starts(space: Space, where: str) -> None:
    space.recorder()
    (space.path / "there").mkdir()
    os.mkfifo(space.path / "pipe")
    space.flow({"name": "x", "tasks": [task("a")]})

    done = space.miniflow("run", "x", "--junit", where)

    assert done.returncode == 2
    told = (f"error: --junit: {where} is no file", f'error: --junit "{where}" ', "error: --junit is empty; ")
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1
    assert space.records() == {}


def test_a_file_that_cannot_be_written_in_the_end_is_no_success(space: Space) -> None:
    space.script("vandal.py", "import shutil; shutil.rmtree('reports')")
    space.flow({"name": "x", "tasks": [{"id": "a", "script": "vandal.py"}]})

    done = space.miniflow("run", "x", "--junit", "reports/j.xml")

    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write reports/j.xml: ")


def test_a_dry_run_has_no_file(space: Space) -> None:
    space.recorder()
    space.flow({"name": "x", "tasks": [task("a")]})

    assert space.miniflow("run", "x", "--dry-run", "--junit", "j.xml").returncode == 2
    assert not (space.path / "j.xml").exists()


@pytest.mark.parametrize("kind", ["open", "close"])
def test_one_call_in_many_may_fail(space: Space, kind: str) -> None:
    fail_each(space, kind, lambda index: index * 6 + 1)


@pytest.mark.stress
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", [kind for kind in ERRORS if kind != "disk"])
def test_every_call_may_fail(space: Space, kind: str) -> None:
    fail_each(space, kind, lambda index: index + 1)


def fail_each(space: Space, kind: str, following: Callable[[int], int]) -> None:
    """Run the flow `bad` again and again, with one call of a kind failing each time."""
    faulty = Faulty(space)
    args = ["run", "bad", "--parallel", "2", "--keep-going", "--log-format", "github", "--junit", "j.xml"]
    index, calls = 0, 1
    try:
        while index < calls:
            clear(space)
            (space.path / "j.xml").unlink(missing_ok=True)
            answer, _, said = faulty.answer(args, kind, index, ERRORS[kind][0])
            calls = answer["calls"]
            assert answer["left"] == []
            assert answer["status"] in (1, 2)
            assert "Traceback" not in said or "BaseEventLoop.__del__" in said
            assert kind == "unlink" or [*space.path.glob(".j.xml*")] == []
            if answer["status"] == 1:
                assert len(told(read(space.path / "j.xml"))) == len(BAD)
            index = following(index)
    finally:
        faulty.close()


@given(st.text(st.characters() | st.sampled_from("\0\x1b\r\n\t]>&<\"'\ufffe\x85")), st.text())
def test_all_text_is_xml_and_what_can_stand_there_is_read_back(text: str, value: str) -> None:
    element = ET.fromstring(_element("a", text, b=value))  # noqa: S314
    for given_text, found in ((text, element.text or ""), (value, element.attrib["b"])):
        if not _ILLEGAL.search(given_text):
            assert found == given_text
