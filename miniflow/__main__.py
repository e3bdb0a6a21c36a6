"""The command `miniflow`, and `python -m miniflow`."""

from __future__ import annotations

import signal
import sys

from miniflow.signals import die_by, reopen_standard_streams, settle


def main() -> None:
    """Run the command line; end by the signal that stopped it, if one did."""
    settle()
    reopen_standard_streams()
    try:
        from miniflow.cli import main as command_line

        sys.exit(command_line())
    except KeyboardInterrupt:  # Ctrl-C while nothing was running yet
        die_by(signal.SIGINT)


if __name__ == "__main__":
    main()
