"""The page: one file, with a policy that lets a browser fetch nothing and run nothing but what is in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from miniflow.report.contents import Contents
from miniflow.report.gantt import gantt
from miniflow.report.markup import Html, element
from miniflow.report.overview import first_failure, overview
from miniflow.report.picture import picture, styles
from miniflow.report.table import task_table
from miniflow.report.words import shown_count, shown_time


def page(contents: Contents) -> bytes:
    """Return the whole page."""
    timeline = contents.timeline
    style, script = _piece("report.css"), _piece("report.js")
    title = f"{timeline.flow}: {timeline.state}"
    failure = first_failure(contents)
    sections = [
        ("summary", "Summary", overview(contents)),
        *([("failure", "What failed first", failure)] if failure is not None else []),
    ]
    drawing = picture(timeline)
    if timeline.tasks:
        sections += [
            ("graph", "Graph", drawing),
            ("timeline", "Timeline", gantt(timeline)),
            ("tasks", "Tasks", task_table(contents)),
        ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy([style, *styles(drawing)], script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content=f"MiniFlow {contents.version}"),
        element("title", f"{title} ({timeline.run_id})"),
        element("style", style),
    )
    body = element(
        "body",
        element("a", "Skip to the content", href="#main", class_="skip"),
        element(
            "header",
            element("h1", timeline.flow, element("span", timeline.state, class_=f"state {timeline.state}")),
            element("nav", *(element("a", heading, href=f"#{name}") for name, heading, _ in sections), aria_label="Sections"),
        ),
        element("main", *(_section(*section) for section in sections), id="main", tabindex=-1),
        element("footer", _made(contents)),
        element("script", script),
    )
    document = f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
    # What has come out of a record may hold halves of characters, which are none.
    return document.encode(errors="backslashreplace")


def _section(name: str, heading: str, content: Html) -> Html:
    return element("section", element("h2", heading, id=f"{name}-heading"), content, id=name, aria_labelledby=f"{name}-heading")


def _made(contents: Contents) -> Html:
    return element(
        "p",
        f"Made by MiniFlow {contents.version}, {shown_time(contents.made_at)}, from ",
        element("code", str(contents.timeline.path)),
        f" ({shown_count(len(contents.timeline.tasks), 'task')}). Of each log, the end is here; links lead to the whole where"
        " this file lies beside it.",
    )


@cache
def _piece(name: str) -> Html:
    """Return a style sheet or a script of ours, which is markup as it is: neither holds what would end its element."""
    return Html(files("miniflow.report").joinpath(name).read_text(encoding="utf-8"))


def _policy(styles: Iterable[str], script: str) -> str:
    style_hashes = " ".join(map(_hash, styles))
    return f"default-src 'none'; style-src {style_hashes}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"


def _hash(piece: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(piece.encode()).digest()).decode()}'"
