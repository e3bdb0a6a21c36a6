"""The commands, one module each, loaded when it is called: `command` is what click is given of it.

A command reads its options, calls what does the work, and returns the exit status.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from miniflow.errors import MiniFlowError


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """Report what the operating system refuses where nothing but standard output seems to be written, as what it is."""
    try:
        yield
    except OSError as error:
        raise MiniFlowError(f"the operating system refuses what a run needs: {error}") from error


@contextlib.contextmanager
def hidden(package: str) -> Iterator[None]:
    """Hide a package, unless it is loaded already, from those who would load it if it is there: they do without."""
    is_loaded = package in sys.modules
    if not is_loaded:
        sys.modules[package] = None  # type: ignore[assignment]  # which says that there is none
    try:
        yield
    finally:
        if not is_loaded:
            del sys.modules[package]
