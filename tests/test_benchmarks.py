"""The benchmarks: the same graphs everywhere, contenders that really run every task, and results that can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import workloads
from benchmarks.contenders import BareLoop, Contender, Floor, MiniFlow, check_every_task_runs, environment
from benchmarks.measure import BenchmarkError, Sample, ratios, rounds, run
from benchmarks.peers import peers
from benchmarks.report import as_markdown, as_text, targets, write_page
from benchmarks.workloads import Workload

ROOT = Path(__file__).parent.parent
QUICK = ("make", "ninja", "xargs")  # starting the others takes longer than all the rest here


def benchmarks(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *args], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )


def tiny(name: str) -> Workload:
    graphs = {"wide": workloads.wide(5), "layered": workloads.layered(9, width=3, needs=2), "fan": workloads.fan(8, width=3)}
    return Workload(name, "?", graphs[name])


def contender(name: str, folder: Path) -> Contender:
    everybody: list[Contender] = [Floor(folder), MiniFlow(), BareLoop(), *peers()]
    found = next(one for one in everybody if one.name == name)
    if reason := found.missing():
        pytest.skip(f"{name}: {reason}")
    return found


@pytest.mark.parametrize("make", [workloads.wide, workloads.chain, workloads.layered, workloads.fan])
@pytest.mark.parametrize("count", [1, 2, 53, 500])
def test_a_graph_is_the_same_each_time_and_has_no_task_before_its_upstream(make, count: int) -> None:
    tasks = make(count)

    assert tasks == make(count)
    assert len(tasks) == count
    assert all(other < number for number, task in enumerate(tasks) for other in task.upstream)


def test_a_layered_graph_has_the_dependencies_that_are_told_of_it() -> None:
    assert sum(len(task.upstream) for task in workloads.layered(10_000)) == 3 * (10_000 - 20)
    assert workloads.layered(61)[60].upstream == (48, 51, 53)  # seeds are fixed


def test_the_shortest_time_is_that_of_the_longest_path_or_of_all_work_shared() -> None:
    assert workloads.shortest_s(workloads.uneven(0, 3, long_ms=100), slots=2) == pytest.approx(0.3)
    assert workloads.shortest_s(workloads.uneven(10, 1, short_ms=100, long_ms=100), slots=2) == pytest.approx(0.55)


@pytest.mark.parametrize("name", ["floor", "miniflow", "bare loop", *QUICK])
@pytest.mark.parametrize("graph", ["wide", "layered", "fan"])
def test_a_contender_runs_every_task_after_its_upstream(name: str, graph: str, tmp_path: Path) -> None:
    one = contender(name, tmp_path)
    if not one.can_run(tiny(graph)):
        pytest.skip("it knows no dependencies")
    (tmp_path / "place").mkdir()

    check_every_task_runs(one, tiny(graph), tmp_path / "place")


@pytest.mark.stress
@pytest.mark.parametrize("name", ["doit", "dask"])
def test_a_contender_in_python_runs_every_task_after_its_upstream(name: str, tmp_path: Path) -> None:
    one = contender(name, tmp_path)
    (tmp_path / "place").mkdir()

    check_every_task_runs(one, tiny("layered"), tmp_path / "place")


def test_a_contender_that_leaves_a_task_out_is_found_out(tmp_path: Path) -> None:
    class Lazy(MiniFlow):
        def prepare(self, workload, folder):
            return super().prepare(Workload("fewer", "?", workload.tasks[:-1], interpreter=workload.interpreter), folder)

    with pytest.raises(BenchmarkError, match="has run 4 of 5 tasks"):
        check_every_task_runs(Lazy(), tiny("wide"), tmp_path)


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="has ended with 3:\nno"):
        run(["sh", "-c", "echo no >&2; exit 3"], cwd=tmp_path, env=environment())


def test_cpu_time_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    burn = (
        f"import subprocess; subprocess.run([{sys.executable!r}, '-c', 'import time\\nwhile time.process_time() < 0.3: pass'])"
    )

    assert run([sys.executable, "-c", burn], cwd=tmp_path, env=environment()).cpu_s >= 0.3


def test_rounds_take_turns_and_ratios_are_within_a_round() -> None:
    called: list[str] = []

    def measured(name: str, factor: float):
        return lambda: (called.append(name), Sample(factor * len(called), 0.0))[1]

    samples = rounds({"a": measured("a", 1), "b": measured("b", 2)}, 2)

    assert called == ["a", "b", "b", "a"]
    assert ratios(samples["b"], samples["a"]).least == pytest.approx(2 * 3 / 4)
    assert ratios(samples["b"], samples["a"]).most == pytest.approx(2 * 2 / 1)


def test_one_command_measures_checks_and_writes_json(tmp_path: Path) -> None:
    said = benchmarks("small", "--quick", "--rounds", "1", "--against", "floor", "--json", str(tmp_path / "x.json"))

    assert said.returncode == 0, said.stderr
    assert "small: What does the whole command cost" in said.stdout
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["machine"]["cores"] >= 1
    assert written["versions"]["python"]
    (result,) = written["results"]
    assert result["name"] == "small"
    assert {"wall_s", "cpu_s"} <= result["samples"]["miniflow"][0].keys()


def test_a_name_that_does_not_exist_is_refused() -> None:
    said = benchmarks("--only", "wild")

    assert said.returncode == 2
    assert 'there is no "wild"; there are: ' in said.stderr


def test_the_page_has_a_place_for_every_table(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text((ROOT / "benchmarks" / "README.md").read_text())
    names = [
        *workloads.comparisons(quick=True),
        "machine",
        "targets",
        "growth",
        "load",
        "startup",
        "scheduler",
        "capture",
        "drawing",
    ]
    names += ["profile-spawn", "profile-logs", "profile-load", "profile-imports"]

    write_page(page, dict.fromkeys(names, "| here |"))
    once = page.read_text()
    write_page(page, dict.fromkeys(names, "| here |"))

    assert once.count("| here |") == len(names)
    assert page.read_text() == once
    with pytest.raises(ValueError, match="no place for nothing"):
        write_page(page, {"nothing": ""})


def test_a_table_shows_what_was_measured_of_the_targets_and_nothing_else() -> None:
    from benchmarks.report import Result

    measured = Result("x", "?", (), (), figures={"memory-10000": 51.2, "other": 1})

    table = targets([measured])

    assert table.rows == [("memory of MiniFlow itself at 10,000 tasks, MB", "60", "45", "51")]
    assert "| memory of MiniFlow itself at 10,000 tasks, MB | 60 | 45 | 51 |" in as_markdown(table, "today")
    assert as_text(table).splitlines()[-1].split()[-3:] == ["60", "45", "51"]
