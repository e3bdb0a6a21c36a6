"""What a terminal may be sent: colours, where somebody sees them and wants them."""

from __future__ import annotations

from collections.abc import Mapping


def has_colors(is_terminal: bool, environ: Mapping[str, str]) -> bool:
    """Return whether to write colours to a stream: by what it is, `FORCE_COLOR`, `NO_COLOR` (https://no-color.org) and `TERM`.

    Args:
        is_terminal: Whether the stream is one.
        environ: The environment. A variable that is empty counts as not set; `NO_COLOR` counts before `FORCE_COLOR`.
    """
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (is_terminal and environ.get("TERM") != "dumb")
