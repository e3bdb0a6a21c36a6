"""`miniflow completion`."""

from __future__ import annotations

import click

from miniflow.simple import SHELLS


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL")
@click.pass_context
def command(ctx: click.Context, /, shell: str) -> int:
    """Print what has SHELL (bash, zsh or fish) complete the words of miniflow: a line for the shell to evaluate when it starts.

    bash: eval "$(miniflow completion bash)"
    """
    from miniflow.completion_table import shell_script

    click.echo(shell_script(shell, ctx.find_root().command), nl=False)
    return 0
