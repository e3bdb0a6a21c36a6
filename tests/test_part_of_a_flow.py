"""Running a part of a flow: `--only`, `--from`, `--until`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniflow import FlowError, MiniFlow, ParamsError, UsageError, open_run, plan_flow, render_script, run_flow, write_script
from miniflow.graph import downstream_of
from miniflow.plan import Plan
from miniflow.selection import Selection, selected, upstream_within
from tests.conftest import Space, events
from tests.test_equivalence import World, behaving, check_attempts, check_journals

# a ─► b ─► d ─► f        g ─► h
# └──► c ───┘
# e ────────┘ (of d)
UPSTREAM = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c", "e"], "e": [], "f": ["d"], "g": [], "h": ["g"]}


@pytest.fixture
def project(space: Space, monkeypatch: pytest.MonkeyPatch) -> Space:
    monkeypatch.setenv("RECORDS", str(space.records_dir))
    space.recorder()
    space.flow(flow_of(UPSTREAM))
    return space


def flow_of(upstream: Mapping[str, Sequence[str]], **fields: Any) -> dict[str, Any]:
    tasks = [{"id": name, "script": "record.py", "depends_on": needed} for name, needed in upstream.items()]
    return {"name": "demo", "tasks": tasks, **fields}


def plan_of(project: Space, flow: Any = "demo", **options: Any) -> Plan:
    return plan_flow(flow, **project.directories, **options)


def ids(plan: Plan) -> str:
    return "".join(task.id for task in plan.tasks)


# --- what is selected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"only": "d"}, "d"),
        ({"only": ["f", "a"]}, "af"),
        ({"only": ("a", "a")}, "a"),
        ({"from_": "d"}, "df"),
        ({"from_": ["b", "g"]}, "bdfgh"),
        ({"until": "d"}, "abcde"),
        ({"until": ["b", "h"]}, "abgh"),
        ({"from_": "a", "until": "d"}, "abcd"),
        ({"from_": ["b", "e"], "until": "d"}, "bde"),
        ({"from_": ["a", "g"], "until": ["b", "h"]}, "abgh"),
        ({"from_": "d", "until": "d"}, "d"),
        ({"only": "g", "from_": "d"}, "dfg"),
        ({"only": "h", "from_": "b", "until": "d"}, "bdh"),
        ({}, "abcdefgh"),
        ({"only": None, "from_": None, "until": None}, "abcdefgh"),
    ],
)
def test_tasks_are_selected_by_what_leads_to_them_and_what_follows(project: Space, options: Any, expected: str) -> None:
    assert ids(plan_of(project, **options)) == expected


@st.composite
def selections(draw: st.DrawFn) -> tuple[list[list[int]], Selection]:
    size = draw(st.integers(1, 9))
    upstream = [draw(st.lists(st.integers(0, task - 1), unique=True, max_size=3)) if task else [] for task in range(size)]
    names = st.lists(st.integers(0, size - 1).map(str), unique=True, max_size=2).map(tuple)
    return upstream, Selection(draw(names), draw(names), draw(names))


@given(selections())
def test_a_selection_is_what_its_words_say(drawn: tuple[list[list[int]], Selection]) -> None:
    upstream, selection = drawn

    def leads(first: int, last: int) -> bool:
        return first == last or any(leads(first, needed) for needed in upstream[last])

    size = range(len(upstream))
    after = {task for task in size if any(leads(int(name), task) for name in selection.from_)}
    before = {task for task in size if any(leads(task, int(name)) for name in selection.until)}
    both = after & before if selection.from_ and selection.until else after | before
    if selection.from_ and selection.until and not both:
        with pytest.raises(UsageError, match="lies between"):
            selected(selection, "demo", list(map(str, size)), upstream)
    else:
        expected = sorted(both | set(map(int, selection.only)))
        assert selected(selection, "demo", list(map(str, size)), upstream) == expected


def test_a_long_chain_needs_no_recursion() -> None:
    upstream = [[task - 1] if task else [] for task in range(50_000)]
    names = list(map(str, range(50_000)))
    assert selected(Selection(from_=("10",), until=("49990",)), "demo", names, upstream) == list(range(10, 49_991))
    assert upstream_within([0, 49_999], upstream) == [(), (0,)]
    assert len(downstream_of(upstream)) == 50_000


@given(selections())
def test_what_is_selected_waits_for_what_leads_to_it_by_way_of_others(drawn: tuple[list[list[int]], Selection]) -> None:
    upstream, selection = drawn
    chosen = sorted({int(name) for _, names in selection.named() for name in names})

    def nearest(task: int) -> set[int]:
        return {found for needed in upstream[task] for found in ({needed} if needed in chosen else nearest(needed))}

    waits = upstream_within(chosen, upstream)

    assert [set(each) for each in waits] == [nearest(task) for task in chosen]
    assert all(len(set(each)) == len(each) for each in waits)


# --- what is not selected counts as done


def test_a_dependency_on_what_is_not_selected_is_dropped(project: Space) -> None:
    plan = plan_of(project, from_="b")
    assert {task.id: [plan.tasks[index].id for index in task.upstream] for task in plan.tasks} == {
        "b": [], "d": ["b"], "f": ["d"],
    }  # fmt: skip


def test_tasks_keep_their_order_by_way_of_what_is_not_selected(project: Space) -> None:
    plan = plan_of(project, only=["f", "a", "e"])
    assert {task.id: [plan.tasks[index].id for index in task.upstream] for task in plan.tasks} == {
        "a": [], "e": [], "f": ["a", "e"],
    }  # fmt: skip


@pytest.mark.parametrize("rule", ["all_success", "all_done", "one_failed"])
@pytest.mark.parametrize("by", ["bash", "scheduler"])
def test_a_task_none_of_whose_upstream_is_selected_runs_whatever_its_rule(tmp_path: Path, rule: str, by: str) -> None:
    flow = {"name": "demo", "tasks": [behaving("a"), behaving("b", depends_on=["a"], trigger_rule=rule)]}
    world = World(tmp_path, flow, keep_going=False, only="b")
    run = world.bash() if by == "bash" else world.scheduler(1)
    assert run.ends() == {"b": ("succeeded", "exit", 0, None, 1)}


def test_a_rule_is_judged_by_the_upstream_that_is_selected(tmp_path: Path) -> None:
    tasks = [
        behaving("a", 1),
        behaving("b", depends_on=["a"]),
        behaving("c", depends_on=["a", "b"]),
        behaving("d", depends_on=["a", "c"], trigger_rule="one_failed"),
    ]
    world = World(tmp_path, {"name": "demo", "tasks": tasks}, keep_going=False, from_="b")
    by_bash, by_one = world.bash(), world.scheduler(1)
    assert by_one.ends() == {
        "b": ("succeeded", "exit", 0, None, 1),
        "c": ("succeeded", "exit", 0, None, 1),
        "d": ("skipped", "no_failure", None, None, 0),
    }
    assert by_bash.ends() == by_one.ends()
    check_attempts(world, by_bash, by_one)
    check_journals(by_bash, by_one)


def test_fail_fast_ends_a_part_as_it_does_a_whole(tmp_path: Path) -> None:
    tasks = [behaving("a"), behaving("b", 1, depends_on=["a"]), behaving("c", depends_on=["a"])]
    world = World(tmp_path, {"name": "demo", "tasks": tasks}, keep_going=False, only=["b", "c"])
    assert world.scheduler(1).ends()["c"] == world.bash().ends()["c"] == ("cancelled", "fail_fast", None, None, 0)


# --- what tells of it


def test_plan_script_events_and_summary_hold_the_selected_tasks_alone(project: Space) -> None:
    done = project.miniflow("run", "demo", "--from", "b", "--from=c", "--until", "d", "--only", "h")
    assert done.returncode == 0
    run_dir = project.latest("demo")
    plan = json.loads((run_dir / "plan.json").read_text())
    assert [task["id"] for task in plan["tasks"]] == ["b", "c", "d", "h"]
    assert plan["selection"] == {"only": ["h"], "from": ["b", "c"], "until": ["d"]}
    journal = events(run_dir)
    assert journal[0]["tasks"] == 4
    assert {event["task_id"] for event in journal if "task_id" in event} == {"b", "c", "d", "h"}
    assert json.loads((run_dir / "run.json").read_text())["tasks"].keys() == {"b", "c", "d", "h"}
    assert {key.partition(".")[0] for key in project.records()} == {"b", "c", "d", "h"}
    assert "\n# A part of the flow: --only h --from b --from c --until d. " in (run_dir / "flow.sh").read_text()


def test_a_whole_flow_has_nothing_of_a_selection(project: Space) -> None:
    plan = plan_of(project)
    assert "selection" not in plan.to_json()
    assert "A part of the flow" not in render_script(plan)


def test_the_script_of_a_part_runs_that_part(project: Space) -> None:
    script = project.path / project.miniflow("run", "demo", "--until", "b", "--dry-run").stdout.strip()
    assert script == project.output_dir / "demo.sh"
    assert project.bash(script).returncode == 0
    assert {event["task_id"] for event in events(project.latest("demo")) if "task_id" in event} == {"a", "b"}


@pytest.mark.anyio
async def test_run_flow_and_open_run_take_a_selection_too(project: Space) -> None:
    result = await run_flow("demo", only="a", **project.directories)
    assert (result.state, list(result.tasks)) == ("succeeded", ["a"])
    async with open_run("demo", from_=["d"], until="d", **project.directories) as run:
        assert [task.id for task in run.plan.tasks] == ["d"]


def test_execute_flow_takes_a_selection_too(project: Space) -> None:
    flows = MiniFlow(project.flows_dir, project.tasks_dir, project.output_dir)
    flows.execute_flow("demo", only=["a", "g"])
    assert {key.partition(".")[0] for key in project.records()} == {"a", "g"}
    first = flows.execute_flow("demo", dry_run=True, from_="d", until="f").read_bytes()
    assert first == write_script(plan_of(project, from_="d", until="f")).read_bytes()


@pytest.mark.parametrize("by", ["script", "scheduler"])
def test_a_part_needs_only_the_secrets_of_its_own_tasks(project: Space, by: str) -> None:
    flow = flow_of({"a": [], "b": []})
    flow["tasks"][1]["secret_env"] = ["MISSING"]
    project.flow(flow)
    for part, exit_status in (("a", 0), ("b", 2)):
        if by == "script":
            done = project.bash(write_script(plan_of(project, only=part)))
        else:
            done = project.miniflow("run", "demo", "--only", part)
        assert done.returncode == exit_status
        assert ("MISSING" in done.stderr) == (part == "b")


# --- mistakes


def test_ids_that_are_none_are_named_together_with_near_misses(space: Space) -> None:
    space.recorder()
    space.flow(flow_of({"fetch_data": [], "report": ["fetch_data"]}))
    done = space.miniflow("run", "demo", "--only", "fetch_dta", "--only", "x" * 3, "--until", "Report")
    assert done.stderr.splitlines() == [
        'error: only: flow "demo" has no task "fetch_dta"; did you mean "fetch_data"?',
        'only: flow "demo" has no task "xxx"',
        'until: flow "demo" has no task "Report"; did you mean "report"?',
    ]
    assert done.returncode == 2
    assert not space.output_dir.exists()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_where_nothing_lies_between_there_is_nothing_to_run(project: Space, dry: list[str]) -> None:
    done = project.miniflow("run", "demo", "--from", "d", "--until", "a", "--until", "h", "--only", "g", *dry)
    assert done.stderr == 'error: from, until: nothing of flow "demo" lies between "d" and "a" or "h"\n'
    assert done.returncode == 2
    assert not project.output_dir.exists()


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["only", "from_", "until"])
@pytest.mark.parametrize("value", [[], 5, ["a", 5], b"a", {"a"}])
async def test_what_is_no_id_nor_ids_is_a_usage_error(project: Space, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name} (must be the id of a task, or a sequence of ids, not |names no task$)"):
        await run_flow("demo", **{name: value}, **project.directories)
    assert not project.output_dir.exists()


def test_an_empty_id_is_no_tasks(project: Space) -> None:
    assert project.miniflow("run", "demo", "--only", "").stderr == 'error: only: flow "demo" has no task ""\n'


def test_what_is_wrong_elsewhere_in_the_flow_is_an_error_all_the_same(project: Space) -> None:
    flow = flow_of(UPSTREAM)
    flow["tasks"][7]["args"] = ["{{ params.gone }}"]
    with pytest.raises(FlowError, match='no parameter "gone"'):
        plan_of(project, flow, only="a")
    with pytest.raises(ParamsError):
        plan_of(project, flow_of(UPSTREAM, params={"p": 1}), only="a", params={"q": 2})
