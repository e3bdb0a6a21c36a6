"""The commands, one module each, loaded when it is called: `command` is what click is given of it.

A command reads its options, calls what does the work, and returns the exit status.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from miniflow.errors import MiniFlowError


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """Report what the operating system refuses where nothing but standard output seems to be written, as what it is."""
    try:
        yield
    except OSError as error:
        raise MiniFlowError(f"the operating system refuses what a run needs: {error}") from error
