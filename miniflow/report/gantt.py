"""The timeline: a row a task, or a row a slot, with attempts as bars over an axis of seconds.

Each row is drawn by itself, in per cent of its width: it fits any page without a script and without styles of its own (which
the page's policy would refuse).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from miniflow.durations import format_duration
from miniflow.report.markup import Html, element, join
from miniflow.report.words import STATES, link, shown_duration, state_of

if TYPE_CHECKING:
    from miniflow.timeline import AttemptTimeline, TaskTimeline, Timeline

_STEPS = (
    *(step * 10**power for power in range(-3, 1) for step in (1, 2, 5)),
    *(10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(hours * 3600 for hours in (1, 2, 3, 6, 12)),
    *(days * 86400 for days in (1, 2, 5, 10, 20, 50, 100, 200)),
)
"""How far apart ticks may be: seconds, in numbers that people count in."""
_MOST_TICKS = 8
_LEAST_NAMED = 4.0
"""How wide a bar of a slot has to be to bear a name, in per cent."""
_MANY = 300
"""Of more rows, a browser draws those alone that are in sight, and what is printed is the slots."""


def ticks(end_s: float) -> list[float]:
    """Return where an axis from 0 to there is marked: few, evenly, and at round numbers."""
    step = next((step for step in _STEPS if end_s / step <= _MOST_TICKS), _STEPS[-1])
    return [round(number * step, 3) for number in range(int(end_s / step + 1e-9) + 1)]


def slots(timeline: Timeline) -> list[list[tuple[TaskTimeline, AttemptTimeline]]]:
    """Return which attempts had which slot, as far as times tell: each has the first that is free when it starts."""
    attempts = sorted(
        ((attempt.started_s, number, attempt, task) for number, task in enumerate(timeline.tasks) for attempt in task.attempts),
        key=lambda item: item[:2],
    )
    found: list[list[tuple[TaskTimeline, AttemptTimeline]]] = []
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    for started_s, _, attempt, task in attempts:
        while busy and busy[0][0] <= started_s:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            slot = heapq.heappop(free)
        else:
            slot = len(found)
            found.append([])
        found[slot].append((task, attempt))
        heapq.heappush(busy, (_end_s(attempt, timeline), slot))
    return found


def gantt(timeline: Timeline) -> Html:
    """Return the timeline, in both its views."""
    scale = _Scale(timeline)
    by_slot = slots(timeline)
    # In the order in which things happened; what has not happened comes last.
    never = timeline.duration_s + 1 if timeline.duration_s is not None else 0.0
    tasks = sorted(timeline.tasks, key=lambda task: _first(task.started_s, task.ended_s, never))
    return element(
        "div",
        _choice("by-task", "One row a task", is_chosen=True),
        _choice("by-slot", "One row a slot", is_chosen=False),
        _legend(timeline, scale),
        _rows("by-task", "Timeline, one row a task", scale, (scale.task_row(task) for task in tasks)),
        _rows("by-slot", "Timeline, one row a slot", scale, map(scale.slot_row, range(1, len(by_slot) + 1), by_slot)),
        class_="gantt many" if len(tasks) > _MANY else "gantt",
    )


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _end_s(attempt: AttemptTimeline, timeline: Timeline) -> float:
    """Return when an attempt ended; of one without an end, as far as is known."""
    return attempt.ended_s if attempt.ended_s is not None else max(timeline.duration_s or 0.0, attempt.started_s)


def _delays(task: TaskTimeline) -> list[tuple[float, float]]:
    """Return from when until when a task waited for its next attempts."""
    pairs = pairwise(task.attempts)
    return [(before.ended_s, after.started_s) for before, after in pairs if before.ended_s is not None]


def _choice(name: str, label: str, *, is_chosen: bool) -> Html:
    """Return a view's radio button; the style shows the view whose button is chosen."""
    button = element("input", type="radio", name="view", id=name, checked=is_chosen)
    return Html(f"{button}{element('label', label, for_=name)}")


def _legend(timeline: Timeline, scale: _Scale) -> Html:
    """Return what the kinds of bars mean that there are."""
    drawn = {_how_it_ended(task, attempt) for task in timeline.tasks for attempt in task.attempts}
    kinds = [(state, f"{state} attempt") for state in STATES if state in drawn]
    if any(_delays(task) for task in timeline.tasks):
        kinds.insert(0, ("delay", "waiting for the next attempt"))
    if any(scale.wait(task) for task in timeline.tasks):
        kinds.insert(0, ("wait", "waiting for a slot"))
    items = [
        element("li", element("svg", _rect(0.0, 100.0, kind), aria_hidden="true", class_="sample"), label)
        for kind, label in kinds
    ]
    if timeline.critical_path:
        bars = _rect(0.0, 100.0, "succeeded"), _rect(0.0, 100.0, "critical")
        mark = element("span", "◆", class_="mark", aria_hidden="true")
        sample = element("svg", *bars, aria_hidden="true", class_="sample")
        items.append(element("li", sample, mark, "on the critical path"))
    return element("ul", *items, class_="legend")


