"""The flow as its author wrote it: frozen values, checked once where they enter.

One that is built in Python, `Flow(name=..., tasks=(...))`, is checked by the rules of flow files when it is planned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from miniflow.values import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    TriggerRule: TypeAlias = Literal["all_success", "all_done", "one_failed"]
    ParamType: TypeAlias = Literal["string", "integer", "number", "boolean", "array", "object"]
else:  # for those who look at annotations when they run; `typing` takes long to load
    TriggerRule = ParamType = str

TRIGGER_RULES: tuple[TriggerRule, ...] = ("all_success", "all_done", "one_failed")

PARAM_TYPES: tuple[ParamType, ...] = ("string", "integer", "number", "boolean", "array", "object")

Scalar: TypeAlias = str | int | float | bool | None
Json: TypeAlias = Scalar | Sequence["Json"] | Mapping[str, "Json"]
Args: TypeAlias = Sequence[Scalar] | Mapping[str, Scalar | Sequence[Scalar]]
"""An array: each element one argument. A mapping: options, in its order."""

MAX_ID_LENGTH = 200
ID_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
PARAM_NAME = r"[A-Za-z0-9_][A-Za-z0-9_-]*"
"""The same without dots, which have a meaning in placeholders; compiled where it is used."""


@dataclass(frozen=True, slots=True)
class Retries:
    """When a failed task is tried again. Times in seconds."""

    max: int = 0
    """How many times after the first attempt."""
    delay: float = 0
    """Before the first retry."""
    backoff: float = 1
    """Each further delay is the one before, times this."""
    max_delay: float | None = None
    on_exit_codes: tuple[int, ...] = ()
    """Retry after these exit statuses alone; empty: after any failure."""


@dataclass(frozen=True, slots=True)
class Param:
    """A declared parameter of a flow."""

    type: ParamType | None = None
    default: Json = None
    description: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One script to run, and when."""

    id: str
    script: str
    """Relative to the tasks directory."""
    description: str = ""
    depends_on: Sequence[str] = ()
    args: Args = ()
    env: Mapping[str, Scalar] = field(default_factory=dict, repr=False)  # may hold secrets, and people paste reprs
    secret_env: Sequence[str] = ()
    """Names of variables of the caller's that it needs, and whose values are recorded nowhere."""
    cwd: str | None = None
    """Relative to where MiniFlow was called."""
    python: str | None = None
    retries: Retries = Retries()
    timeout: float | None = None
    """Seconds for one attempt."""
    trigger_rule: TriggerRule = "all_success"


@dataclass(frozen=True, slots=True)
class Flow:
    """Tasks with dependencies, and what they share."""

    name: str
    tasks: Sequence[Task]
    description: str = ""
    version: str = ""
    params: Mapping[str, Param] = field(default_factory=dict)
    env: Mapping[str, Scalar] = field(default_factory=dict, repr=False)
    secret_env: Sequence[str] = ()
    """The same for every task."""
    python: str | None = None
    source: Source | None = field(default=None, repr=False, compare=False)

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows: the graph."""
        from miniflow.notebook import flow_html

        return flow_html(self)


@dataclass(frozen=True, slots=True)
class Source:
    """The text a flow was read from, kept so that an error found later can name line and column."""

    file: str
    text: str = field(repr=False)
