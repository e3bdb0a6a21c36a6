"""`miniflow schema`."""

from __future__ import annotations

import click


@click.command("schema")
def command() -> int:
    """Print the JSON Schema of flow files.

    By it an editor completes them, shows what fields mean and underlines mistakes.
    """
    import json

    from miniflow.schema import flow_schema

    click.echo(json.dumps(flow_schema(), ensure_ascii=False, indent=2))
    return 0
