"""Write the final report on the measured modules, as JSON or as text.

Last task of sample_flow. Reads the CSV file of process_data and reports its totals, what follows from them, and the
modules with the most code. Takes `date` and `source` from MINIFLOW_PARAMS where no option gives them, and runs by hand
without it.
"""

import argparse
import csv
import datetime as dt
import json
import os
import sys
from pathlib import Path
from typing import NoReturn, TypedDict

# ruff: noqa: T201 - what a task prints is its log

COUNTS = ("bytes", "lines", "code", "comments", "docstrings", "functions", "classes", "documented")
SUFFIXES = {"json": ".json", "text": ".txt"}


class Module(TypedDict):
    """What was measured of one module."""

    module: str
    counts: dict[str, int]


class Report(TypedDict):
    """The report; its JSON form has these keys in this order."""

    date: str
    source: str
    modules: int
    totals: dict[str, int]
    comment_share: float  # lines with a comment for each line of code
    documented_share: float  # functions and classes that have a docstring
    top_modules: list[dict[str, str | int]]


def fail(reason: str) -> NoReturn:
    """End the task with a line on standard error and exit status 1."""
    sys.exit(f"generate_report: error: {reason}")


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
    """Refuse a date that is none."""
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        fail(f"{json.dumps(text)} is no date; write it as YYYY-MM-DD")


def read_modules(path: Path) -> list[Module]:
    """Return the measured modules in the file's order."""
    modules: list[Module] = []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                modules.append({"module": row["module"], "counts": {name: int(row[name]) for name in COUNTS}})
            except KeyError as missing:
                fail(f"{path} has no column {missing}")
            except (TypeError, ValueError):
                fail(f"{path}:{line}: a count is missing or is no number")
    if not modules:
        fail(f"{path} has no rows")
    return modules


def build_report(modules: list[Module], date: str, source: str, top: int) -> Report:
    """Return the report; modules of equal size are in order of name."""
    totals = {name: sum(module["counts"][name] for module in modules) for name in COUNTS}
    definitions = totals["functions"] + totals["classes"]
    largest = sorted(modules, key=lambda module: (-module["counts"]["code"], module["module"]))
    return {
        "date": date,
        "source": source,
        "modules": len(modules),
        "totals": totals,
        "comment_share": round(totals["comments"] / max(totals["code"], 1), 3),
        "documented_share": round(totals["documented"] / max(definitions, 1), 3),
        "top_modules": [{"module": module["module"], **module["counts"]} for module in largest[:top]],
    }


def render_text(report: Report) -> str:
    """Return the report for people."""
    lines = [f"{report['source']}, {report['date']}: {report['modules']} modules", ""]
    lines += [f"  {name:<12}{count:>12,}" for name, count in report["totals"].items()]
    lines += ["", f"  {report['comment_share']:.1%} comment lines for each line of code"]
    lines += [f"  {report['documented_share']:.1%} of the functions and classes have a docstring"]
    lines += ["", "Most code:"]
    lines += [f"  {row['code']:>8,}  {row['module']}" for row in report["top_modules"]]
    return "\n".join(lines) + "\n"


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
    parser = argparse.ArgumentParser(description="Write the final report on the measured modules.")
    parser.add_argument("--input", type=Path, help="the CSV file to read (default: data/processed_SOURCE_DATE.csv)")
    parser.add_argument("--format", choices=SUFFIXES, default="json", help="the report's form (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="the file to write (default: reports/final_report.json or .txt)")
    parser.add_argument("--source", default=params["source"], help="the package measured (default: %(default)s)")
    parser.add_argument("--date", default=params["date"], help="the date of this report (default: %(default)s)")
    parser.add_argument("--top", type=int, default=5, help="how many modules to name (default: %(default)s)")
    options = parser.parse_args()

    check_date(options.date)
    if options.top < 0:
        fail(f"--top must be 0 or more, not {options.top}")
    source_file = options.input or Path(f"data/processed_{options.source}_{options.date}.csv")
    output = options.output or Path("reports/final_report").with_suffix(SUFFIXES[options.format])

    report = build_report(read_modules(source_file), options.date, options.source, options.top)
    text = render_text(report) if options.format == "text" else json.dumps(report, indent=2) + "\n"
    write_atomically(output, text)
    print(f"{report['source']}: {report['modules']} modules, {report['totals']['code']:,} lines of code")
    for row in report["top_modules"]:
        print(f"  {row['module']}: {row['code']:,}")
    print(f"wrote {output}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, csv.Error) as error:
        fail(str(error))
