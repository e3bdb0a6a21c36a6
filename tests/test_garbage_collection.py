"""Loading a flow is not disturbed by the garbage collector, and leaves it as it was."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from collections.abc import Iterator

import pytest

import miniflow
from miniflow.collector import paused
from tests.conftest import Space


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    enabled = gc.isenabled()
    yield
    (gc.enable if enabled else gc.disable)()


def test_loading_and_planning_a_large_flow_causes_hardly_a_collection(space: Space) -> None:
    space.script("a.py")
    flow = {"name": "large", "tasks": [{"id": f"t{n}", "script": "a.py", "args": {"n": n}} for n in range(5000)]}
    path = space.flow(flow)
    seen: list[str] = []
    directories = {name: space.directories[name] for name in ("flows_dir", "tasks_dir")}
    miniflow.load_flow(path, **directories)  # all modules are there now
    gc.enable()
    gc.callbacks.append(lambda phase, _: seen.append(phase))
    try:
        gc.collect()
        seen.clear()
        plan = miniflow.plan_flow(path, **space.directories)
    finally:
        gc.callbacks.pop()

    assert len(plan.tasks) == 5000
    assert seen.count("start") <= 4  # between the two, and after them; else it would be dozens


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_after_loading(space: Space, enabled: bool) -> None:
    space.script("a.py")
    path = space.flow({"name": "x", "tasks": [{"id": "a", "script": "a.py"}]})
    (gc.enable if enabled else gc.disable)()

    miniflow.plan_flow(path, **space.directories)
    assert gc.isenabled() is enabled

    with pytest.raises(miniflow.FlowError):
        miniflow.plan_flow("missing", **space.directories)
    assert gc.isenabled() is enabled


def test_it_pauses_until_the_last_of_several_who_load_at_once_is_done() -> None:
    gc.enable()
    first_is_in, first_may_go = threading.Event(), threading.Event()
    seen = []

    def first() -> None:
        with paused():
            first_is_in.set()
            first_may_go.wait()

    thread = threading.Thread(target=first)
    thread.start()
    first_is_in.wait()
    with paused():
        first_may_go.set()
        thread.join()
        seen.append(gc.isenabled())
    seen.append(gc.isenabled())

    assert seen == [False, True]


@pytest.mark.parametrize("enabled", [True, False])
def test_a_child_that_is_forked_meanwhile_has_it_as_it_was(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    is_in, may_go = threading.Event(), threading.Event()

    def load() -> None:
        with paused():
            is_in.set()
            may_go.wait()

    def child() -> None:
        as_forked = gc.isenabled()
        with paused():
            within = gc.isenabled()
        os._exit(0 if (as_forked, within, gc.isenabled()) == (enabled, False, enabled) else 1)

    thread = threading.Thread(target=load)
    thread.start()
    is_in.wait()
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    may_go.set()
    thread.join()

    assert process.exitcode == 0
    assert gc.isenabled() is enabled
