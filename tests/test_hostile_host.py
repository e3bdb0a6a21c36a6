"""A host that lets MiniFlow down: full disks, directories that go away, clocks that jump, many runs at one place.

Every run is loud about it, stops cleanly, exits with something else than 0, and calls nothing a success that was none.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from miniflow import RunResult, read_run, run_flow
from tests.conftest import Space, events
from tests.judging import ARGS, Faulty, clear, judge, put_flows

# --- a disk that is full


@pytest.fixture
def faulty(space: Space) -> Iterator[Faulty]:
    server = Faulty(space)
    yield server
    server.close()


def test_a_disk_that_is_full_after_some_thousands_of_bytes_is_told(faulty: Faulty) -> None:
    room = 0
    while faulty.run("good", "disk", room, errno.ENOSPC):
        room += 3989

    assert not faulty.problems, "\n".join(faulty.problems)
    assert room > 10_000


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("flow", ["good", "bad"])
def test_a_disk_that_is_full_after_any_number_of_bytes_is_told(faulty: Faulty, flow: str) -> None:
    room = 0
    while faulty.run(flow, "disk", room, errno.EDQUOT):
        room += 11  # more lines than one are cut at each place

    assert not faulty.problems, "\n".join(faulty.problems)


def judged(space: Space, command: list[str]) -> int:
    """Run a command that runs the flow `good`, and judge it; return its exit status."""
    clear(space)
    process = subprocess.run(
        command,
        cwd=space.path,
        env=space.environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        judge(space, "good", process.returncode, process.stdout, process.stderr)
    except (AssertionError, LookupError) as error:
        raise AssertionError(f"{command}: {process}") from error
    return process.returncode


# A file system of our own, in a name space of our own, whose files are copied to where they can be looked at.
ON_A_SMALL_DISK = 'mount -t tmpfs -o "$1" none disk || exit 99; shift; "$@"; status=$?; cp -a disk/. out; exit $status'


def small_disk(space: Space, options: str) -> int:
    (space.path / "disk").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "miniflow", "-o", "disk", *ARGS, "good"]
    name_space = ["unshare", "--user", "--map-root-user", "--mount"]
    return judged(space, [*name_space, "bash", "-c", ON_A_SMALL_DISK, "bash", options, *command])


def has_name_spaces() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


needs_name_spaces = pytest.mark.skipif(not has_name_spaces(), reason="no file system may be mounted here")


@needs_name_spaces
@pytest.mark.parametrize("limit", ["size", "nr_inodes"])
def test_a_small_file_system_that_fills_up_is_told(space: Space, limit: str) -> None:
    put_flows(space)
    statuses = [
        small_disk(space, f"size={4 * n}k,nr_inodes=1k" if limit == "size" else f"nr_inodes={n}") for n in (1, 5, 8, 12, 24)
    ]

    assert set(statuses) == {0, 2}
    assert statuses[0] == 2
    assert statuses[-1] == 0


@needs_name_spaces
def test_an_output_directory_that_is_read_only_is_refused(space: Space) -> None:
    put_flows(space)

    assert small_disk(space, "ro") == 2


@pytest.mark.parametrize("limit", [0, 100, 1000, 2000, 30_000])
def test_a_limit_on_the_size_of_files_is_told(space: Space, limit: int) -> None:
    put_flows(space)
    program = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'miniflow', *sys.argv[2:]])"
    )

    status = judged(space, [sys.executable, "-c", program, str(limit), "-o", str(space.output_dir), *ARGS, "good"])

    assert status == (0 if limit == 30_000 else 2)


# --- a place that is none


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_directory_without_permission_is_refused(space: Space) -> None:
    put_flows(space)
    space.output_dir.mkdir(mode=0o500)

    for dry_run in ([], ["--dry-run"]):
        result = space.miniflow("run", "good", *dry_run)
        assert result.returncode == 2
        assert result.stderr.startswith("error: cannot write ")
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
@pytest.mark.parametrize("place", ["file", "file/below", "dangling", "loop", "/proc/none", "x" * 300])
def test_an_output_directory_that_cannot_be_one_is_refused(space: Space, place: str, dry_run: list[str]) -> None:
    put_flows(space)
    (space.path / "file").touch()
    (space.path / "dangling").symlink_to(space.path / "nothing/there")
    (space.path / "loop").symlink_to("loop")

    result = space.miniflow("-o", place, "run", "good", *dry_run)

    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_the_parents_of_an_output_directory_are_made(space: Space) -> None:
    put_flows(space)

    assert space.miniflow("-o", "a/b/c", "run", "good").returncode == 0
    assert read_run(space.path / "a/b/c/good/latest").state == "succeeded"


# --- a task that destroys the record

DESTROYERS = {
    "the run directory": 'rm -r "$MINIFLOW_RUN_DIR"',
    "the output directory": 'rm -r "${MINIFLOW_RUN_DIR%/*/*}"',
    "all logs": 'rm -r "$MINIFLOW_RUN_DIR/logs"',
    "its own log": 'rm "$MINIFLOW_RUN_DIR/logs/evil".*',
    "the journal": 'rm "$MINIFLOW_RUN_DIR/events.jsonl"',
    "the statuses": 'rm -r "$MINIFLOW_RUN_DIR/status"; touch "$MINIFLOW_RUN_DIR/status"',
    "the place": 'mv "$MINIFLOW_RUN_DIR" elsewhere; mkdir -p other/status other/logs; ln -s "$PWD/other" "$MINIFLOW_RUN_DIR"',
}
ONCE_LOGGED = 'echo one; until compgen -G "$MINIFLOW_RUN_DIR/logs/evil.*" >/dev/null; do :; done'


def put_destroyer(space: Space, what: str) -> None:
    space.script("evil.sh", f"{ONCE_LOGGED}\n{DESTROYERS[what]}\n")
    space.script("next.sh", "exit 0")
    tasks = [{"id": "evil", "script": "evil.sh"}, {"id": "next", "script": "next.sh", "depends_on": "evil"}]
    space.flow({"name": "f", "tasks": tasks})


@pytest.mark.parametrize("what", DESTROYERS)
def test_a_run_whose_task_destroys_it_is_no_success(space: Space, what: str) -> None:
    put_destroyer(space, what)

    result = space.miniflow("run", "f")

    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("what", [what for what in DESTROYERS if what not in ("its own log", "the journal", "the place")])
def test_a_script_whose_task_destroys_its_record_is_no_success(space: Space, what: str) -> None:
    put_destroyer(space, what)
    assert space.miniflow("run", "f", "--dry-run").returncode == 0
    script = space.path / "f.sh"
    (space.output_dir / "f.sh").rename(script)

    result = space.bash(script)

    assert result.returncode not in (0, 1)
    assert "cannot write" in result.stderr


# --- a clock that jumps


def one_task(space: Space) -> dict[str, object]:
    space.script("task.sh", 'echo "$MINIFLOW_RUN_ID $MINIFLOW_PARAMS"')
    return {"name": "f", "tasks": [{"id": f"t{n}", "script": "task.sh"} for n in range(3)]}


@pytest.mark.parametrize("step_s", [86_400, -86_400])
def test_a_clock_that_jumps_does_not_change_durations(
    space: Space, monkeypatch: pytest.MonkeyPatch, step_s: int, anyio_backend: str
) -> None:
    jumps = itertools.count(time.time_ns(), step_s * 10**9)
    monkeypatch.setattr(time, "time_ns", lambda: next(jumps))
    flow = one_task(space)
    began = time.monotonic()

    async def main() -> RunResult:
        return await run_flow(flow, **space.directories)

    result = anyio.run(main, backend=anyio_backend)

    assert result.state == "succeeded"
    assert result.duration is not None
    for duration in (result.duration, *(task.duration for task in result.tasks.values())):
        assert 0 <= duration <= time.monotonic() - began
    assert read_run(result.run_dir) == result


def test_runs_of_the_same_instant_have_a_directory_each(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    now, random = time.time_ns(), os.urandom
    runs = itertools.count()
    # The clock stands still, and chance gives the same to several.
    monkeypatch.setattr(time, "time_ns", lambda: now)
    monkeypatch.setattr(os, "urandom", lambda n: (next(runs) // 40).to_bytes(3, "big") if n == 3 else random(n))
    flow = one_task(space)
    results: list[RunResult] = []

    async def main() -> None:
        async def one() -> None:
            results.append(await run_flow(flow, **space.directories))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(one)

    anyio.run(main)

    assert len({result.run_id for result in results}) == 4
    check_runs(space, 4)


# --- many runs at one place


def check_runs(space: Space, count: int) -> None:
    """See that each run directory of `f` tells of one run alone, its own, and completely."""
    folders = [path for path in (space.output_dir / "f").iterdir() if path.name != "latest"]
    assert len(folders) == count
    assert space.latest("f") in [folder.resolve() for folder in folders]
    seen = set()
    for folder in folders:
        journal = events(folder)
        assert {event["run_id"] for event in journal} == {folder.name}
        assert [event["event"] for event in journal].count("run.started") == 1
        assert journal[-1]["event"] == "run.finished"
        assert read_run(folder).state == "succeeded"
        assert json.loads((folder / "run.json").read_text())["run_id"] == folder.name
        assert {path.name: path.read_text() for path in (folder / "status").iterdir()} == {f"t{n}": "0\n" for n in range(3)}
        for n in range(3):
            log = [json.loads(line) for line in (folder / f"logs/t{n}.jsonl").read_text().splitlines()]
            assert {(event["run_id"], event["task_id"]) for event in log} == {(folder.name, f"t{n}")}
            (line,) = [event["message"] for event in log if event["event"] == "task.output"]
            assert line.startswith(folder.name)
            seen.add(line)
    assert len(seen) == count


def many_runs_in_one_process(space: Space, count: int, backend: str) -> None:
    flow = one_task(space)

    async def main() -> None:
        async def one(n: int) -> None:
            assert (await run_flow(flow, params={"n": n}, parallel=2, **space.directories)).state == "succeeded"

        async with anyio.create_task_group() as group:
            for n in range(count):
                group.start_soon(one, n)

    anyio.run(main, backend=backend)

    check_runs(space, count)


def test_a_dozen_runs_at_once_in_one_process_do_not_mix(space: Space, anyio_backend: str) -> None:
    many_runs_in_one_process(space, 12, anyio_backend)


@pytest.mark.stress
def test_100_runs_at_once_in_one_process_do_not_mix(space: Space, anyio_backend: str) -> None:
    many_runs_in_one_process(space, 100, anyio_backend)


def many_runs(space: Space, count: int) -> None:
    space.flow(one_task(space))
    command = [sys.executable, "-m", "miniflow", "-o", str(space.output_dir), "run", "f", "--parallel", "2", "-p"]
    processes = [
        subprocess.Popen(
            [*command, json.dumps({"n": n})],
            cwd=space.path,
            env=space.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for n in range(count)
    ]

    assert [process.wait() for process in processes] == [0] * count
    check_runs(space, count)


@pytest.mark.stress
def test_100_commands_at_once_do_not_mix(space: Space) -> None:
    many_runs(space, 100)


def test_eight_commands_at_once_do_not_mix_and_leave_nothing_but_their_directories(space: Space) -> None:
    many_runs(space, 8)

    assert {path.name for path in space.output_dir.iterdir()} == {"f"}
    assert not list(Path(space.output_dir).rglob(".*"))
