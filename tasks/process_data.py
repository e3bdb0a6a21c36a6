"""Clean an inventory of source files and measure every module that is left.

Second task of sample_flow. Reads the CSV file of fetch_data, drops the rows that cannot be used (says how many and why)
and writes one row a module: its lines of code, of comments and of docstrings, its functions and classes, and how many
of those are documented. Takes its default file names from MINIFLOW_PARAMS, and runs by hand without it.
"""

import argparse
import ast
import csv
import io
import json
import os
import sys
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

# ruff: noqa: T201 - what a task prints is its log

COLUMNS = ("module", "bytes", "lines", "code", "comments", "docstrings", "functions", "classes", "documented")
LAYOUT = {
    tokenize.ENCODING,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.NEWLINE,
    tokenize.NL,
    tokenize.ENDMARKER,
}
# MemoryError is how the parser refuses source that is nested too deeply.
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError)


class UnusableRowError(Exception):
    """A row that cleaning drops; the message is the reason, the same for all rows alike."""


def fail(reason: str) -> NoReturn:
    """End the task with a line on standard error and exit status 1."""
    sys.exit(f"process_data: error: {reason}")


def read_params() -> dict[str, str]:
    """Return the run's parameters; the flow's defaults where the script runs by hand."""
    try:
        params = json.loads(os.environ.get("MINIFLOW_PARAMS") or "{}")
    except ValueError as error:
        fail(f"MINIFLOW_PARAMS is no JSON: {error}")
    if not isinstance(params, dict):
        fail("MINIFLOW_PARAMS must be a JSON object")
    return {"date": "2023-01-01", "source": "json"} | {name: str(value) for name, value in params.items()}


def measure(source: bytes) -> dict[str, int]:
    """Return the counts of one source file, keys as in COLUMNS; a line counts once for each kind of text it holds."""
    functions = classes = documented = 0
    docstring_starts = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        has_docstring = ast.get_docstring(node, clean=False) is not None
        if has_docstring:
            docstring_starts.add((node.body[0].lineno, node.body[0].col_offset))
        if isinstance(node, ast.ClassDef):
            classes += 1
        elif not isinstance(node, ast.Module):
            functions += 1
        documented += has_docstring and node is not tree

    code, comments, docstrings = set[int](), set[int](), set[int]()
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type in LAYOUT:
            continue
        if token.type == tokenize.COMMENT:
            kind = comments
        elif token.type == tokenize.STRING and token.start in docstring_starts:
            kind = docstrings
        else:
            kind = code
        kind.update(range(token.start[0], token.end[0] + 1))
    return {
        "code": len(code),
        "comments": len(comments),
        "docstrings": len(docstrings),
        "functions": functions,
        "classes": classes,
        "documented": documented,
    }


def process(row: dict[str, str], seen: set[str]) -> dict[str, str | int]:
    """Return the measures of one inventory row's module, and add it to `seen`.

    Raises:
        UnusableRowError: If the row is incomplete or double, or its file is empty, gone, changed or no Python.
    """
    if not (row["module"] and row["path"] and str(row["bytes"]).isdecimal() and str(row["lines"]).isdecimal()):
        raise UnusableRowError("incomplete")
    if row["module"] in seen:
        raise UnusableRowError("double")
    seen.add(row["module"])
    if row["lines"] == "0":
        raise UnusableRowError("empty")
    try:
        source = Path(row["path"]).read_bytes()
    except FileNotFoundError:
        raise UnusableRowError("gone") from None
    if len(source) != int(row["bytes"]):
        raise UnusableRowError("changed")
    try:
        measures = measure(source)
    except UNPARSABLE:
        raise UnusableRowError("unparsable") from None
    return {"module": row["module"], "bytes": int(row["bytes"]), "lines": int(row["lines"]), **measures}


def read_inventory(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of the inventory."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(file, restval="")
        missing = {"module", "path", "bytes", "lines"} - set(reader.fieldnames or ())
        if missing:
            fail(f"{path} is no inventory: it has no column {', '.join(sorted(missing))}")
        yield from reader


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees either all of it or what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    run = "{source}_{date}".format_map(read_params())
    parser = argparse.ArgumentParser(description="Clean an inventory of source files and measure its modules.")
    parser.add_argument(
        "--input-file",
        type=Path,
        default=Path(f"data/raw_{run}.csv"),
        help="the CSV file of fetch_data (default: %(default)s)",
    )
    parser.add_argument(
        "--output-file",
        type=Path,
        default=Path(f"data/processed_{run}.csv"),
        help="the CSV file to write (default: %(default)s)",
    )
    options = parser.parse_args()

    warnings.simplefilter("ignore")  # what the parser thinks of somebody else's code is not this task's output
    seen: set[str] = set()
    dropped: Counter[str] = Counter()
    measured = []
    for row in read_inventory(options.input_file):
        try:
            measured.append(process(row, seen))
        except UnusableRowError as reason:
            dropped[str(reason)] += 1
    print(f"read {len(measured) + dropped.total()} rows of {options.input_file}")
    if dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
        print(f"dropped {dropped.total()} of them: {reasons}")
    if not measured:
        fail(f"{options.input_file} has no usable row")

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(measured)
    write_atomically(options.output_file, text.getvalue())
    print(f"measured {len(measured)} modules, {sum(int(row['code']) for row in measured):,} lines of code")
    print(f"wrote {options.output_file}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, csv.Error) as error:
        fail(str(error))
