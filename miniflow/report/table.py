"""The tasks as a table, each with what there is to know of it below its row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from miniflow.bash import quote
from miniflow.events import WHY_IT_RUNS, how_it_ended
from miniflow.report.contents import Contents, Log
from miniflow.report.markup import Html, element, join, text
from miniflow.report.words import STATES, anchor, ending, link, shown_count, shown_duration, shown_size, state_of

if TYPE_CHECKING:
    from miniflow.tails import TailLine
    from miniflow.timeline import AttemptTimeline, TaskTimeline

_COLUMNS = ("Task", "State", "Exit status", "Attempts", "Started", "Duration", "Waited", "Slack")
_MOST_OF_A_COMMAND = 2000
"""Characters; a command with a document as an argument is no help to a reader."""
_MOST_UPSTREAM = 50


def task_table(contents: Contents) -> Html:
    """Return the table, and what sorts and filters it."""
    tasks = contents.timeline.tasks
    header = element("tr", *(_header(number, name) for number, name in enumerate(_COLUMNS)))
    rows = join([_task(contents, task) for task in tasks], "\n")
    caption = element("caption", "Tasks, in the order of the flow file", class_="unseen", id="table-caption")
    return element(
        "div",
        _controls(contents),
        element(
            "div",
            element("table", caption, element("thead", header), rows, id="tasks-table"),
            class_="scroll",
            role="region",
            aria_label="Table of tasks",
            tabindex=0,
        ),
    )


def _header(number: int, name: str) -> Html:
    button = element("button", name, type="button", data_column=number)
    return element("th", button, scope="col", aria_sort="none", class_="number" if number >= 2 else None)


def _controls(contents: Contents) -> Html:
    states = [state_of(task) for task in contents.timeline.tasks]
    buttons = [
        element(
            "button",
            element("b", f"{states.count(state):,}"),
            f" {state}",
            type="button",
            aria_pressed="false",
            data_state=state,
            class_=f"chip {state}",
        )
        for state in STATES
        if state in states
    ]
    count = sum(task.is_critical for task in contents.timeline.tasks)
    if count:
        critical = (element("b", f"{count:,}"), " on the critical path")
        buttons.append(
            element("button", *critical, type="button", aria_pressed="false", data_critical=True, class_="chip critical")
        )
    search = element("input", type="search", id="filter", autocomplete="off", spellcheck="false")
    return element(
        "form",
        element("label", "Filter", for_="filter"),
        search,
        element("span", *buttons, class_="chips", role="group", aria_label="Show only"),
        element("button", "Open all logs", type="button", id="open-logs", aria_pressed="false", class_="chip"),
        element("p", shown_count(len(states), "task"), role="status", aria_live="polite", id="shown"),
        class_="controls",
        role="search",
    )


def _task(contents: Contents, task: TaskTimeline) -> Html:
    state = state_of(task)
    mark = element("span", "◆", class_="mark", title="on the critical path") if task.is_critical else None
    cells = (
        element("th", task.id, mark, scope="row"),
        element("td", state),
        _cell(task.exit_status),
        _cell(len(task.attempts) or None),
        _seconds(task.started_s, "+"),
        _seconds(task.duration_s if task.attempts else None),
        _seconds(task.waited_s),
        _seconds(task.slack_s),
    )
    summary = element("summary", aria_label=f"About {task.id}")
    about = element("td", element("details", summary, _about(contents, task)), colspan=len(_COLUMNS))
    # A body a task: the row and what belongs to it are sorted and hidden together.
    return element(
        "tbody",
        element("tr", *cells),
        element("tr", about, class_="about"),
        id=anchor(task.id),
        class_=f"{state} critical" if task.is_critical else state,
    )


def _cell(value: int | None) -> Html:
    return element("td", "–" if value is None else str(value))


def _seconds(seconds: float | None, sign: str = "") -> Html:
    if seconds is None:
        return element("td", "–")
    return element("td", sign + shown_duration(seconds), data_v=f"{seconds:.3f}".rstrip("0").rstrip("."))


def _about(contents: Contents, task: TaskTimeline) -> Html:
    """Return what there is to know of a task besides its row."""
    facts: list[tuple[str, Html | str]] = []
    if how := ending(task):
        facts.append(("Ended", how))
    if task.started_because:
        facts.append(("Ran, as", WHY_IT_RUNS.get(task.started_because, task.started_because)))
    if task.depends_on:
        shown = [element("a", task_id, href=link(task_id)) for task_id in task.depends_on[:_MOST_UPSTREAM]]
        more = len(task.depends_on) - len(shown)
        facts.append(("Depends on", Html(join(shown, ", ") + (f" and {more:,} more" if more else ""))))
    if len(task.attempts) > 1:
        attempts = [element("li", _attempt(task, attempt)) for attempt in task.attempts]
        facts.append(("Attempts", element("ol", *attempts)))
    again = contents.again.get(task.id)
    if again is not None:
        facts.append(("Try again", command(again)))
    elif task.attempts and task.attempts[-1].argv:
        facts.append(("Command", command(" ".join(map(quote, task.attempts[-1].argv)))))
    parts = [element("dl", *(Html(element("dt", term) + element("dd", said)) for term, said in facts))] if facts else []
    if log := contents.logs.get(task.id):
        parts.append(shown_log(log))
    elif task.attempts:
        parts.append(element("p", "It has printed nothing.", class_="muted"))
    return join(parts)


def _attempt(task: TaskTimeline, attempt: AttemptTimeline) -> str:
    if attempt.ended_s is None:
        return f"has not ended; started at +{shown_duration(attempt.started_s)}"
    how = how_it_ended(attempt.exit_status or 0, attempt.reason or "exit", attempt.signal)
    return f"{how} after {shown_duration(attempt.ended_s - attempt.started_s)}, started at +{shown_duration(attempt.started_s)}"


def command(line: str) -> Html:
    """Return a command line, to be read and copied."""
    if len(line) > _MOST_OF_A_COMMAND:
        line = f"{line[:_MOST_OF_A_COMMAND]} … ({len(line):,} characters)"
    return element("code", line, class_="command")


def shown_log(log: Log) -> Html:
    """Return the end of a task's log, and what leads to the whole."""
    tail = log.tail
    whole = element("a", f"logs/{tail.path.name}", href=log.href)
    size = f" ({shown_size(tail.size)})"
    if not tail.lines:
        what = (
            "The end of its log had no room here; the whole is in "
            if not tail.is_whole
            else "It has printed nothing; its log is "
        )
        return element("p", what, whole, size, class_="muted")
    count = shown_count(len(tail.lines), "line")
    caption = element("p", f"{count}, all of " if tail.is_whole else f"The last {count} of ", whole, size)
    return Html(element("div", caption, element("pre", _lines(tail.lines)), class_="log"))


def _lines(lines: tuple[TailLine, ...]) -> Html:
    parts = []
    attempt = lines[0].attempt
    for line in lines:
        if line.attempt != attempt:
            attempt = line.attempt
            parts.append(element("span", f"attempt {attempt}", class_="attempt"))
        is_error = line.stream == "stderr"
        parts.append(element("span", line.text, class_="stderr", title="standard error") if is_error else text(line.text))
    return join(parts, "\n")
