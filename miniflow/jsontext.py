"""JSON text → plain values, strictly, and the line and column of any path in it.

`json` gives no positions for valid values, and keeping them would make every good file pay: they are found by a second,
slower scan that runs only when there is a problem to report. The scan is iterative, so no depth of nesting breaks it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping

from miniflow.errors import FlowError, Problem
from miniflow.suggest import quoted
from miniflow.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Decoded: TypeAlias = tuple[str, Any, list["Found"]]
    """A text, its value, and what is wrong with it already."""
    ReadElement: TypeAlias = Callable[[int, Any], Any]
    """Returns what is to stand in the place of an array's element, of which it is told the index."""
    ReadElements: TypeAlias = Callable[[str, Mapping[str, Any]], ReadElement | None]
    """Says how the elements of an array in the outermost object are to be read, by its name and the members before it; None:
    they stay as they are. What is read is read at once, so that a large array is never there as a whole."""
    Scan: TypeAlias = Callable[[str, int], tuple[Any, int]]
    """Decodes the value that begins at an offset; returns it, and where it ends."""

Path: TypeAlias = tuple[str | int, ...]

MAX_DEPTH = 64
"""Of arrays and objects inside each other. A flow needs five; parameters may hold data of their own."""

# Compiled when they are used, but for the two that every good file needs.
_TOKEN = r'(?s)[ \t\r\n]*(?:([{}\[\],:])|("[^"\\]*(?:\\.[^"\\]*)*")|([^\s{}\[\],:"]+))'
_SURROGATE = r"[\ud800-\udfff]"
_UNUSUAL_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_PLAIN_KEY = r"[A-Za-z_$][A-Za-z0-9_$-]*"
# What stands between values in the two outermost levels, with the white space around it.
_BETWEEN = re.compile(r"[ \t\n\r]*([{}\[\],:]?)[ \t\n\r]*")


@dataclass(slots=True)
class Found:
    """A problem before it has a line and a column."""

    path: Path
    message: str
    at_key: bool = False
    """Point at the key of an object's member, not at its value."""
    offset: int | None = None
    """Where in the text; None: where the path leads."""


def decode(data: bytes | str, file: str | None = None, read_elements: ReadElements | None = None) -> Decoded:
    """Return the text (without a byte order mark), its value, and what `json.loads` lets pass but is wrong.

    That is: a key twice in one object, NaN and numbers beyond all range (None stands for them in the value), NUL or half a
    surrogate pair in a string. They come as problems, so that they can be reported together with all others.

    Args:
        data: The text.
        file: Its name, for messages.
        read_elements: May be asked in vain: if something is wrong with the text, all elements stay as they are.

    Raises:
        FlowError: No UTF-8, no JSON, or nested too deep to be read.
    """
    text = data if isinstance(data, str) else decode_utf8(data, file)
    suspicious = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal suspicious
        result = dict(pairs)
        if len(result) != len(pairs):
            suspicious = True
        return result

    def unusable(_: str) -> Any:
        nonlocal suspicious
        suspicious = True
        return None

    def number(literal: str) -> Any:
        return float(literal) if _is_finite(literal) else unusable(literal)

    def integer(literal: str) -> Any:
        # As far as a float reaches: most programs that read JSON can hold no more.
        return int(literal) if len(literal) < 300 or _is_finite(literal) else unusable(literal)

    hooks: Any = {"object_pairs_hook": members, "parse_constant": unusable, "parse_float": number, "parse_int": integer}
    decoder: Any = json.JSONDecoder(**hooks)
    try:
        value = _decode_in_parts(text, decoder.scan_once, read_elements) if read_elements else None
        if value is None:
            value = json.loads(text, **hooks)
    except json.JSONDecodeError as error:
        message, offset = _syntax_problem(text, error)
        place = _line_and_column(_line_starts(text), offset)
        raise FlowError([Problem(f"no JSON: {message}", "", file, *place)]) from None
    except RecursionError:
        raise FlowError([_Scan(text).too_deep(file)]) from None
    if suspicious or _UNUSUAL_ESCAPE.search(text) or (not text.isascii() and re.search(_SURROGATE, text)):
        return text, value, _Scan(text).lint()
    return text, value, []