def _rows(name: str, label: str, scale: _Scale, rows: Iterator[Html]) -> Html:
    return element(
        "div",
        element(
            "div",
            scale.axis(),
            element("ol", join(rows)),
            class_="chart",
        ),
        class_=f"rows {name}",
        role="region",
        aria_label=label,
        tabindex=0,
    )


def _percent(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") + "%"


def _rect(x: float, width: float, kind: str | None, title: str | None = None) -> Html:
    inner = element("title", title) if title else None
    return element("rect", inner, x=_percent(x), width=_percent(width), class_=kind)


class _Scale:
    """Where seconds are on the axis, and what is drawn there."""

    def __init__(self, timeline: Timeline) -> None:
        ends = [_end_s(attempt, timeline) for task in timeline.tasks for attempt in task.attempts]
        self._timeline = timeline
        self._end_s = max([timeline.duration_s or 0.0, *ends]) or 1.0

    def _at(self, seconds: float) -> float:
        return min(100.0, max(0.0, 100.0 * seconds / self._end_s))

    def _bar(self, started_s: float, ended_s: float, kind: str | None, title: str | None = None) -> Html:
        return _rect(self._at(started_s), self._at(ended_s) - self._at(started_s), kind, title)

    def wait(self, task: TaskTimeline) -> tuple[float, float] | None:
        """Return from when until when a task waited for its first start, if that can be seen."""
        if task.ready_s is None or task.started_s is None or self._at(task.started_s) - self._at(task.ready_s) < 0.05:
            return None
        return task.ready_s, task.started_s

    def axis(self) -> Html:
        """Return the lines behind all rows, and the numbers above them."""
        places = [(_percent(self._at(seconds)), seconds) for seconds in ticks(self._end_s)]
        lines = [element("line", x1=x, x2=x, y1="0", y2="100%") for x, _ in places]
        labels = [
            element("text", format_duration(seconds) if seconds else "0", x=x, y="14", class_="first" if not seconds else None)
            for x, seconds in places
        ]
        return Html(
            element("svg", *lines, class_="grid", aria_hidden="true")
            + element("div", element("svg", *labels), class_="axis", aria_hidden="true")
        )

    def task_row(self, task: TaskTimeline) -> Html:
        """Return a task's row: its name, when it waited and ran, and how long."""
        parts = [self._bar(*wait, "wait")] if (wait := self.wait(task)) else []
        parts += [self._bar(*delay, "delay") for delay in _delays(task)]
        state = state_of(task)
        if len(task.attempts) == 1:  # the row itself says how it ended, and how long it took
            attempt = task.attempts[0]
            how = _how_it_ended(task, attempt)
            kind = None if how in ("succeeded", "failed") and how == task.state else how
            parts.append(self._bar(attempt.started_s, _end_s(attempt, self._timeline), kind))
        else:
            parts += [self._attempt(task, attempt) for attempt in task.attempts]
        if task.is_critical:
            parts += [self._underline(attempt) for attempt in task.attempts]
        name = element("a", task.id, href=link(task.id), tabindex=-1)
        shown = shown_duration(task.duration_s) if task.attempts else state
        return element(
            "li",
            name,
            element("svg", *parts),
            element("span", shown),
            class_=f"{state} critical" if task.is_critical else state,
        )

    def slot_row(self, number: int, attempts: list[tuple[TaskTimeline, AttemptTimeline]]) -> Html:
        """Return a slot's row: the attempts that had it."""
        bars = []
        for task, attempt in attempts:
            bar = self._attempt(task, attempt)
            if task.is_critical:
                bar = Html(bar + self._underline(attempt))
            x, width = self._at(attempt.started_s), self._at(_end_s(attempt, self._timeline)) - self._at(attempt.started_s)
            if width >= _LEAST_NAMED:
                name = element("svg", element("text", task.id, x="6", y="15"), x=_percent(x), width=_percent(width))
                bar = Html(bar + name)
            bars.append(element("a", bar, href=link(task.id), tabindex=-1))
        return element("li", element("b", f"slot {number}"), element("svg", *bars), class_="succeeded")

    def _attempt(self, task: TaskTimeline, attempt: AttemptTimeline) -> Html:
        ended_s = _end_s(attempt, self._timeline)
        which = f", attempt {attempt.number}" if len(task.attempts) > 1 else ""
        how = _how_it_ended(task, attempt)
        title = f"{task.id}{which}: {how}, {shown_duration(ended_s - attempt.started_s)}"
        kind = None if how == "succeeded" else how
        return self._bar(attempt.started_s, ended_s, f"{how} again" if attempt.number > 1 else kind, title)

    def _underline(self, attempt: AttemptTimeline) -> Html:
        return self._bar(attempt.started_s, _end_s(attempt, self._timeline), "critical")


def _how_it_ended(task: TaskTimeline, attempt: AttemptTimeline) -> str:
    """Return the state that an attempt's bar is drawn in: the task's for its last, else a failure, as there was another."""
    if attempt is task.attempts[-1] and task.state != "retrying":
        return task.state
    return "failed"
