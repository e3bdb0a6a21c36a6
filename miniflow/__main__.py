"""The command `miniflow`, and `python -m miniflow`."""

from __future__ import annotations

import signal

from miniflow.signals import die_by, settle


def main() -> None:
    """Run the command line; end by the signal that stopped it, if one did."""
    settle()
    try:
        from miniflow.cli import cli

        cli.main(prog_name="miniflow")
    except KeyboardInterrupt:  # Ctrl-C while nothing was running yet
        die_by(signal.SIGINT)


if __name__ == "__main__":
    main()
