"""The keyword arguments of what plans and runs a flow; `running.run_flow` says what they mean."""

# Annotations are evaluated as they stand here, as a TypedDict compiles those that are texts: that took a fiftieth of the time
# until the first task starts.

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

PathLike: TypeAlias = str | os.PathLike[str]

TaskIds: TypeAlias = str | Sequence[str]
"""One id, or any number of them."""


class PlanOptions(TypedDict, total=False):
    """Of everything that plans a flow."""

    params: Mapping[str, Any] | None
    keep_going: bool
    only: TaskIds | None
    from_: TaskIds | None
    until: TaskIds | None
    python: str | None
    grace: float
    timeout: float | None
    flows_dir: PathLike
    tasks_dir: PathLike
    output_dir: PathLike


class RunOptions(PlanOptions, total=False):
    """Of everything that runs a flow."""

    parallel: int
    resume: bool | str
