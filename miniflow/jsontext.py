"""JSON text → plain values, strictly, and the line and column of any path in it.

`json` gives no positions for valid values, and keeping them would make every good file pay: they are found by a second,
slower scan that runs only when there is a problem to report. The scan is iterative, so no depth of nesting breaks it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from miniflow.errors import FlowError, Problem

Path: TypeAlias = tuple[str | int, ...]

MAX_DEPTH = 64
"""Of arrays and objects inside each other. A flow needs five; parameters may hold data of their own."""

_TOKEN = re.compile(r'[ \t\r\n]*(?:([{}\[\],:])|("[^"\\]*(?:\\.[^"\\]*)*")|([^\s{}\[\],:"]+))', re.DOTALL)
_UNUSUAL_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")


@dataclass(slots=True)
class Found:
    """A problem before it has a position."""

    path: Path
    message: str
    at_key: bool = False
    """Point at the key of an object's member, not at its value."""


def decode(data: bytes | str, file: str | None = None) -> tuple[str, Any]:
    """Return the text (without a byte order mark) and its value.

    Raises:
        FlowError: No UTF-8, no JSON, a key twice in one object, NaN or a number beyond all range, NUL or half a surrogate
            pair in a string, nesting too deep to be read.
    """
    text = _decode_utf8(data, file) if isinstance(data, bytes) else data
    suspicious = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal suspicious
        result = dict(pairs)
        if len(result) != len(pairs):
            suspicious = True
        return result

    def constant(_: str) -> None:
        nonlocal suspicious
        suspicious = True

    def number(literal: str) -> float:
        nonlocal suspicious
        value = float(literal)
        if value - value != 0:  # infinite
            suspicious = True
        return value

    try:
        value = json.loads(text, object_pairs_hook=members, parse_constant=constant, parse_float=number)
    except json.JSONDecodeError as error:
        message = "no JSON: " + _syntax_message(text, error)
        raise FlowError([Problem(message, file=file, line=error.lineno, column=error.colno)]) from None
    except (RecursionError, ValueError):  # too deep; an integer of thousands of digits
        suspicious = True
        value = None
    if suspicious or _UNUSUAL_ESCAPE.search(text):
        _Scan(text, file).check(thorough=suspicious)
    return text, value


def _decode_utf8(data: bytes, file: str | None) -> str:
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        message = f"byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        raise FlowError([Problem(message, file=file, line=line, column=column)]) from None


def _syntax_message(text: str, error: json.JSONDecodeError) -> str:
    if not text.strip():
        return "the file is empty"
    rest = text[error.pos :].lstrip()
    before = text[: error.pos].rstrip()
    if rest.startswith(("}", "]")) and before.endswith(","):
        return "a comma before the closing bracket; take it away"
    if rest.startswith("'"):
        return "strings stand in double quotes"
    if rest.startswith(("//", "/*", "#")):
        return "JSON has no comments"
    return error.msg[0].lower() + error.msg[1:]


def located(problems: Iterable[Found], text: str | None, file: str | None) -> list[Problem]:
    """Return the problems with line and column, in the order of the text."""
    found = list(problems)
    if text is None:
        return [Problem(problem.message, format_path(problem.path), file) for problem in found]
    wanted = {path for problem in found for path in (problem.path, problem.path[:-1])}
    places = _Scan(text, file).locate(wanted)
    starts = _line_starts(text)
    placed = []
    for problem in found:
        # `"depends_on": "a"` means `["a"]`: what has no place of its own is reported where its parent stands.
        path = problem.path
        if path not in places:
            path = path[:-1]
        key_at, value_at = places[path]
        placed.append((key_at if problem.at_key else value_at, path, problem.message))
    placed.sort(key=lambda item: item[0])
    return [Problem(message, format_path(path), file, *_line_and_column(starts, at)) for at, path, message in placed]