def _decode_in_parts(text: str, scan: Scan, read_elements: ReadElements) -> dict[str, Any] | None:
    """Return the object of a text, with what was read of its arrays; None: it has to be decoded as a whole.

    That is so if something is wrong with it, which the decoder knows how to say, or if a key stands twice in it.
    """
    result: dict[str, Any] = {}
    try:
        at, sign = _next(text, 0)
        if sign != "{":
            return None
        while sign != "}":
            if text[at] != '"':
                return None
            key, at = scan(text, at)
            at, sign = _next(text, at)
            if sign != ":" or key in result:
                return None
            read = read_elements(key, result) if text[at] == "[" else None
            if read is None:
                result[key], at = scan(text, at)
            else:
                result[key], at = _elements(text, at, scan, read)
            at, sign = _next(text, at)
            if sign not in (",", "}"):
                return None
    except (StopIteration, ValueError, IndexError):
        return None
    return result if at == len(text) else None


def _elements(text: str, at: int, scan: Scan, read: ReadElement) -> tuple[list[Any], int]:
    """Return what was read of an array's elements, of which there is at least one, and where the array ends.

    Raises:
        StopIteration, ValueError: Something is wrong with it.
    """
    elements: list[Any] = []
    at, sign = _next(text, at)
    while sign != "]":
        element, at = scan(text, at)
        elements.append(read(len(elements), element))
        at, sign = _next(text, at)
        if sign not in (",", "]"):
            raise ValueError(sign)
    return elements, at


def _next(text: str, at: int) -> tuple[int, str]:
    """Return where to go on after what stands between two values, and the one sign in it."""
    match = _BETWEEN.match(text, at)
    assert match is not None, "it matches nothing as well"
    return match.end(), match[1]


