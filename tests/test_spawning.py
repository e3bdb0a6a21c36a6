"""The ways to start a program and to watch it: each makes the same child, and tells the same."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miniflow import guardian
from miniflow.executors import Attempt, spawn, start, watch
from miniflow.executors import loop as own_loop
from tests.conftest import Space, only

ENV = {b"PATH": os.fsencode(os.environ["PATH"]), b"A": b"1", "ÄÖ".encode(): b"caf\xe9", b"EMPTY": b""}
SHOW = """#!{python} -ISE
import json, os, resource, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
with os.scandir("/proc/self/fd") as entries:
    names = [entry.name for entry in entries]
print(json.dumps({{
    "argv": sys.argv,
    "env": {{key: value for key, value in os.environ.items() if key != "LC_CTYPE"}},
    "cwd": os.getcwd(),
    "files": sorted((int(name), os.path.exists("/proc/self/fd/" + name)) for name in names)[:3],
    "more": [name for name in names if int(name) > 2 and os.path.exists("/proc/self/fd/" + name)],
    "stdin": os.readlink("/proc/self/fd/0"),
    "blocking": [os.get_blocking(n) for n in (0, 1, 2)],
    "leads": [os.getpid() == os.getsid(0) == os.getpgid(0), os.getppid() == int(sys.argv[1])],
    "signals": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt")],
    "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
    "umask": status["Umask"],
}}))
"""


# What the child, which is Python as well, ignores for itself.
OF_PYTHON = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
# What the C library keeps for itself; its posix_spawn leaves the child the first of them ignored.
INTERNAL = 1 << 31 | 1 << 32


@pytest.fixture(autouse=True)
def _own_input(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the tests' process its standard input back."""
    monkeypatch.setattr(spawn, "_former_input", None)
    yield
    if spawn._former_input is not None:
        os.dup2(spawn._former_input, 0)
        os.close(spawn._former_input)