def is_too_deep(value: Any) -> bool:
    """Return whether arrays and objects are inside each other more than MAX_DEPTH times."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, (list, tuple, dict))]
        if not containers:
            return False
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    return True


def format_path(path: Path) -> str:
    """Return `tasks[1].depends_on[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _line_and_column(starts: list[int], offset: int) -> tuple[int, int]:
    line = bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1


class _Scan:
    """One walk over a text, token by token, that knows the path it is at."""

    def __init__(self, text: str, file: str | None) -> None:
        self._text = text
        self._file = file

    def locate(self, wanted: Collection[Path]) -> dict[Path, tuple[int, int]]:
        """Return for each wanted path that is there the offsets of its key (or value, in an array) and of its value."""
        return {path: (key_at, value_at) for path, key_at, value_at, _ in self._values() if path in wanted}

    def check(self, *, thorough: bool) -> None:
        """Raise a FlowError for all that `json.loads` lets pass (or cannot say where it is)."""
        starts = _line_starts(self._text)
        problems: list[Problem] = []

        def report(offset: int, path: Path, message: str) -> None:
            line, column = _line_and_column(starts, offset)
            problems.append(Problem(message, format_path(path), self._file, line, column))

        seen: list[set[str]] = []  # the keys of each open object on the way to here
        for path, key_at, value_at, token in self._values():
            depth = len(path)
            del seen[depth + 1 :]
            while len(seen) <= depth:
                seen.append(set())
            seen[depth] = set()
            if path and isinstance(path[-1], str):
                if path[-1] in seen[depth - 1]:
                    report(key_at, path, f"the key {json.dumps(path[-1], ensure_ascii=False)} stands twice in one object")
                seen[depth - 1].add(path[-1])
                self._check_string(path[-1], key_at, path, report)
            if depth > MAX_DEPTH:
                report(value_at, path[:8], f"nested deeper than {MAX_DEPTH} levels")
                break
            if token[0] == '"':
                self._check_string(json.loads(token, strict=False), value_at, path, report)
            elif thorough and token not in ("[", "{", "true", "false", "null") and not _is_finite(token):
                shown = token if len(token) <= 20 else token[:20] + "..."
                report(value_at, path, f"{shown} is no number that JSON can hold")
        if problems:
            raise FlowError(problems)
        if thorough:
            raise FlowError([Problem("a number or a nesting in it is beyond what can be read", file=self._file)])

    @staticmethod
    def _check_string(string: str, offset: int, path: Path, report: Any) -> None:
        if "\0" in string:
            report(offset, path, "a NUL character; no argument, variable or file name can hold one")
        elif not string.isascii():
            try:
                string.encode("utf-8")
            except UnicodeEncodeError:
                report(offset, path, "half of a surrogate pair (\\ud800 to \\udfff), which is no character")

    def _values(self) -> Iterable[tuple[Path, int, int, str]]:
        """Yield path, offset of the key, offset of the value and first token of every value, parents first."""
        path: list[str | int] = []
        # One entry for each open container: True for an object.
        is_object: list[bool] = []
        expect_key = False
        key_at = 0
        for match in _TOKEN.finditer(self._text):
            token = match.group(match.lastindex or 0)
            at = match.end() - len(token)
            if token in ("}", "]"):
                if not is_object:
                    return
                is_object.pop()
                path.pop()
                expect_key = False
                continue
            if token == ":":
                continue
            if token == ",":
                if not is_object:
                    return
                if is_object[-1]:
                    expect_key = True
                else:
                    path[-1] = int(path[-1]) + 1
                continue
            if expect_key and token[0] == '"':
                path[-1] = json.loads(token, strict=False)
                key_at = at
                expect_key = False
                continue
            in_object = bool(is_object) and is_object[-1]
            yield tuple(path), (key_at if in_object else at), at, token
            if token == "{":
                is_object.append(True)
                path.append("")
                expect_key = True
            elif token == "[":
                is_object.append(False)
                path.append(0)


def _is_finite(token: str) -> bool:
    try:
        value = float(token)
    except ValueError:
        return False
    # An integer of more than 4,300 digits is as much beyond use as an infinite float.
    return value - value == 0
