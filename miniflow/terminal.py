"""What a terminal may be sent: colours, where somebody sees them and wants them, and commands that move its cursor."""

from __future__ import annotations

import os
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


def is_movable(descriptor: int, other: int, environ: Mapping[str, str]) -> bool:
    """Return whether both descriptors are one terminal, whose cursor can be moved by the usual commands."""
    if environ.get("TERM", "dumb") in ("", "dumb", "unknown") or not (os.isatty(descriptor) and os.isatty(other)):
        return False
    return os.fstat(descriptor).st_rdev == os.fstat(other).st_rdev
