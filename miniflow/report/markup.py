"""HTML that was made by us, kept apart by its type from text that was not: text becomes markup by `element` alone, escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import TypeAlias

from miniflow.sinks.console import harmless


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Content: TypeAlias = Html | str | int | None

_VOID = frozenset({"input", "meta"})
# Whose ends a browser knows without being told: with thousands of tasks, a tenth of the page.
_UNENDED = frozenset({"dd", "dt", "li", "tbody", "td", "th", "thead", "tr"})
_BARE = re.compile(r"[A-Za-z0-9_.#%:-]+")
"""Values of attributes that need no quotes."""


def text(content: str) -> Html:
    """Return what shows the text, its control characters as visible escapes: nothing in it is markup."""
    return Html(escape(content if content.isprintable() else "\n".join(map(harmless, content.split("\n")))))


def join(parts: Iterable[Html], separator: str = "") -> Html:
    """Return the parts, one after the other."""
    return Html(separator.join(parts))


def element(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Html:
    """Return an element.

    Args:
        name: Of the element.
        content: What is in it: markup, or text, which is escaped. None is nothing.
        attributes: By their names, with `_` for `-` and after names that Python has taken (`class_`). True is the name alone;
            None and False leave it away.
    """
    opened = f"<{name}"
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        opened += " " + key.rstrip("_").replace("_", "-")
        if value is not True:
            opened += f"={shown}" if _BARE.fullmatch(shown := str(value)) else f'="{text(shown)}"'
    if name in _VOID:
        return Html(f"{opened}>")
    inner = "".join([part if isinstance(part, Html) else text(str(part)) for part in content if part is not None])
    return Html(f"{opened}>{inner}" if name in _UNENDED else f"{opened}>{inner}</{name}>")
