"""What `validate` has found: as text for people, as JSON, as annotations of GitHub Actions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from miniflow.catalog import tidy
from miniflow.errors import MAX_SHOWN_PROBLEMS, Problem
from miniflow.excerpt import excerpt
from miniflow.sinks.github import below_checkout, inert, workflow_command
from miniflow.validation import CheckedFile

BOLD, RED, RESET = "\x1b[1m", "\x1b[31m", "\x1b[0m"


def summary(checked: Sequence[CheckedFile]) -> str:
    """Return one line that says how it went."""
    broken = [each for each in checked if each.problems]
    if broken:
        return f"{_counted(sum(len(each.problems) for each in broken), 'problem')} in {_counted(len(broken), 'file')}"
    return f"{_counted(len(checked), 'flow')} {'is' if len(checked) == 1 else 'are'} valid"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def as_json(checked: Sequence[CheckedFile]) -> str:
    """Return all of it as one JSON document."""
    flows = [
        {
            "file": tidy(each.path),
            "name": each.flow,
            "valid": not each.problems,
            "problems": [
                {"line": problem.line, "column": problem.column, "path": problem.path, "message": problem.message}
                for problem in each.problems
            ],
        }
        for each in checked
    ]
    document = {"valid": not any(each.problems for each in checked), "flows": flows}
    return json.dumps(document, ensure_ascii=False, indent=1)


def as_github(checked: Sequence[CheckedFile], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a log in GitHub Actions: a command for each problem, and how it went."""
    for each in checked:
        yield from problem_commands(each.problems, each.path, environ)
    yield summary(checked)


def problem_commands(problems: Iterable[Problem], path: str | None, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a command for each problem of a file; without a path each has the name that messages show."""
    for problem in problems:
        file = path if path is not None else problem.file
        place = {
            "file": below_checkout(file, environ) if file is not None else None,
            "line": problem.line,
            "col": problem.column,
        }
        message, title = (inert(text).removesuffix("\n") for text in (problem.message, problem.path))
        yield workflow_command("error", message, **place, title=title or None).removesuffix("\n")


def as_text(checked: Sequence[CheckedFile], *, width: int, has_colors: bool) -> Iterator[str]:
    """Yield the lines: each problem with an excerpt of its file, and how it went."""
    for each in checked:
        lines = each.text.split("\n") if each.text is not None and each.problems else []
        for problem in each.problems[:MAX_SHOWN_PROBLEMS]:
            text, place = str(problem), problem.place
            yield f"{BOLD}{place}{RESET}{text.removeprefix(place)}" if has_colors else text
            yield from _marked(problem, lines, width, has_colors)
        if len(each.problems) > MAX_SHOWN_PROBLEMS:
            yield f"{each.file}: ... and {_counted(len(each.problems) - MAX_SHOWN_PROBLEMS, 'more problem')}"
    yield summary(checked)


def _marked(problem: Problem, lines: Sequence[str], width: int, has_colors: bool) -> Iterator[str]:
    if problem.line is None or problem.column is None or problem.line > len(lines):
        return
    line, marks = excerpt(lines[problem.line - 1].removesuffix("\r"), problem.line, problem.column, width)
    gutter, caret, more = marks.partition("^")
    yield line
    yield f"{gutter}{RED}{caret}{more}{RESET}" if has_colors else marks
