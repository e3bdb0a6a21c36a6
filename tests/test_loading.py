"""What a run takes is loaded in a thread of its own: who starts processes must not count as one who computes."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from miniflow import loading
from tests.conftest import Space

WATCHED = """
import sys, _thread
main = _thread.get_ident()
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("asyncio", "structlog", "miniflow.foreground"):
            found.append((name, _thread.get_ident() == main, sys.modules["threading"].main_thread().ident == main))
found = []
sys.meta_path.insert(0, Watch())
import atexit
atexit.register(lambda: print(sorted(found), file=sys.stderr))
sys.argv[0] = "miniflow"
from miniflow.__main__ import main as command
command()
"""
"""Says which modules were loaded in the main thread, and whether Python takes that for the main thread."""


@pytest.mark.parametrize("options", [[], ["--grace", "1s"]], ids=["everyday", "by click"])
def test_a_run_is_loaded_outside_the_thread_that_starts_its_processes(space: Space, options: list[str]) -> None:
    space.script("hello.py", "print('hello')")
    space.flow({"name": "hello", "tasks": [{"id": "greet", "script": "hello.py"}]})

    done = subprocess.run(
        [sys.executable, "-c", WATCHED, "-o", str(space.output_dir), "run", "hello", *options],
        cwd=space.path,
        env=space.environ(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0
    names = ["asyncio", "miniflow.foreground", "structlog"]
    assert done.stderr.splitlines()[-1] == str([(name, False, True) for name in names])


def test_what_cannot_be_loaded_is_raised_where_it_was_asked_for() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        loading.load("asyncio", "no_such_module")


def test_without_threads_modules_are_loaded_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        loading.load("no_such_module")
