"""What stands first on the page: how the run ended, what it was, and what went wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from miniflow.outcomes import outcome
from miniflow.report.contents import Contents
from miniflow.report.markup import Content, Html, element, join
from miniflow.report.table import command, shown_log
from miniflow.report.words import STATES, link, shown_count, shown_duration, shown_time, state_of

if TYPE_CHECKING:
    from miniflow.timeline import TaskTimeline, Timeline

_MOST_OF_A_PATH = 12
"""Tasks of a critical path that are named; of a longer one the first and the last."""
_NO_END = {
    "running": "This run goes on: here is what was recorded until now.",
    "interrupted": "The runner died before it could record an end.",
}
_GO_ON = " With --resume a new run goes on from here."
_MOST_OF_A_PARAM = 2000


def overview(contents: Contents) -> Html:
    """Return the summary."""
    timeline = contents.timeline
    facts: list[tuple[str, Content]] = [
        ("Run", element("code", timeline.run_id)),
        ("Started", _time(timeline.started_at)),
        ("As of", _time(contents.made_at)) if timeline.state == "running" else ("Finished", _time(timeline.finished_at)),
        ("Duration" if timeline.finished_at else "Duration, as recorded", shown_duration(timeline.duration_s)),
        ("Exit status", "–" if timeline.exit_status is None else str(timeline.exit_status)),
        ("Parallel", str(timeline.parallel)),
        ("After a failure", "keeps going" if timeline.keep_going else "starts no more (fail-fast)"),
    ]
    if timeline.resumed_from:
        facts.append(("Resumes", element("code", timeline.resumed_from)))
    parts = [element("dl", *map(_fact, facts), class_="facts"), _bar(timeline)]
    if said := timeline.error or _NO_END.get(timeline.state):
        go_on = _GO_ON if timeline.state == "interrupted" and contents.has_plan else ""
        parts.insert(0, element("p", said + go_on, class_=f"note {timeline.state}"))
    if timeline.params:
        parts.append(_params(timeline))
    if timeline.critical_path:
        parts.append(_critical_path(timeline))
    return join(parts)


def _fact(fact: tuple[str, Content]) -> Html:
    return element("div", element("dt", fact[0]), element("dd", fact[1]))


def _time(timestamp: str | None) -> Html:
    return element("time", shown_time(timestamp), datetime=timestamp) if timestamp else Html("–")


def _bar(timeline: Timeline) -> Html:
    """Return how many tasks are in each state, as numbers and as a bar."""
    states = [state_of(task) for task in timeline.tasks]
    counts = {state: states.count(state) for state in reversed(STATES) if state in states}
    rects, x = [], 0.0
    for state, count in counts.items():
        width = 100.0 * count / len(states)
        rects.append(element("rect", x=f"{x:.3f}%", width=f"{width:.3f}%", height="100%", class_=state))
        x += width
    said = [element("li", element("b", f"{count:,}"), f" {state}", class_=f"state {state}") for state, count in counts.items()]
    return element(
        "div", element("svg", *rects, aria_hidden="true", class_="bar"), element("ul", *said, class_="counts"), class_="states"
    )


def _params(timeline: Timeline) -> Html:
    rows = []
    for name, value in timeline.params.items():
        shown = json.dumps(value, ensure_ascii=False)
        if len(shown) > _MOST_OF_A_PARAM:
            shown = f"{shown[:_MOST_OF_A_PARAM]} … ({len(shown):,} characters)"
        rows.append(_fact((name, element("code", shown))))
    return Html(element("h3", "Parameters") + element("dl", *rows, class_="params"))


def _critical_path(timeline: Timeline) -> Html:
    path = timeline.critical_path
    took = {task.id: task.duration_s for task in timeline.tasks}
    near = _MOST_OF_A_PATH // 2
    shown = path if len(path) <= _MOST_OF_A_PATH else (*path[:near], None, *path[-near:])
    items = [
        element("li", element("a", task_id, href=link(task_id)), element("span", shown_duration(took.get(task_id))))
        if task_id is not None
        else element("li", f"{len(path) - 2 * near:,} more")
        for task_id in shown
    ]
    said = f"What the run's duration was made of: {shown_count(len(path), 'task')}. To be faster, begin here."
    return Html(element("h3", "Critical path") + element("p", said, class_="muted") + element("ol", *items, class_="path"))


def first_failure(contents: Contents) -> Html | None:
    """Return what failed first, with its last lines; None if nothing has failed."""
    failed = [task for task in contents.timeline.tasks if task.state == "failed"]
    if not failed:
        return None
    first = min(failed, key=lambda task: task.ended_s if task.ended_s is not None else float("inf"))
    parts = [element("p", element("a", first.id, href=link(first.id)), _said(first))]
    if again := contents.again.get(first.id):
        parts += [element("p", "Try it again:", class_="muted"), command(again)]
    if log := contents.logs.get(first.id):
        parts.append(shown_log(log))
    others = sorted((task for task in failed if task is not first), key=lambda task: task.ended_s or 0.0)
    if others:
        shown = [element("a", task.id, href=link(task.id)) for task in others[:_MOST_OF_A_PATH]]
        more = f" and {len(others) - len(shown):,} more" if len(others) > len(shown) else ""
        parts.append(element("p", "Then failed ", join(shown, ", "), f"{more}."))
    return join(parts)


def _said(task: TaskTimeline) -> str:
    when = f", {shown_duration(task.ended_s)} into the run" if task.ended_s is not None else ""
    return f" {outcome(task)}{when}."
