"""The command line: what is simple is answered at once, all else by click."""

from __future__ import annotations

import io
import os
import sys

from miniflow.simple import LOG_LEVEL, VERSION_TEXT, asked_list, asked_run, asks_for_completion, asks_for_version


def main() -> int:
    """Answer the command line; return the exit status."""
    stdout = sys.stdout
    if isinstance(stdout, io.TextIOWrapper) and stdout.errors == "strict":
        # A sign that the encoding does not have, or a path that is not UTF-8, is shown as an escape.
        stdout.reconfigure(errors="backslashreplace")
    try:
        status = _answer()
        sys.stdout.flush()
    except SystemExit:
        if sys.stdout is stdout:
            raise
        return 0  # click's own way with a closed pipe is to wrap standard output and to exit with 1; ours is that of `run`
    except OSError as error:
        from miniflow.messages import complain
        from miniflow.readers import is_unread

        # Whatever may fail but printing is reported where it fails. Nothing more is to be written when Python ends.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        if is_unread(error, 1):
            return 0  # who closes the pipe has seen enough
        complain(f"error: cannot write standard output: {error.strerror}")
        return 2
    return status


def _answer() -> int:
    if asks_for_completion(os.environ):
        from miniflow.completion import complete

        return complete()
    if asks_for_version(sys.argv[1:], os.environ):
        print(VERSION_TEXT)  # noqa: T201
        return 0
    asked = asked_list(sys.argv[1:], os.environ)
    asked_to_run = asked_run(sys.argv[1:], os.environ)
    if (asked is None and asked_to_run is None) or sys.stdout.encoding != "utf-8":  # click knows what to do then
        from miniflow.cli import call

        return call()
    from miniflow.errors import MiniFlowError
    from miniflow.messages import report

    try:
        if asked is not None:
            from miniflow.listing import list_flows

            return list_flows(*asked, echo=print)
        assert asked_to_run is not None
        from miniflow.launch import launch

        flow, directories, options = asked_to_run
        return launch(flow, directories, LOG_LEVEL.lower(), echo=print, **options)
    except MiniFlowError as error:
        report(error)
        return 2
