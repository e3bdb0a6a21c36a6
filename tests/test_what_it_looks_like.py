"""The README's section on what it looks like: its commands are run, and print what it shows, but for times and names of runs.

`MINIFLOW_REWRITE_GOLDEN=1` has the section written anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Space
from tests.terminals import Terminal

README = Path(__file__).parent.parent / "README.md"
HOME = "/home/ada/shop"
"""Where the commands of the section seem to be called."""

CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCREEN = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_THE_SAME = [
    (r"\n\nDurations\n(  .*\n)*", "\n"),  # there is one where a machine was busy
    (r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{6}", "RUN"),
    (r"[0-9a-f]{32}", "TOKEN"),
    (r"^ [━╍─]+(?=  \d)", " BAR"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"\d+(\.\d+)? ?(ms|s)\b", "DURATION"),
    (r"[+-](?=DURATION)|[+-]?\d+ ?%", "DIFFERENCE"),
    (r" {2,}", "  "),  # what stands in columns
    (r" +$", ""),
]


def section() -> str:
    found = re.search(r"^## What it looks like\n(.*?)^## ", README.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def shown_commands() -> list[tuple[str, str]]:
    """Return the commands of the section, each with its output."""
    return [tuple(block.removeprefix("$ ").split("\n", 1)) for block in CONSOLE.findall(section())]  # type: ignore[misc]


def alike(text: str) -> str:
    for pattern, name in NOT_THE_SAME:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text


@pytest.fixture
def shop(space: Space) -> Space:
    """Where the commands of the section are called."""
    for folder in (space.flows_dir, space.tasks_dir):
        shutil.copytree(Path(__file__).parent / "look" / folder.name, folder, dirs_exist_ok=True)
    return space


def test_a_terminal_shows_what_the_page_shows_of_it(shop: Space) -> None:
    shop.miniflow("run", "nightly", "--parallel", "2")  # there is a run by which to tell how long the rest will take
    fetch, gate = shop.tasks_dir / "fetch.py", shop.path / "gate"
    os.mkfifo(gate)
    waits = f"if os.environ['MINIFLOW_ATTEMPT'] == '2': open({str(gate)!r}).read()"
    fetch.write_text(re.sub(r"^time\.sleep.*$", waits, fetch.read_text(), flags=re.MULTILINE))

    terminal = Terminal(shop, "run", "nightly", "--parallel", "2")
    screen = terminal.until(lambda text: re.search(r"orders  ✓.* attempt 2\n.* 1/5 .* 3 waiting$", text, re.DOTALL)) + "\n"
    gate.write_text("")
    assert terminal.end() == 1

    if os.environ.get("MINIFLOW_REWRITE_GOLDEN"):
        README.write_text(README.read_text().replace(SCREEN.findall(section())[0], screen))
    (shown,) = SCREEN.findall(section())
    lines, expected = alike(screen).split("\n"), alike(shown).split("\n")
    assert sorted(lines[:-4]) == sorted(expected[:-4])  # what two tasks print comes as it comes
    assert lines[-4:] == expected[-4:]


def test_the_commands_print_what_the_page_shows(shop: Space) -> None:
    programs = shop.path / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python3").symlink_to(sys.executable)
    (programs / "miniflow").symlink_to(Path(sys.executable).with_name("miniflow"))
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    env = shop.environ({"VIRTUAL_ENV": str(shop.path / ".venv"), "PATH": path, "COLUMNS": "100"})
    shown = shown_commands()
    printed = {}
    for command, _ in shown:
        if command == "miniflow diff":  # with what the page says has been done before
            mended = (shop.tasks_dir / "convert.py").read_text().replace("== 1", "== 2")
            (shop.tasks_dir / "convert.py").write_text(mended)
            resumed = "miniflow run nightly --parallel 2 --resume"
            subprocess.run(resumed.split(), cwd=shop.path, env=env, stdout=subprocess.DEVNULL, check=True)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=shop.path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        printed[command] = done.stdout.replace(str(shop.path), HOME)

    if os.environ.get("MINIFLOW_REWRITE_GOLDEN"):
        text = README.read_text()
        for command, before in shown:
            text = text.replace(f"```console\n$ {command}\n{before}```", f"```console\n$ {command}\n{printed[command]}```")
        README.write_text(text)
        shown = shown_commands()
    assert len(shown) >= 5
    for command, output in shown:
        lines, expected = alike(printed[command]).split("\n"), alike(output).split("\n")
        if command.startswith("miniflow run"):  # two streams of two tasks, and what tells of them, come as they come
            lines, expected = sorted(lines), sorted(expected)
        assert lines == expected, command
