"""A task of a plan → the line that runs it again by hand, in any shell that knows POSIX quotes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from miniflow.bash import quote
from miniflow.model import Json

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def command_again(task: Mapping[str, Any], params: Mapping[str, Json] | None = None) -> str:
    """Return the command of a task with its working directory, all that its flow sets in the environment, and the parameters.

    A secret stands there by its name: the shell takes the value from its own environment, and complains if there is none.

    Args:
        task: As in `plan.json`. All but its `argv` may be missing, as where a script's journal is all there is.
        params: As in `plan.json`.
    """
    env = [f"{name}={quote(value) if value else ''}" for name, value in task.get("env", {}).items()]
    env += [f'{name}="${{{name}:?}}"' for name in task.get("secret_env", ()) if _NAME.fullmatch(name)]
    if params:
        env.append(f"MINIFLOW_PARAMS={quote(json.dumps(params, ensure_ascii=False, separators=(',', ':')))}")
    words = list(map(quote, task["argv"]))
    if env:
        # `env` would take a program with `=` in its name for one more variable.
        words = ["env", *env, *(["bash", "-c", quote('exec "$0" "$@"')] if "=" in task["argv"][0] else []), *words]
    return " ".join([*(["cd", quote(task["cwd"]), "&&"] if task.get("cwd") else []), *words])
