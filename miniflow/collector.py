"""Python's garbage collector, kept from what would take it as long again as the work that it disturbs.

It looks at everything anew whenever there is a quarter more of it: while a large flow is loaded it does so again and again, and
finds nothing, as all of it is wanted.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_pausing = 0
_was_enabled = False


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Let no collection begin meanwhile, in all of the process; once nobody needs that any more, it is as it was before."""
    global _pausing, _was_enabled
    with _lock:
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
