"""Python's garbage collector, kept from what would take it as long again as the work that it disturbs.

It looks at everything anew whenever there is a quarter more of it: while a large flow is loaded it does so again and again, and
finds nothing, as all of it is wanted.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_pausing = 0
_was_enabled = False
_knows_of_forks = False


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Let no collection begin meanwhile, in all of the process; once nobody needs that any more, it is as it was before."""
    global _pausing, _was_enabled, _knows_of_forks
    with _lock:
        if not _knows_of_forks:
            os.register_at_fork(after_in_child=_forked)
            _knows_of_forks = True
        if _pausing == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _pausing += 1
    try:
        yield
    finally:
        with _lock:
            _pausing -= 1
            if _pausing == 0 and _was_enabled:
                gc.enable()


def _forked() -> None:
    """In a child those who load are not there, and never done; one of them may have held the lock."""
    global _lock, _pausing
    _lock = threading.Lock()
    if _pausing and _was_enabled:
        gc.enable()
    _pausing = 0
