"""The command `miniflow`, and `python -m miniflow`."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` is made of; see below
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> None:
    """Run the command line; end by the signal that stopped it, if one did."""
    # First of all: from here to the end Ctrl-C ends us as it ends any command, at any instant, and no KeyboardInterrupt comes
    # from anywhere. Until here it is a traceback, so nothing is loaded before; `signal` alone takes milliseconds.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

    import gc

    # It would look at all of a large flow again and again while that is loaded, and find nothing. A run that goes on turns it
    # on; all else the command does is over soon.
    gc.disable()

    from miniflow.signals import reopen_standard_streams, settle, stay_deaf

    settle()
    reopen_standard_streams()
    try:
        from miniflow.commandline import main as answer

        _leave(answer())
    finally:
        stay_deaf()
        # Else Python searches all there is for garbage before it ends, which takes longer than its start.
        gc.freeze()


def _leave(status: int) -> NoReturn:
    """End without taking apart what was loaded: after a run that would take Python as long as starting it."""
    import atexit
    import os

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105  to load `contextlib` takes longer than all the rest
            stream.flush()
        except OSError:
            pass  # what we print is judged when it is printed; this is of those who were called just now
    os._exit(status)


if __name__ == "__main__":
    main()
