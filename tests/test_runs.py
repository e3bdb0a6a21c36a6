"""`miniflow runs` lists what has been run, and `miniflow runs prune` removes what is no longer wanted."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miniflow import prune as prune_module
from miniflow.errors import OutputError
from miniflow.prune import prune
from miniflow.rundir import RunDir
from miniflow.tables import table
from tests.conftest import Space
from tests.test_timeline import begin, end, finish, record, start

OLDEST = "20260101T000000.000Z-aaaaaa"
OLDER = "20260102T000000.000Z-bbbbbb"
NEWEST = "20260103T000000.000Z-cccccc"
ENDED = (begin(tasks=1), start(0.5, "a"), end(1.5, "a"), finish(1.75))


@pytest.fixture
def three_runs(space: Space) -> Space:
    for run_id in (OLDEST, OLDER, NEWEST):
        run = record(space.path, {"a": []}, *ENDED, run_id=run_id)
    run.become_latest()
    return space


def run_dirs(space: Space, flow: str = "f") -> list[str]:
    return sorted(path.name for path in (space.output_dir / flow).iterdir() if path.name != "latest")


# --- the list ---------------------------------------------------------------------------------------------------------


def test_runs_are_listed_from_the_newest_on(three_runs: Space) -> None:
    shutil.rmtree(three_runs.output_dir / "f" / OLDER)
    record(three_runs.path, {"a": [], "b": []}, begin(tasks=2), start(0, "a"), run_id=OLDER)

    result = three_runs.miniflow("runs", env={"TZ": "Etc/GMT-2"})

    assert result.returncode == 0
    assert result.stdout == (
        "RUN                          FLOW  STATE        EXIT  STARTED              DURATION  TASKS\n"
        "20260103T000000.000Z-cccccc  f     succeeded       0  2026-01-02 05:04:05      1.8s  1 succeeded\n"
        "20260102T000000.000Z-bbbbbb  f     interrupted     -  2026-01-02 05:04:05         -  1 interrupted, 1 pending\n"
        "20260101T000000.000Z-aaaaaa  f     succeeded       0  2026-01-02 05:04:05      1.8s  1 succeeded\n"
    )


def test_as_json_a_run_has_all_that_is_known_of_it(three_runs: Space) -> None:
    result = three_runs.miniflow("runs", "--json", "--limit", "1")

    assert json.loads(result.stdout) == [
        {
            "run_id": NEWEST,
            "flow": "f",
            "state": "succeeded",
            "exit_status": 0,
            "started_at": "2026-01-02T03:04:05.000000Z",
            "finished_at": "2026-01-02T03:04:06.750000Z",
            "duration_s": 1.75,
            "counts": {"succeeded": 1},
            "resumed_from": None,
            "error": None,
            "path": str(three_runs.output_dir / "f" / NEWEST),
        }
    ]


def test_a_run_of_the_script_is_listed_like_one_of_the_scheduler(space: Space) -> None:
    space.script("bad.sh", "exit 3")
    space.flow({"name": "f", "tasks": [{"id": "a", "script": "bad.sh"}, {"id": "b", "script": "bad.sh", "depends_on": "a"}]})
    space.miniflow("run", "f")
    space.miniflow("run", "f", "--dry-run")
    space.bash(space.output_dir / "f.sh")

    by_script, by_scheduler = json.loads(space.miniflow("runs", "f", "--json").stdout)

    own = ("run_id", "path", "started_at", "finished_at", "duration_s")
    assert {key: value for key, value in by_script.items() if key not in own} == {
        key: value for key, value in by_scheduler.items() if key not in own
    }
    assert by_script["counts"] == {"failed": 1, "skipped": 1}


def test_a_run_that_goes_on_is_running(three_runs: Space) -> None:
    run = record(three_runs.path, {"a": []}, *ENDED[:2], run_id="20260104T000000.000Z-dddddd")
    with run.journal.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        (listed,) = json.loads(three_runs.miniflow("runs", "--json", "--limit=1").stdout)

    assert (listed["state"], listed["exit_status"], listed["counts"]) == ("running", None, {"running": 1})


def test_a_summary_that_is_damaged_counts_for_nothing(three_runs: Space) -> None:
    RunDir(three_runs.output_dir / "f" / NEWEST).summary.write_text('{"state": "fai')

    assert [run["state"] for run in json.loads(three_runs.miniflow("runs", "--json").stdout)] == ["succeeded"] * 3


def test_a_directory_that_is_no_run_is_named_and_the_others_are_listed(three_runs: Space) -> None:
    (three_runs.output_dir / "f" / "20260105T000000.000Z-eeeeee").mkdir()

    result = three_runs.miniflow("runs", "f", "--json")

    assert result.returncode == 0
    assert len(json.loads(result.stdout)) == 3
    assert "20260105T000000.000Z-eeeeee is no run directory" in result.stderr


def test_only_as_many_are_listed_as_are_wanted(three_runs: Space) -> None:
    assert len(three_runs.miniflow("runs", "--limit", "2").stdout.splitlines()) == 3
    assert len(three_runs.miniflow("runs", "--limit", "0").stdout.splitlines()) == 4


def test_a_flow_that_has_not_been_run_is_a_mistake(three_runs: Space) -> None:
    three_runs.output_dir.joinpath("sample").mkdir()
    result = three_runs.miniflow("runs", "smaple")

    assert result.returncode == 2
    assert 'flow "smaple" has not been run yet' in result.stderr
    assert 'did you mean "sample"?' in result.stderr


@pytest.mark.parametrize("name", ["../out/f", "..", ".", "a/b", ""])
def test_no_flow_leads_elsewhere(three_runs: Space, name: str) -> None:
    result = three_runs.miniflow("runs", "prune", "--keep", "0", "--", name)

    assert result.returncode == 2
    assert "has not been run yet" in result.stderr
    assert len(run_dirs(three_runs)) == 3


def test_without_any_run_the_list_is_empty(space: Space) -> None:
    result = space.miniflow("runs")

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "No runs here.\n")
    assert json.loads(space.miniflow("runs", "--json").stdout) == []


def test_a_flow_that_is_called_prune_is_reached_after_two_dashes(space: Space) -> None:
    space.script("ok.sh")
    space.flow({"name": "prune", "tasks": [{"id": "a", "script": "ok.sh"}]})
    space.miniflow("run", "prune")

    assert " prune " in space.miniflow("runs", "--", "prune").stdout
    assert " prune " in space.miniflow("runs", "--limit", "3", "prune").stdout


def test_states_are_coloured_where_colours_are_wanted() -> None:
    heading, row = table(("RUN", "STATE"), [("x\x1b[2J", "failed")], colors=True)

    assert heading == "\x1b[1mRUN\x1b[0m       \x1b[1mSTATE\x1b[0m"
    assert row == "x\\x1b[2J  \x1b[31mfailed\x1b[0m"


# --- prune ------------------------------------------------------------------------------------------------------------


def test_the_newest_are_kept_of_each_flow(three_runs: Space) -> None:
    other = three_runs.output_dir / "g"
    shutil.copytree(three_runs.output_dir / "f", other, symlinks=True)

    result = three_runs.miniflow("runs", "prune", "--keep", "2")

    assert result.returncode == 0
    assert result.stdout == "".join(f"removed {three_runs.output_dir / flow / OLDEST}\n" for flow in ("f", "g"))
    assert run_dirs(three_runs, "f") == run_dirs(three_runs, "g") == [OLDER, NEWEST]


def test_of_one_flow_alone(three_runs: Space) -> None:
    shutil.copytree(three_runs.output_dir / "f", three_runs.output_dir / "g", symlinks=True)

    three_runs.miniflow("runs", "prune", "f", "--keep=1")

    assert run_dirs(three_runs, "f") == [NEWEST]
    assert len(run_dirs(three_runs, "g")) == 3


def test_the_older_are_removed(three_runs: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune_module.time, "time", lambda: prune_module._began_s(NEWEST) + 3600)

    prune(three_runs.output_dir, older_than_s=25 * 3600 + 1)
    assert run_dirs(three_runs) == [OLDER, NEWEST]
    prune(three_runs.output_dir, keep=2, older_than_s=0)
    assert run_dirs(three_runs) == [OLDER, NEWEST]


def test_how_old_is_said_as_people_write_durations(three_runs: Space) -> None:
    (three_runs.output_dir / "f" / OLDEST).rename(three_runs.output_dir / "f" / "29990101T000000.000Z-aaaaaa")

    assert three_runs.miniflow("runs", "prune", "--older-than", "30d").returncode == 0
    assert run_dirs(three_runs) == ["29990101T000000.000Z-aaaaaa"]

    for long in ("400d", "9" * 39 + "d"):
        assert three_runs.miniflow("runs", "prune", "--older-than", long).returncode == 0

    result = three_runs.miniflow("runs", "prune", "--older-than", "a month")
    assert result.returncode == 2
    assert "--older-than must be a duration" in result.stderr


def test_it_has_to_be_said_which(three_runs: Space) -> None:
    result = three_runs.miniflow("runs", "prune")

    assert result.returncode == 2
    assert "--keep N, --older-than DURATION" in result.stderr
    assert len(run_dirs(three_runs)) == 3


def test_a_dry_run_removes_nothing(three_runs: Space) -> None:
    result = three_runs.miniflow("runs", "prune", "--keep", "0", "--dry-run", "--json")

    found = json.loads(result.stdout)
    assert found["dry_run"] is True
    assert [run["run_id"] for run in found["removed"]] == [OLDEST, OLDER, NEWEST]
    assert (found["in_use"], found["errors"]) == ([], [])
    assert len(run_dirs(three_runs)) == 3


def test_a_run_that_goes_on_is_kept(three_runs: Space) -> None:
    run = record(three_runs.path, {"a": []}, *ENDED[:2], run_id="20250101T000000.000Z-dddddd")
    with run.journal.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        result = three_runs.miniflow("runs", "prune", "--keep", "0")

    assert result.returncode == 0
    assert f"kept {run.path}: it goes on\n" in result.stderr
    assert run_dirs(three_runs) == [run.run_id]


def test_a_run_that_another_one_resumes_is_kept(three_runs: Space) -> None:
    with RunDir(three_runs.output_dir / "f" / OLDEST).plan.open("r+b") as resuming:
        fcntl.flock(resuming, fcntl.LOCK_EX)
        result = three_runs.miniflow("runs", "prune", "--keep", "0", "--json")

    assert json.loads(result.stdout)["in_use"] == [{"run_id": OLDEST, "flow": "f", "why": "resumed"}]
    assert run_dirs(three_runs) == [OLDEST]


def test_a_run_that_is_about_to_begin_is_kept(space: Space) -> None:
    from miniflow.rundir import create_run_dir

    run = create_run_dir(space.output_dir, "f")

    assert prune(space.output_dir, "f").in_use[0][1] == "running"
    run.journal.touch()
    assert prune(space.output_dir, "f").in_use[0][1] == "running"
    assert run.path.is_dir()


def test_one_that_never_began_is_removed_when_it_is_old(space: Space) -> None:
    (space.output_dir / "f" / OLDEST).mkdir(parents=True)

    assert [run.run_id for run in prune(space.output_dir).removed] == [OLDEST]


def test_where_there_are_no_locks_a_run_without_an_end_is_kept(three_runs: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    record(three_runs.path, {"a": []}, *ENDED[:2], run_id="20250101T000000.000Z-dddddd")
    monkeypatch.setattr(fcntl, "flock", no_locks)

    prune(three_runs.output_dir)

    assert run_dirs(three_runs) == ["20250101T000000.000Z-dddddd"]


def test_latest_points_to_the_newest_that_is_left(three_runs: Space) -> None:
    latest = three_runs.output_dir / "f" / "latest"
    with RunDir(three_runs.output_dir / "f" / OLDER).plan.open("r+b") as resuming:
        fcntl.flock(resuming, fcntl.LOCK_EX)
        prune(three_runs.output_dir)
    assert os.readlink(latest) == OLDER

    prune(three_runs.output_dir)
    assert not latest.is_symlink()


def test_what_cannot_be_removed_is_named_and_the_rest_is_removed(three_runs: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    rmtree = shutil.rmtree

    def fails_once(path: Path) -> None:
        if OLDER in path.name:
            raise PermissionError(13, "Permission denied", str(path))
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", fails_once)
    pruned = prune(three_runs.output_dir)

    assert [run.run_id for run in pruned.removed] == [OLDEST, NEWEST]
    assert [type(problem) for problem in pruned.problems] == [OutputError]
    assert "Permission denied" in str(pruned.problems[0])


def test_a_removal_that_was_broken_off_is_no_run_and_is_finished_by_the_next(
    three_runs: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(path: Path) -> None:
        (path / "plan.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(shutil, "rmtree", dies)
        with pytest.raises(KeyboardInterrupt):
            prune(three_runs.output_dir, keep=2)
    listed = json.loads(three_runs.miniflow("runs", "--json").stdout)
    assert [run["run_id"] for run in listed] == [NEWEST, OLDER]
    assert run_dirs(three_runs)[0].startswith(".removed-")

    prune(three_runs.output_dir, keep=2)
    assert run_dirs(three_runs) == [OLDER, NEWEST]


def test_a_link_is_not_followed(three_runs: Space) -> None:
    elsewhere = three_runs.path / "elsewhere"
    (three_runs.output_dir / "f" / OLDEST).rename(elsewhere)
    (three_runs.output_dir / "f" / OLDEST).symlink_to(elsewhere)

    result = three_runs.miniflow("runs", "prune", "--keep", "1")

    assert result.returncode == 2
    assert "it is a link" in result.stderr
    assert run_dirs(three_runs) == [OLDEST, NEWEST]
    assert (elsewhere / "events.jsonl").exists()


def test_at_once_two_remove_what_one_would(space: Space) -> None:
    for number in range(40):
        record(space.path, {"a": []}, *ENDED, run_id=f"202601{number % 28 + 1:02d}T{number // 28:06d}.000Z-aaaaaa")
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(prune(space.output_dir))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert run_dirs(space) == []
    assert sorted(run.run_id for pruned in found for run in pruned.removed) == sorted(
        f"202601{number % 28 + 1:02d}T{number // 28:06d}.000Z-aaaaaa" for number in range(40)
    )
    assert [problem for pruned in found for problem in pruned.problems] == []


def test_runs_that_begin_and_end_meanwhile_are_recorded_as_ever(space: Space) -> None:
    space.script("ok.sh")
    space.flow({"name": "f", "tasks": [{"id": "a", "script": "ok.sh"}]})
    is_over = threading.Event()

    def keep_pruning() -> Iterator[None]:
        while not is_over.is_set():
            prune(space.output_dir, keep=1)
            yield

    pruner = threading.Thread(target=lambda: list(keep_pruning()))
    pruner.start()
    try:
        results = [space.miniflow("run", "f") for _ in range(3)]
    finally:
        is_over.set()
        pruner.join()

    assert [result.returncode for result in results] == [0, 0, 0]
    assert space.latest("f").name == max(run_dirs(space))