def check_depth(text: str, value: Any, file: str | None) -> None:
    """Refuse a value with arrays and objects inside each other more than MAX_DEPTH times.

    Raises:
        FlowError: It is nested deeper.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, (list, dict))]
        if not containers:
            return
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    raise FlowError([_Scan(text).too_deep(file)])


def decode_utf8(data: bytes, file: str | None) -> str:
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        message = f"byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        raise FlowError([Problem(message, file=file, line=line, column=column)]) from None


def _syntax_problem(text: str, error: json.JSONDecodeError) -> tuple[str, int]:
    """Return what is wrong and where, the same for every version of Python."""
    if not text.strip():
        return "there is nothing in it", 0
    rest = text[error.pos :].lstrip()
    before = text[: error.pos].rstrip()
    if rest.startswith(",") and "trailing comma" in error.msg:
        return "a comma before the closing bracket; take it away", error.pos
    if rest.startswith(("}", "]")) and before.endswith(","):
        return "a comma before the closing bracket; take it away", len(before) - 1
    if rest.startswith("\0"):
        return "a NUL character; save the file as UTF-8, not as UTF-16", error.pos
    if rest.startswith("'"):
        return "strings stand in double quotes", error.pos
    if rest.startswith(("//", "/*", "#")):
        return "JSON has no comments", error.pos
    if rest.startswith(("True", "False", "None")):
        return "JSON writes true, false and null", error.pos
    if error.msg.startswith("Invalid control character"):
        return "a line break or another control character in a string; write it as \\n, \\t, \\u001b", error.pos
    if error.msg.startswith("Unterminated string"):
        return "a string without its closing quote", error.pos
    if not rest:
        return "it ends before its last bracket is closed", error.pos
    return error.msg[0].lower() + error.msg[1:], error.pos


def located(problems: Iterable[Found], text: str | None, file: str | None) -> list[Problem]:
    """Return the problems with line and column, in the order of the text, each once."""
    found = list(problems)
    if text is None:
        return list(dict.fromkeys(Problem(problem.message, format_path(problem.path), file) for problem in found))
    wanted = {path for problem in found for path in (problem.path, problem.path[:-1])}
    places = _Scan(text).locate(wanted)
    starts = _line_starts(text)
    placed: dict[tuple[int, Path, str], None] = {}
    for problem in found:
        # `"depends_on": "a"` means `["a"]`: what has no place of its own is reported where its parent stands.
        path = problem.path if problem.path in places else problem.path[:-1]
        key_at, value_at = places[path]
        offset = problem.offset if problem.offset is not None else key_at if problem.at_key else value_at
        placed[offset, path, problem.message] = None
    in_order = sorted(placed, key=lambda place: place[0])
    return [Problem(message, format_path(path), file, *_line_and_column(starts, at)) for at, path, message in in_order]


def format_path(path: Path) -> str:
    """Return `tasks[1].depends_on[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif len(part) <= 100 and re.fullmatch(_PLAIN_KEY, part):
            text += f".{part}" if text else part
        else:
            text += f"[{quoted(part)}]"
    return text


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _line_and_column(starts: list[int], offset: int) -> tuple[int, int]:
    from bisect import bisect_right  # here, as good files need it not

    line = bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1


class _Scan:
    """One walk over a text, token by token, that knows the path it is at."""

    def __init__(self, text: str) -> None:
        self._text = text

    def locate(self, wanted: Collection[Path]) -> dict[Path, tuple[int, int]]:
        """Return for each wanted path that is there the offsets of its key (or value, in an array) and of its value."""
        return {path: (key_at, value_at) for path, key_at, value_at, _ in self._values() if path in wanted}

    def too_deep(self, file: str | None) -> Problem:
        """Return the problem of a text that is nested too deep."""
        message = f"nested deeper than {MAX_DEPTH} levels"
        for path, _, value_at, token in self._values():
            if len(path) >= MAX_DEPTH and token in ("[", "{"):
                return Problem(message, format_path(path[:8]), file, *_line_and_column(_line_starts(self._text), value_at))
        return Problem(message, file=file)

    def lint(self) -> list[Found]:
        """Return all that `json.loads` lets pass, or cannot say where it is."""
        problems: list[Found] = []
        seen: list[set[str]] = []  # the keys of each open object on the way to here
        for path, key_at, value_at, token in self._values():
            depth = len(path)
            del seen[depth + 1 :]
            while len(seen) <= depth:
                seen.append(set())
            seen[depth] = set()
            if path and isinstance(key := path[-1], str):
                if key in seen[depth - 1]:
                    problems.append(Found(path, f"the key {quoted(key)} stands twice in one object", True, key_at))
                seen[depth - 1].add(key)
                if problem := _string_problem(key):
                    problems.append(Found(path, problem, True, key_at))
            if token[0] == '"':
                if problem := _string_problem(_unescape(token)):
                    problems.append(Found(path, problem, False, value_at))
            elif token not in ("[", "{", "true", "false", "null") and not _is_finite(token):
                shown = token if len(token) <= 20 else token[:20] + "..."
                problems.append(Found(path, f"{shown} is no number that JSON can hold", False, value_at))
        return problems

    def _values(self) -> Iterable[tuple[Path, int, int, str]]:
        """Yield path, offset of the key, offset of the value and first token of every value, parents first."""
        path: list[str | int] = []
        # One entry for each open container: True for an object.
        is_object: list[bool] = []
        expect_key = False
        key_at = 0
        for match in re.finditer(_TOKEN, self._text):
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
                path[-1] = _unescape(token)
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


def _unescape(token: str) -> str:
    try:
        return str(json.loads(token, strict=False))
    except ValueError:  # in a text that could not be read to its end
        return token


def _string_problem(string: str) -> str | None:
    if "\0" in string:
        return "a NUL character; no argument, variable or file name can hold one"
    if not string.isascii() and re.search(_SURROGATE, string):
        return "half of a surrogate pair (\\ud800 to \\udfff), which is no character"
    return None


def _is_finite(literal: str) -> bool:
    try:
        value = float(literal)
    except ValueError:
        return False
    return value - value == 0
