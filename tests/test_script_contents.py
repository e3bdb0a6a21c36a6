"""What a script holds, from planning to the start of its task: no change goes unnoticed."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

from miniflow import run_flow
from miniflow.scripts import Scripts
from tests.conftest import Space, events, only


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def now(scripts: Scripts, name: str) -> str | None:
    """Look as the runner does."""
    if scripts.unread_bytes(name) is not None:
        scripts.read(name)
    return scripts.sha256(name)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "a.py"
    path.write_bytes(b"one")
    return path


def test_each_script_is_read_when_the_run_is_planned(tmp_path: Path, script: Path) -> None:
    (tmp_path / "b").write_bytes(b"")

    scripts = Scripts(str(tmp_path), ["a.py", "b", "a.py", "gone"])

    assert scripts.planned == {"a.py": sha256(b"one"), "b": sha256(b""), "gone": None}


def test_a_change_in_the_same_instant_that_keeps_the_size_and_the_time_is_noticed(tmp_path: Path, script: Path) -> None:
    scripts = Scripts(str(tmp_path), ["a.py"])
    stat = script.stat()
    for text in (b"two", b"six", b"ten"):
        script.write_bytes(text)
        os.utime(script, ns=(stat.st_atime_ns, stat.st_mtime_ns))

        assert now(scripts, "a.py") == sha256(text)
    assert scripts.planned == {"a.py": sha256(b"one")}


def test_a_script_that_has_not_changed_for_long_is_not_read_again(
    tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miniflow.scripts.tick_ns", lambda stat: -(10**18))
    scripts = Scripts(str(tmp_path), ["a.py"])
    assert scripts.unread_bytes("a.py") is None

    os.utime(script)

    assert scripts.unread_bytes("a.py") == 3
    assert now(scripts, "a.py") == sha256(b"one")


@pytest.mark.parametrize("changed_s", [5, 0.5])
def test_what_a_clock_of_whole_seconds_says_is_believed_after_two_of_them(
    tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch, changed_s: float
) -> None:
    at_ns = 1_700_000_000 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: at_ns + int(changed_s * 10**9))
    fraction_ns = 0

    def stat_of_then(_: object) -> object:
        return SimpleNamespace(
            st_dev=1, st_ino=1, st_size=3, st_mtime_ns=at_ns + fraction_ns, st_ctime_ns=at_ns + fraction_ns, st_mode=0o100644
        )

    monkeypatch.setattr(os, "fstat", stat_of_then)
    monkeypatch.setattr(os, "stat", stat_of_then)

    assert (Scripts(str(tmp_path), ["a.py"]).unread_bytes("a.py") is None) == (changed_s > 2)
    fraction_ns = 4_000_000
    assert Scripts(str(tmp_path), ["a.py"]).unread_bytes("a.py") is None


def test_a_script_that_is_gone_is_unknown_until_it_is_there_again(tmp_path: Path, script: Path) -> None:
    scripts = Scripts(str(tmp_path), ["a.py"])
    moved = script.rename(tmp_path / "moved")
    assert now(scripts, "a.py") is None

    moved.rename(script)

    assert now(scripts, "a.py") == sha256(b"one")


def test_a_large_script_that_changes_is_recorded_as_what_it_is(space: Space, anyio_backend: str) -> None:
    large = "#" * 3_000_000 + "\n"
    space.script("large.sh", large)
    space.script("a.sh", f"echo >>{space.tasks_dir}/large.sh")
    tasks = [{"id": "a", "script": "a.sh"}, {"id": "large", "script": "large.sh", "depends_on": "a"}]

    result = anyio.run(lambda: run_flow({"name": "x", "tasks": tasks}, **space.directories), backend=anyio_backend)

    (_, started) = only(events(result.run_dir), "task.started")
    assert started["script_sha256"] == sha256(f"{large}\n".encode())
