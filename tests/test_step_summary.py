"""The summary of a step of GitHub Actions: a table, and what failed tasks printed last, as text and nothing else."""

from __future__ import annotations

import html
import os
import re

from hypothesis import given
from hypothesis import strategies as st

from miniflow.rundir import RunDir
from miniflow.step_summary import MOST_BYTES, _inline, step_summary
from miniflow.timeline import Timeline, read_timeline
from miniflow.values import replace
from tests.conftest import Space


def ran(space: Space, script: str = "import sys; print('</pre><script>alert(1)</script>'); sys.exit(3)", **env: str) -> str:
    """Run a flow whose first task fails; return the summary."""
    space.script("fail.py", script)
    space.script("good.py")
    space.flow({
        "name": "a_b",
        "tasks": [{"id": "__x__", "script": "fail.py"}, {"id": "y", "script": "good.py", "depends_on": "__x__"}],
    })  # fmt: skip
    path = space.path / "summary.md"
    done = space.miniflow("run", "a_b", env={"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(path), **env})
    assert done.returncode == 1
    return path.read_text() if path.exists() else done.stderr


def test_it_says_how_each_task_ended_and_what_a_failed_one_printed_last(space: Space) -> None:
    summary = ran(space)

    assert summary.startswith("### ❌ <code>a&#95;b</code> failed in ")
    header, _, *rows = [line for line in summary.split("\n") if line.startswith("|")]
    assert header == "| | task | | exit status | attempts | seconds |"
    assert re.sub(r"\d\.\d\d", "N", "\n".join(rows)) == (
        "| ❌ | <code>&#95;&#95;x&#95;&#95;</code> | failed with exit status 3 | 3 | 1 | N |\n"
        "| ⏭️ | <code>y</code> | skipped&#58; a task it depends on failed or was cancelled |  |  |  |"
    )
    (details,) = re.findall("<details>.*?</details>", summary, re.DOTALL)
    assert "failed with exit status 3</summary>" in details
    assert "<pre>&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;</pre>" in details


def test_it_comes_after_what_is_there(space: Space) -> None:
    (space.path / "summary.md").write_text("before\n")

    assert ran(space).startswith("before\n### ❌")


def test_one_that_cannot_be_written_is_a_warning(space: Space) -> None:
    os.mkfifo(space.path / "pipe")  # that nobody reads
    said = ran(space, GITHUB_STEP_SUMMARY="/nowhere/summary.md")
    of_a_pipe = ran(space, GITHUB_STEP_SUMMARY="pipe")

    assert said == "warning: the step has no summary: cannot write /nowhere/summary.md: No such file or directory\n"
    assert of_a_pipe.startswith("warning: the step has no summary: cannot write pipe: ")


def test_other_formats_have_none(space: Space) -> None:
    assert ran(space, MINIFLOW_LOG_FORMAT="json") == ""


def timeline(space: Space) -> Timeline:
    ran(space)
    return read_timeline(RunDir(space.latest("a_b")))


def test_it_is_cut_where_the_service_would_show_nothing(space: Space) -> None:
    run = timeline(space)
    failed, skipped = run.tasks
    run = replace(run, tasks=(*([replace(failed, id="x" * 150)] * 4000), *([replace(skipped, id="y" * 150)] * 4000)))

    summary = step_summary(run, lambda _: ["<" * 1000] * 4)

    assert 0.9 * MOST_BYTES < len(summary.encode()) <= MOST_BYTES
    assert re.search(r"\n… and \d+ more tasks\.\n", summary)
    assert re.search(r"\n… and what \d+ more have printed last\.\n$", summary)
    assert summary.count("<details>") == summary.count("</details>") > 10


def test_one_without_room_is_not_begun(space: Space) -> None:
    (space.path / "summary.md").write_text("x" * (MOST_BYTES - 100))

    assert ran(space) == "x" * (MOST_BYTES - 100)


@given(st.text())
def test_no_text_is_markup(text: str) -> None:
    inline = _inline(text)

    assert not re.search(r"[][*_`|<>~\\!@:/.\n]", re.sub(r"&#\d+;", "", inline))
    if text.isprintable():
        assert html.unescape(inline) == text
