"""Ctrl-C in an application that runs trio: trio raises KeyboardInterrupt wherever Python code runs that does not object.

In the midst of starting a process that would leave it to nobody. asyncio has no such habit: its first Ctrl-C is a cancellation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def uninterrupted(function: _Function) -> _Function:
    """Return an async function within which, and within what it calls, trio raises no KeyboardInterrupt.

    trio raises it in the application's main task then, at its next checkpoint; who awaits a run there is cancelled by it.
    """
    # Who runs trio has loaded it. Where it is being loaded this very moment, by another thread, it does not run us.
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    protect: Callable[[_Function], _Function] | None = getattr(lowlevel, "enable_ki_protection", None)
    return function if protect is None else protect(function)
