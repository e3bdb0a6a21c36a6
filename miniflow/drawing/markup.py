"""Any text inside HTML and SVG, and the colours of both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape

# What XML forbids, half of a surrogate pair, and what turns the direction of text around.
_NOT_SHOWN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

LIGHT = {
    "text": "#1f2328", "muted": "#656d76", "background": "#ffffff", "box": "#f6f8fa", "line": "#8c959f", "critical": "#bc4c00",
    "succeeded": "#1a7f37", "failed": "#cf222e", "running": "#0969da", "retrying": "#9a6700", "skipped": "#59636e",
    "cancelled": "#8250df", "interrupted": "#bf3989", "pending": "#656d76",
}  # fmt: skip
DARK = {
    "text": "#e6edf3", "muted": "#8d96a0", "background": "#0d1117", "box": "#161b22", "line": "#6e7681", "critical": "#f0883e",
    "succeeded": "#3fb950", "failed": "#f85149", "running": "#58a6ff", "retrying": "#d29922", "skipped": "#8b949e",
    "cancelled": "#bc8cff", "interrupted": "#f778ba", "pending": "#8b949e",
}  # fmt: skip
"""Colours, most of them by the state of a task: of text, each readable on `background` and on `box`."""

MARKS = {
    "succeeded": "✓", "failed": "✗", "running": "▶", "retrying": "↻", "skipped": "↷", "cancelled": "⊘", "interrupted": "⚡",
    "pending": "·",
}  # fmt: skip
"""States for those who do not see colours."""

# How pages say which theme they show, whatever the system prefers: Jupyter, VS Code, Sphinx and others.
_SAYS_DARK = ('[data-jp-theme-light="false"]', '[data-theme="dark"]', ".vscode-dark")
_SAYS_LIGHT = ('[data-jp-theme-light="true"]', '[data-theme="light"]', ".vscode-light")


def escaped(text: object) -> str:
    """Return a text as it can stand between tags and in attributes; what cannot be shown is a visible escape."""
    return _NOT_SHOWN.sub(lambda match: match[0].encode("unicode_escape").decode(), escape(str(text)))


def palette(selector: str) -> str:
    """Return the style sheet that sets `--mf-NAME` for each colour of what a selector stands for.

    It weighs nothing, so that a page can set them otherwise.
    """
    return (
        f":where({selector}){_variables(LIGHT)}"
        f"@media(prefers-color-scheme:dark){{:where({selector}){_variables(DARK)}}}"
        f":where({_within(_SAYS_LIGHT, selector)}){_variables(LIGHT)}"
        f":where({_within(_SAYS_DARK, selector)}){_variables(DARK)}"
    )


def colour(name: str, of: str = "fill") -> str:
    """Return a declaration that takes a colour of the palette; the light one where there are no variables."""
    return f"{of}:{LIGHT[name]};{of}:var(--mf-{name},{LIGHT[name]})"


def _variables(colours: Mapping[str, str]) -> str:
    return "{" + ";".join(f"--mf-{name}:{value}" for name, value in colours.items()) + "}"


def _within(pages: Iterable[str], selector: str) -> str:
    return ",".join(f"{page} {selector}" for page in pages)