@pytest.fixture(params=["popen", "posix_spawn"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each of the ways to start a program; whether it is the one that is taken is looked at."""
    monkeypatch.setattr(spawn, "_has_own_descriptors", False)
    if request.param == "posix_spawn":
        spawn.own_descriptors()
        if not spawn._has_own_descriptors:
            pytest.skip("this system's posix_spawn is not used")
        spawn._give_up_input()  # as the first one does; here before descriptors are counted
    taken: list[str] = []
    for name, place, real in (
        ("popen", subprocess, subprocess.Popen),
        ("posix_spawn", os, os.posix_spawn),
    ):

        def note(*args: Any, name: str = name, real: Callable[..., Any] = real, **options: Any) -> Any:
            taken.append(name)
            return real(*args, **options)

        monkeypatch.setattr(place, real.__name__, note)
    yield request.param
    assert set(taken) == {request.param}


def spawned(argv: list[str], cwd: Path) -> tuple[int, bytes, bytes]:
    """Start a program; return its exit status and what it has printed."""
    process = spawn.spawn(argv, ENV, str(cwd))
    info = os.waitid(os.P_PID, process.pid, os.WEXITED)
    assert info is not None
    printed = []
    for descriptor in (process.stdout, process.stderr):
        assert not os.get_blocking(descriptor)
        assert not os.get_inheritable(descriptor)
        printed.append(os.read(descriptor, 65536))
        os.close(descriptor)
    return info.si_status, printed[0], printed[1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the test's own, that it is in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def umask() -> int:
    found = re.search(r"^Umask:\s+(\d+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1], 8)


def ignored() -> int:
    numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    return sum(1 << number - 1 for number in numbers if signal.getsignal(number) == signal.SIG_IGN)


def show(here: Path) -> str:
    script = here / "show"
    script.write_text(SHOW.format(python=sys.executable))
    script.chmod(0o755)
    return str(script)


def test_a_child_is_the_same_whichever_way_it_was_started(here: Path, way: str) -> None:
    status, out, err = spawned([show(here), str(os.getpid()), "zwei", "", "caf\udce9"], here)

    assert (status, err) == (0, b"")
    child = json.loads(out)
    child["signals"] = [int(mask, 16) & ~INTERNAL for mask in child["signals"]]
    assert child == {
        "argv": [show(here), str(os.getpid()), "zwei", "", "caf\udce9"],
        "env": {os.fsdecode(name): os.fsdecode(value) for name, value in ENV.items()},
        "cwd": str(here),
        "files": [[0, True], [1, True], [2, True]],
        "more": [],
        "stdin": "/dev/null",
        "blocking": [True, True, True],
        "leads": [True, True],
        "signals": [0, ignored() | OF_PYTHON, 1 << signal.SIGINT - 1],
        "limits": list(resource.getrlimit(resource.RLIMIT_NOFILE)),
        "umask": f"{umask():04o}",
    }


def test_what_python_ignores_for_itself_children_do_not(here: Path, way: str) -> None:
    _, out, _ = spawned(["/bin/grep", "SigIgn", "/proc/self/status"], here)

    ignored = int(out.split()[1], 16)
    assert not any(ignored >> (number - 1) & 1 for number in (signal.SIGPIPE, signal.SIGXFSZ))


def test_both_streams_are_told_apart(here: Path, way: str) -> None:
    assert spawned(["/bin/sh", "-c", "echo out; echo err >&2; exit 7"], here) == (7, b"out\n", b"err\n")


def test_an_executable_text_is_run_by_a_shell(here: Path, way: str) -> None:
    (here / "plain").write_text('echo "$@"; exit 7\n')
    (here / "plain").chmod(0o755)

    assert spawned([str(here / "plain"), "a b", "c"], here) == (7, b"a b c\n", b"")
    assert spawned(["./plain", "a b", "c"], here) == (7, b"a b c\n", b"")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("none", FileNotFoundError),
        ("folder", PermissionError),
        ("plain", PermissionError),
        ("plain/none", NotADirectoryError),
        ("no-interpreter", FileNotFoundError),
        ("loop", OSError),
    ],
)
def test_what_cannot_be_started_is_told_alike(here: Path, way: str, name: str, error: type[OSError]) -> None:
    (here / "folder").mkdir()
    (here / "plain").write_text("")
    (here / "no-interpreter").write_text("#!/no/such/interpreter\n")
    (here / "no-interpreter").chmod(0o755)
    (here / "loop").symlink_to("loop")
    path = str(here / name)
    before = os.listdir("/proc/self/fd")

    with pytest.raises(error) as raised:
        spawn.spawn([path], ENV, str(here))

    assert os.fsdecode(raised.value.filename) == path
    assert raised.value.errno == {"loop": 40}.get(name, raised.value.errno)
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("argv", "cwd"), [(["true"], "."), (["/bin/true"], "folder")], ids=["a name on the PATH", "another directory"]
)
def test_what_only_popen_can_do_it_does(here: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], cwd: str) -> None:
    monkeypatch.setattr(spawn, "_has_own_descriptors", True)
    monkeypatch.delattr(os, "posix_spawn")
    (here / "folder").mkdir()

    assert spawned(argv, here / cwd) == (0, b"", b"")


@pytest.mark.parametrize("own", [False, True], ids=["popen", "as own"])
def test_a_directory_that_has_gone_or_is_another_by_now_is_told_alike(
    here: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    monkeypatch.setattr(spawn, "_has_own_descriptors", own)
    place = here / "place"
    place.mkdir()
    monkeypatch.chdir(place)

    place.rename(here / "moved")
    with pytest.raises(FileNotFoundError) as raised:
        spawn.spawn(["/bin/pwd"], ENV, str(place))
    assert raised.value.filename == str(place)

    place.mkdir()
    assert spawned(["/bin/pwd", "-P"], place) == (0, f"{place}\n".encode(), b"")

    monkeypatch.chdir(here)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may go anywhere")
@pytest.mark.parametrize("own", [False, True], ids=["popen", "as own"])
def test_a_directory_that_is_forbidden_by_now_is_told_alike(here: Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    monkeypatch.setattr(spawn, "_has_own_descriptors", own)
    here.chmod(0)
    try:
        with pytest.raises(PermissionError) as raised:
            spawn.spawn(["/bin/true"], ENV, str(here))
    finally:
        here.chmod(0o700)

    assert raised.value.filename == str(here)


def test_a_task_reads_nothing_of_what_the_command_is_given(space: Space) -> None:
    space.script("read.py", "import sys; print(repr(sys.stdin.read()), sys.argv[1:])")
    tasks = [
        {"id": "here", "script": "read.py", "args": ["{{ params.a }}"]},
        {"id": "elsewhere", "script": "read.py", "cwd": "/", "python": sys.executable},
        {"id": "looked_up", "script": "read.py", "python": "python3"},
    ]
    space.flow({"name": "f", "tasks": tasks})

    result = space.miniflow("run", "f", "-p", "-", stdin='{"a": 1}')

    printed = only([json.loads(line) for line in result.stdout.splitlines()], "task.output")
    assert {event["task_id"]: event["message"] for event in printed} == {
        "here": "'' ['1']",
        "elsewhere": "'' []",
        "looked_up": "'' []",
    }


def test_a_flow_may_come_from_standard_input(space: Space) -> None:
    space.script("talk.py", "print('words')")
    path = space.flow({"name": "f", "tasks": [{"id": "t", "script": "talk.py"}]})

    with path.open() as flow:
        command = [sys.executable, "-m", "miniflow", "-t", "tasks", "-o", "out", "run", "/dev/stdin"]
        result = subprocess.run(command, stdin=flow, cwd=space.path, env=space.environ(), capture_output=True, check=False)

    assert (result.returncode, result.stderr) == (0, b"")


def test_whoever_writes_to_the_command_does_not_lose_his_reader_while_it_runs(space: Space) -> None:
    os.mkfifo(space.path / "go")
    space.script("wait.sh", f"read < {space.path / 'go'}")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "wait.sh"}]})
    command = [sys.executable, "-m", "miniflow", "-f", "flows", "-t", "tasks", "-o", "out", "run", "f"]

    with subprocess.Popen(
        command, cwd=space.path, env=space.environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while b"task.started" not in process.stdout.readline():
            pass
        os.write(process.stdin.fileno(), b"words\n")
        (space.path / "go").write_text("\n")
        process.stdout.read()

    assert process.returncode == 0


COMMAND = """
import os, sys
from miniflow.__main__ import main
real = os.posix_spawn
def note(*args, **options):
    with open("spawned", "a") as file:
        file.write("posix_spawn\\n")
    return real(*args, **options)
os.posix_spawn = note
main()
"""


def test_a_task_of_the_command_has_none_of_the_descriptors_that_its_caller_let_it_inherit(space: Space) -> None:
    script = 'import os; print(os.path.exists("/proc/self/fd/78"))'
    space.script("looked_up.py", script)
    space.script("direct.py", script)
    tasks = [{"id": "looked_up", "script": "looked_up.py", "python": "python3"}, {"id": "direct", "script": "direct.py"}]
    space.flow({"name": "f", "tasks": tasks})

    command = [sys.executable, "-c", COMMAND, "-f", "flows", "-t", "tasks", "-o", "out", "run", "f"]
    process = subprocess.run(
        ["bash", "-c", 'exec 78</dev/null; exec "$@"', "bash", *command],
        cwd=space.path,
        env={**space.environ(), "PYTHONPATH": str(Path(spawn.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (process.returncode, process.stderr) == (0, "")
    assert (space.path / "spawned").read_text() == "posix_spawn\n"
    printed = only([json.loads(line) for line in process.stdout.splitlines()], "task.output")
    assert [(event["task_id"], event["message"]) for event in printed] == [("looked_up", "False"), ("direct", "False")]


def start_times(count: int) -> list[tuple[int | None, int | None]]:
    """Return the start times of some processes as we have them, and as the system tells them."""
    times = []
    for _ in range(count):
        started = start.start(Attempt(["/bin/true"], ENV, "/", None, 0), 0, watch.Watches())
        times.append((started.start_time, guardian.start_time(started.pid)))
        assert started.exit_fd is not None
        os.waitid(os.P_PID, started.pid, os.WEXITED)
        for descriptor in (started.stdout, started.stderr, started.exit_fd):
            os.close(descriptor)
        started.watch.close()
    return times


@pytest.mark.parametrize("times", [pytest.param(50, id="some"), pytest.param(5_000, id="many", marks=pytest.mark.stress)])
def test_the_start_time_by_the_clock_is_that_of_the_system(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    monkeypatch.setattr(start, "_start_times", start._StartTimes())

    for ours, systems in start_times(times):
        assert ours == systems


def test_it_is_read_where_the_clock_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "_start_times", start._StartTimes())
    real = time.clock_gettime_ns
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: real(clock) + 3_600_000_000_000)

    for ours, systems in start_times(5):
        assert ours == systems


LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, own_loop.new_loop], ids=["asyncio", "command"])
"""Whether the event loop is somebody else's, or the command's own."""


@pytest.fixture(params=["epoll", "selector", "asyncio", "command"])
def watching(request: pytest.FixtureRequest) -> Iterator[tuple[watch.Watch, Callable[[], list[int]]]]:
    """A watch, and a function that looks what it tells."""
    if request.param not in ("asyncio", "command"):
        alone = {"epoll": watch.EpollWatch, "selector": watch.SelectorWatch}[request.param]()
        yield alone, lambda: sorted(alone.ready())
        alone.close()
        return
    if request.param == "asyncio":
        loop = asyncio.new_event_loop()
        watches: watch.Watches = watch.AsyncioWatches(loop)
    else:
        loop = own = own_loop.new_loop()
        watches = own.process_watches()
    shared = watches.new()

    def look() -> list[int]:
        for _ in range(2):  # turns of the loop
            loop.run_until_complete(asyncio.sleep(0))
        return sorted(shared.ready())

    yield shared, look
    shared.close()
    watches.close()
    loop.close()


Watching = tuple[watch.Watch, Callable[[], list[int]]]


def test_a_watch_tells_what_is_readable_and_what_is_at_its_end(watching: Watching) -> None:
    watched, ready = watching
    first, first_end = os.pipe()
    second, second_end = os.pipe()

    watched.add(first, second)
    assert ready() == []

    os.write(first_end, b"x")
    assert ready() == [first]
    watched.again(first)

    os.close(second_end)
    assert ready() == sorted([first, second])
    watched.again(first)
    watched.ended(second)
    assert ready() == [first]

    assert os.read(first, 2) == b"x"
    assert ready() == []

    os.write(first_end, b"y")
    assert ready() == [first]

    watched.close()
    for descriptor in (first, first_end, second):
        os.close(descriptor)


def test_what_was_not_read_empty_is_told_of_again(watching: Watching) -> None:
    watched, ready = watching
    read_end, write_end = os.pipe()
    watched.add(read_end)
    os.write(write_end, b"xy")

    assert ready() == [read_end]
    os.read(read_end, 1)
    watched.again(read_end)

    assert ready() == [read_end]
    watched.close()
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("kind", [watch.EpollWatch, watch.SelectorWatch])
def test_an_event_loop_can_watch_a_watch(kind: Callable[[], watch.EpollWatch | watch.SelectorWatch]) -> None:
    watching = kind()
    read_end, write_end = os.pipe()
    watching.add(read_end)
    assert select.select([watching.fileno()], [], [], 0)[0] == []

    os.write(write_end, b"x")

    assert select.select([watching.fileno()], [], [], 0)[0] == [watching.fileno()]
    watching.close()
    os.close(read_end)
    os.close(write_end)


@LOOPS
def test_that_a_pipe_is_at_its_end_wakes_nobody_before_the_process_is(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        watches = watch.new_watches()
        watching = watches.new()
        (stdout, stdout_end), (stderr, stderr_end), (exit_fd, exit_end) = (os.pipe() for _ in range(3))
        watching.add(exit_fd, pipes=[stdout, stderr])
        waiting = asyncio.ensure_future(watching.wait())
        await asyncio.sleep(0)

        os.close(stdout_end)
        for _ in range(3):  # turns of the loop
            await asyncio.sleep(0)
        assert not waiting.done()

        os.close(exit_end)
        await waiting
        assert set(watching.ready()) == {stdout, exit_fd}

        watching.ended(exit_fd)
        waiting = asyncio.ensure_future(watching.wait())
        await asyncio.sleep(0)
        os.close(stderr_end)  # held by whoever the process has left behind
        await waiting
        assert set(watching.ready()) == {stderr}

        watching.close()
        watches.close()
        for descriptor in (stdout, stderr, exit_fd):
            os.close(descriptor)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@LOOPS
def test_what_a_closed_descriptor_would_tell_is_not_taken_for_the_next_of_its_number(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        watches = watch.new_watches()
        first, second = watches.new(), watches.new()
        (read_end, write_end), (following, following_end) = os.pipe(), os.pipe()
        kept = os.dup(read_end)  # as a child keeps it until it has become its program
        first.add(read_end)

        first.close()
        os.dup2(following, read_end)
        second.add(read_end)
        os.close(write_end)
        for _ in range(3):  # turns of the loop
            await asyncio.sleep(0)
        assert list(second.ready()) == []

        second.close()
        watches.close()
        for descriptor in (read_end, following, following_end, kept):
            os.close(descriptor)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def test_what_is_to_be_done_before_waiting_is_done_when_nobody_has_anything_to_tell() -> None:
    async def main() -> None:
        happened: list[str] = []
        watches = watch.new_watches()
        watching = watches.new()
        read_end, write_end = os.pipe()
        watching.add(read_end)

        async def tell() -> None:
            await watching.wait()
            happened.append("told")
            os.read(read_end, 1)
            assert watches.before_waiting(lambda: happened.append("before waiting, once more"))

        waiting = asyncio.ensure_future(tell())
        await asyncio.sleep(0)
        assert watches.before_waiting(lambda: happened.append("before waiting"))
        os.write(write_end, b"x")
        for _ in range(3):  # turns of the loop, with more to do after each
            happened.append("others")
            await asyncio.sleep(0)
        await waiting
        assert "told" in happened
        assert "before waiting" not in happened

        await asyncio.sleep(0.001)
        assert happened[-1] == "before waiting, once more"  # in the place of the one before
        await asyncio.sleep(0.001)
        assert happened.count("before waiting, once more") == 1

        assert watches.before_waiting(lambda: happened.append("never"))
        watching.close()
        watches.close()
        await asyncio.sleep(0.001)
        assert "never" not in happened
        os.close(read_end)
        os.close(write_end)

    with asyncio.Runner(loop_factory=own_loop.new_loop) as runner:
        runner.run(main())


def test_what_is_done_before_waiting_may_give_others_something_to_do() -> None:
    async def main() -> None:
        watches = watch.new_watches()
        future = asyncio.get_running_loop().create_future()
        assert watches.before_waiting(lambda: future.set_result("done"))

        assert await future == "done"

        watches.close()

    with asyncio.Runner(loop_factory=own_loop.new_loop) as runner:
        runner.run(main())


def test_nothing_is_done_before_somebody_elses_event_loop_waits() -> None:
    async def main() -> None:
        watches = watch.new_watches()
        assert not watches.before_waiting(lambda: None)
        watches.close()

    asyncio.run(main())


@LOOPS
def test_watches_of_one_event_loop_wait_each_for_its_own(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        watches = watch.new_watches()
        pipes = [os.pipe() for _ in range(200)]  # more than are told of in one turn
        watching = [watches.new() for _ in pipes]
        waits = []
        for each, (read_end, _) in zip(watching, pipes, strict=True):
            each.add(read_end)
            waits.append(asyncio.ensure_future(each.wait()))
        await asyncio.sleep(0)
        os.write(pipes[7][1], b"x")
        await waits[7]
        assert [wait.done() for wait in waits].count(True) == 1

        for number, (_, write_end) in enumerate(pipes):
            os.close(write_end)
            assert not waits[number].done() or number == 7
        await asyncio.gather(*waits)
        for each, (read_end, _) in zip(watching, pipes, strict=True):
            assert list(each.ready()) == [read_end]
            each.close()
            os.close(read_end)
        watches.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
