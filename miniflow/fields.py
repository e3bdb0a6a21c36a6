"""The fields of a flow file: what each may hold, and what is said where it holds something else."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from miniflow.durations import parse_duration
from miniflow.errors import MAX_SHOWN_PROBLEMS
from miniflow.jsontext import Found, Path
from miniflow.kinds import describe, is_number
from miniflow.model import ID_PATTERN, MAX_ID_LENGTH, Args, Retries, Scalar
from miniflow.placeholders import placeholder_problems
from miniflow.suggest import did_you_mean, quoted
from miniflow.variables import secret_env_problems, variable_name_problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TASK_VARIABLES = (
    "MINIFLOW_FLOW", "MINIFLOW_RUN_ID", "MINIFLOW_TASK_ID", "MINIFLOW_ATTEMPT", "MINIFLOW_PARAMS", "MINIFLOW_RUN_DIR",
)  # fmt: skip
"""What every task gets in its environment, and no flow may set."""

MAX_RETRIES = 1000
RETRIES_FIELDS = ("max", "delay", "backoff", "max_delay", "on_exit_codes")


class Fields:
    """Looks at the values of fields, and collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Found] = []
        self._declared: Collection[str] | None = None  # names of declared parameters; None: any are accepted

    def _problem(self, path: Path, message: str, *, at_key: bool = False) -> None:
        self.problems.append(Found(path, message, at_key))

    def _check_fields(self, data: dict[str, Any], known: Collection[str], at: Path, what: str) -> None:
        for name in data:
            if name not in known:
                hint = did_you_mean(name, known) or f"; a {what} has {', '.join(known)}"
                if what == "retries":
                    hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
                self._problem((*at, name), f"unknown field {quoted(name)}{hint}", at_key=True)

    def _name(self, data: dict[str, Any], field: str, at: Path, what: str) -> str:
        value = data.get(field)
        # Most are also names as Python has them, which is seen much faster.
        if isinstance(value, str) and ((value.isidentifier() and value.isascii()) or ID_PATTERN.fullmatch(value)):
            if len(value) <= MAX_ID_LENGTH:
                return value
            self._problem((*at, field), f"longer than {MAX_ID_LENGTH} characters")
        elif field not in data:
            self._problem(at, f'the {what} has no "{field}"')
        elif not isinstance(value, str):
            self._problem((*at, field), f"must be a string, not {describe(value)}")
        else:
            self._problem(
                (*at, field),
                f"{quoted(value)} is no {what} {field}: letters, digits and _ . - alone, the first a letter, digit or _",
            )
        return ""

    def _text(self, data: dict[str, Any], field: str, at: Path) -> str:
        value = data.get(field, "")
        if isinstance(value, str):
            return value
        self._problem((*at, field), f"must be a string, not {describe(value)}")
        return ""

    def _args(self, value: Any, task_at: Path) -> Args:
        if isinstance(value, list):
            for index, item in enumerate(value):
                if not isinstance(item, str) or "{{" in item:
                    self._argument(item, (*task_at, "args", index))
            return tuple(value)
        at = (*task_at, "args")
        if not isinstance(value, dict):
            self._problem(at, f"must be an array or an object, not {describe(value)}")
            return ()
        result: dict[str, Scalar | tuple[Scalar, ...]] = {}
        for name, item in value.items():
            path = (*at, name)
            if not name or name.startswith("-"):
                mend = "write it without the dashes" if name else "an option needs a name"
                self._problem(path, f"{quoted(name)} is no option name; {mend}", at_key=True)
            if "{{" in name:
                self._problem(path, "{{ }} is replaced in values, not in names", at_key=True)
            if isinstance(item, list):
                for index, element in enumerate(item):
                    self._option_value(element, (*path, index))
                result[name] = tuple(item)
            else:
                self._option_value(item, path)
                result[name] = item
        return result

    def _argument(self, value: Any, at: Path) -> None:
        if isinstance(value, str):
            self._placeholders(value, at)
        elif value is None or isinstance(value, (list, dict)):
            self._problem(at, f"an argument is a string, a number or a boolean, not {describe(value)}")

    def _option_value(self, value: Any, at: Path) -> None:
        if isinstance(value, str):
            self._placeholders(value, at)
        elif isinstance(value, (list, dict)):
            self._problem(at, f"an option's value is a string, a number, a boolean or null, not {describe(value)}")

    def _env(self, value: Any, at: Path) -> dict[str, Scalar]:
        if not isinstance(value, dict):
            self._problem(at, f"must be an object of variables, not {describe(value)}")
            return {}
        for name, item in value.items():
            path = (*at, name)
            if problem := variable_name_problem(name):
                self._problem(path, problem, at_key=True)
            elif name in TASK_VARIABLES:
                self._problem(path, f"{name} is set by MiniFlow for every task", at_key=True)
            if isinstance(item, str):
                self._placeholders(item, path)
            elif item is None or isinstance(item, (list, dict)):
                self._problem(path, f"a variable is a string, a number or a boolean, not {describe(item)}")
        return value

    def _secret_env(self, value: Any, at: Path, envs: Mapping[str, Collection[str]]) -> tuple[str, ...]:
        problems = list(secret_env_problems(value, (*at, "secret_env"), envs))
        self.problems += problems
        return () if problems else (value,) if isinstance(value, str) else tuple(value)

    def _cwd(self, value: Any, at: Path) -> str | None:
        if not isinstance(value, str) or not value:
            self._problem(at, f"must be the path of a directory, not {describe(value)}")
            return None
        self._placeholders(value, at)
        return value

    def _python(self, data: dict[str, Any], at: Path) -> str | None:
        value = data.get("python")
        if "python" not in data:
            return None
        if not isinstance(value, str) or not value or value.startswith("-"):
            self._problem((*at, "python"), f"must be the path or the name of an interpreter, not {describe(value)}")
            return None
        return value

    def _retries(self, value: Any, at: Path) -> Retries:
        if not isinstance(value, dict):
            return Retries(max=self._count(value, at))
        self._check_fields(value, RETRIES_FIELDS, at, "retries")
        if "max" not in value:
            self._problem(at, 'the number of retries, "max", is missing')
        backoff = value.get("backoff", 1)
        if not is_number(backoff) or not 1 <= backoff <= 1000:
            self._problem((*at, "backoff"), f"must be a number from 1 to 1000, not {describe(backoff)}")
            backoff = 1
        codes = value.get("on_exit_codes", [])
        if not isinstance(codes, list):
            self._problem((*at, "on_exit_codes"), f"must be an array of exit statuses, not {describe(codes)}")
            codes = []
        elif "on_exit_codes" in value and not codes:
            self._problem((*at, "on_exit_codes"), "names no exit status; without it, every failure is tried again")
        for index, code in enumerate(codes):
            if type(code) is not int or not 1 <= code <= 255:
                self._problem((*at, "on_exit_codes", index), f"must be an exit status from 1 to 255, not {describe(code)}")
        return Retries(
            max=self._count(value.get("max", 0), (*at, "max")),
            delay=self._duration(value["delay"], (*at, "delay")) or 0 if "delay" in value else 0,
            backoff=backoff,
            max_delay=self._duration(value["max_delay"], (*at, "max_delay")) if "max_delay" in value else None,
            on_exit_codes=tuple(codes),
        )

    def _count(self, value: Any, at: Path) -> int:
        if type(value) is not int or not 0 <= value <= MAX_RETRIES:
            self._problem(at, f"must be a whole number from 0 to {MAX_RETRIES}, not {describe(value)}")
            return 0
        return value

    def _timeout(self, value: Any, at: Path) -> float | None:
        seconds = self._duration(value, at)
        if seconds == 0:
            self._problem(at, "must be longer than 0")
        return seconds

    def _duration(self, value: Any, at: Path) -> float | None:
        seconds = parse_duration(value) if is_number(value) or isinstance(value, str) else None
        if seconds is None:
            self._problem(at, f'must be seconds or a text like "1m30s", at most a year, not {describe(value)}')
        return seconds

    def _placeholders(self, text: str, at: Path) -> None:
        if "{{" in text:
            for problem in placeholder_problems(text, self._declared, len(self.problems) < MAX_SHOWN_PROBLEMS):
                self._problem(at, problem)
