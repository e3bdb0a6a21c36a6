"""A run → JUnit XML, which every CI system shows: a suite is a run, a case a task.

There is no one standard. This is the form of Surefire and Jenkins, whose `rerunFailure` and `flakyFailure` tell of attempts;
what a reader does not know it leaves out.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

from miniflow.events import how_it_ended
from miniflow.outcomes import outcome

if TYPE_CHECKING:
    from miniflow.tails import Tail
    from miniflow.timeline import AttemptTimeline, TaskTimeline, Timeline

Verdict: TypeAlias = Literal["failure", "error", "skipped"]
ReadTail: TypeAlias = "Callable[[TaskTimeline], Tail | None]"

_ILLEGAL = re.compile("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What cannot stand in XML 1.0, not even escaped; what had better not; and carriage returns, which are read as newlines."""


def junit_parts(run: Timeline, read_tail: ReadTail) -> Iterator[bytes]:
    """Yield the document.

    Args:
        run: Over, or broken off.
        read_tail: Returns the end of a task's log.
    """
    verdicts = [_verdict(task) for task in run.tasks]
    counts = {"tests": len(verdicts), "failures": verdicts.count("failure"), "errors": verdicts.count("error")}
    numbers = {**counts, "time": _seconds(run.duration_s)}
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites{_attributes(name=run.flow, **numbers)}>\n<testsuite'
    head += _attributes(name=run.flow, **numbers, skipped=verdicts.count("skipped"), timestamp=run.started_at)
    properties = {
        "run_id": run.run_id,
        "run_dir": run.path,
        "state": run.state,
        "exit_status": run.exit_status,
        "resumed_from": run.resumed_from,
    }
    given = [f"<property{_attributes(name=n, value=v)}/>" for n, v in properties.items() if v is not None]
    yield "\n".join([head + ">", "<properties>", *given, "</properties>\n"]).encode()
    for task, verdict in zip(run.tasks, verdicts, strict=True):
        yield _case(run, task, verdict, read_tail(task)).encode()
    if run.error is not None:
        yield _element("system-err", run.error).encode()
    yield b"</testsuite>\n</testsuites>\n"


def _verdict(task: TaskTimeline) -> Verdict | None:
    """Return what is said of a task: a failure is its own, an error that of something else. None: all is well."""
    if task.state == "succeeded":
        return None
    if task.state == "failed":
        return "error" if task.reason in ("spawn", "lost") else "failure"
    never_ran = task.state in ("skipped", "cancelled") and not task.attempts
    return "skipped" if never_ran else "error"


def _case(run: Timeline, task: TaskTimeline, verdict: Verdict | None, tail: Tail | None) -> str:
    parts = [f"<testcase{_attributes(classname=run.flow, name=task.id, time=_seconds(task.duration_s))}>\n"]
    lines = tail.lines if tail is not None else ()
    if verdict is not None:
        last = [line.text for line in lines if line.attempt in (None, len(task.attempts))] if verdict != "skipped" else []
        parts.append(_element(verdict, "\n".join(last), message=outcome(task), type=task.reason or task.state))
    again = "flakyFailure" if verdict is None else "rerunFailure"
    parts += [
        _element(again, "", message=_how(attempt), type=attempt.reason)
        for attempt in (task.attempts if verdict is None else task.attempts[:-1])
        if attempt.exit_status
    ]
    notes = [outcome(task)] if task.reused_from is not None else []
    if tail is not None and not tail.is_whole:
        notes.append(f"[the end of {tail.path}]")
    if stdout := [*notes, *(line.text for line in lines if line.stream != "stderr")]:
        parts.append(_element("system-out", "\n".join(stdout)))
    if stderr := [line.text for line in lines if line.stream == "stderr"]:
        parts.append(_element("system-err", "\n".join(stderr)))
    return "".join([*parts, "</testcase>\n"])


def _how(attempt: AttemptTimeline) -> str:
    return f"attempt {attempt.number} {how_it_ended(attempt.exit_status or 0, attempt.reason or 'exit', attempt.signal)}"


def _seconds(duration_s: float | None) -> str:
    return f"{duration_s or 0:.3f}"


def _element(name: str, text: str, **attributes: object) -> str:
    begin = f"<{name}{_attributes(**attributes)}"
    return f"{begin}>{_escaped(text)}</{name}>\n" if text else f"{begin}/>\n"


def _attributes(**attributes: object) -> str:
    """Return attributes; those that are None are left away."""
    given = [(name, _escaped(str(value))) for name, value in attributes.items() if value is not None]
    # A parser makes spaces of these in an attribute.
    return "".join([f' {name}="{value}"'.replace("\n", "&#10;").replace("\t", "&#9;") for name, value in given])


def _escaped(text: str) -> str:
    return html.escape(_ILLEGAL.sub(lambda match: match[0].encode("unicode_escape").decode(), text))
