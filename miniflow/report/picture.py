"""The graph of a run, drawn in layers, each task in its state and leading to its row."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from miniflow.drawing.svg import LEAST_TOGETHER, DrawnTask, graph_svg
from miniflow.layout import alike, between_groups
from miniflow.report.markup import Html, element
from miniflow.report.words import STATES, ending, link, shown_count, shown_duration, state_of

if TYPE_CHECKING:
    from miniflow.timeline import TaskTimeline, Timeline

MOST_BOXES = 1000
"""Of more, the drawing would be larger than all else on the page, and nobody could follow an edge in it."""
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def picture(timeline: Timeline) -> Html:
    """Return the drawing, or why there is none.

    Of very many tasks, those that depend on the same, and that the same depend on, are drawn as one.
    """
    tasks = timeline.tasks
    place = {task.id: number for number, task in enumerate(tasks)}
    upstream = [sorted({place[other] for other in task.depends_on if other in place}) for task in tasks]
    groups = alike(upstream, LEAST_TOGETHER) if len(tasks) > MOST_BOXES else [[number] for number in range(len(tasks))]
    if len(groups) > MOST_BOXES:
        said = f"{shown_count(len(tasks), 'task')} are too many to be drawn; in the table stands what each depends on."
        return element("p", said, class_="muted")
    group_of = {number: group for group, members in enumerate(groups) for number in members}
    svg = graph_svg(
        [
            _drawn([tasks[number] for number in group], needed)
            for group, needed in zip(groups, between_groups(upstream, groups), strict=True)
        ],
        title=f"Graph of {timeline.flow}",
        description="Each task stands below those that it depends on, or to their right, and leads to its row in the table.",
        critical_path=[group_of[place[task_id]] for task_id in timeline.critical_path if task_id in place],
    )
    skip = element("a", "Skip the graph", href="#timeline", class_="skip")
    drawing = element("div", Html(svg), class_="drawing", role="region", aria_label="Graph of the tasks", tabindex=0)
    return Html(skip + drawing)


def styles(html: Html) -> list[str]:
    """Return the style sheets that stand in a drawing."""
    return _STYLE.findall(html)


def _drawn(tasks: list[TaskTimeline], upstream: list[int]) -> DrawnTask:
    """Return a task, or several as one: in the state of that which calls for attention first, and leading to it."""
    first = min(tasks, key=lambda task: STATES.index(state_of(task)) if state_of(task) in STATES else len(STATES))
    state = "succeeded" if first.reused_from else first.state
    if len(tasks) > 1:
        states = Counter(map(state_of, tasks))
        said = ", ".join(f"{states[state]:,} {state}" for state in STATES if state in states)
        return DrawnTask(f"{first.id} and {len(tasks) - 1:,} more", upstream, state, said, link(first.id))
    details = [shown_duration(first.duration_s) if first.attempts else None, ending(first)]
    return DrawnTask(first.id, upstream, state, "\n".join(filter(None, details)), link(first.id))
