"""Inventory the source files of one package of the installed standard library as a CSV file.

First task of sample_flow. One row a source file, in order of module name: module, path, bytes, lines. The date names
the files of this run; the data itself depends on the installed Python alone. Takes `date` and `source` from
MINIFLOW_PARAMS where no option gives them, and runs by hand without it.
"""

import argparse
import csv
import datetime as dt
import difflib
import io
import json
import os
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

# ruff: noqa: T201 - what a task prints is its log

COLUMNS = ("module", "path", "bytes", "lines")


def fail(reason: str) -> NoReturn:
    """End the task with a line on standard error and exit status 1."""
    sys.exit(f"fetch_data: error: {reason}")


def read_params() -> dict[str, str]:
    """Return the run's parameters; the flow's defaults where the script runs by hand."""
    try:
        params = json.loads(os.environ.get("MINIFLOW_PARAMS") or "{}")
    except ValueError as error:
        fail(f"MINIFLOW_PARAMS is no JSON: {error}")
    if not isinstance(params, dict):
        fail("MINIFLOW_PARAMS must be a JSON object")
    return {"date": "2023-01-01", "source": "json"} | {name: str(value) for name, value in params.items()}


def check_date(text: str) -> None:
    """Refuse a date that is none; it becomes part of file names."""
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        fail(f"{json.dumps(text)} is no date; write it as YYYY-MM-DD")


def find_package(name: str) -> Path:
    """Return the folder of a package of the standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    packages = sorted(known for known in sys.stdlib_module_names if (library / known / "__init__.py").is_file())
    if not packages:
        fail(f"this Python's standard library has no source files in {library}")
    if name not in packages:
        near = difflib.get_close_matches(name, packages)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(packages)}"
        fail(f"no package {json.dumps(name)} in the standard library; {hint}")
    return library / name


def describe(path: Path, package: Path) -> dict[str, str | int]:
    """Return the inventory row of one source file."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    content = path.read_bytes()
    return {
        "module": ".".join(parts[:-1] if parts[-1] == "__init__" else parts),
        "path": str(path),
        "bytes": len(content),
        "lines": len(content.splitlines()),
    }


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
    params = read_params()
    parser = argparse.ArgumentParser(description="Inventory a standard library package's source files as CSV.")
    parser.add_argument("--source", default=params["source"], help="the package, e.g. email (default: %(default)s)")
    parser.add_argument("--date", default=params["date"], help="the date of this report (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="the CSV file (default: data/raw_SOURCE_DATE.csv)")
    options = parser.parse_args()

    check_date(options.date)
    package = find_package(options.source)
    output = options.output or Path(f"data/raw_{options.source}_{options.date}.csv")

    print(f"reading the package {options.source} for {options.date}")
    rows = sorted((describe(path, package) for path in package.rglob("*.py")), key=lambda row: str(row["module"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(output, text.getvalue())
    print(f"found {len(rows)} source files, {sum(int(row['bytes']) for row in rows):,} bytes")
    print(f"wrote {output}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        fail(str(error))
