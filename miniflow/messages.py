"""What a command says to people, on standard error."""

from __future__ import annotations

import os
import sys

from miniflow.errors import FlowError, InternalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from miniflow.errors import MiniFlowError


def complain(text: str) -> None:
    """Say something; let it be lost where it cannot be written: the exit status tells it too."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  Python must not try once more when it ends


def report(error: MiniFlowError) -> None:
    """Say what is wrong."""
    text = str(error)
    prefix = "" if isinstance(error, FlowError) and all(p.file for p in error.problems) else "error: "
    if isinstance(error, InternalError):
        text += "\nThis is a bug in MiniFlow; please report it, with the flow and the command."
    complain(prefix + text)
