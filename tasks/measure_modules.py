"""Measure a part of the installed standard library: the modules whose names begin with the letters --first to --last.

Script of the measure_... tasks of the flow measure_stdlib. Tokenizes, parses and compiles every source file, the last
twice: as `python` and as `python -OO` would. Writes one JSON file with the counts of each top-level module. Leading
underscores do not count as letters; test folders are left out; files that do not parse are listed, not measured. The
result depends on the installed Python alone.
"""

import argparse
import ast
import io
import json
import os
import platform
import string
import sys
import sysconfig
import tokenize
import warnings
from collections import Counter
from pathlib import Path
from types import CodeType
from typing import NoReturn

# ruff: noqa: T201 - what a task prints is its log

TEST_FOLDERS = {"test", "tests", "idle_test"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.BoolOp,
    ast.comprehension,
    ast.match_case,
)
# MemoryError is how the parser refuses source that is nested too deeply.
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError)


def fail(reason: str) -> NoReturn:
    """End the task with a line on standard error and exit status 1."""
    sys.exit(f"measure_modules: error: {reason}")


def find_modules(library: Path, first: str, last: str) -> dict[str, list[Path]]:
    """Return the source files of each top-level module from letter `first` to letter `last`, all in order."""
    modules = {}
    for name in sorted(sys.stdlib_module_names):
        if not first <= name.lstrip("_")[:1].lower() <= last:
            continue
        files = [library / f"{name}.py"] if (library / f"{name}.py").is_file() else []
        files += sorted(
            path for path in (library / name).rglob("*.py") if TEST_FOLDERS.isdisjoint(path.relative_to(library).parts)
        )
        if files:  # the others are written in C
            modules[name] = files
    return modules


def bytecode_size(code: CodeType) -> int:
    """Return the bytes of instructions in a code object and in all it contains."""
    size = 0
    waiting = [code]
    while waiting:
        current = waiting.pop()
        size += len(current.co_code)
        waiting += [constant for constant in current.co_consts if isinstance(constant, CodeType)]
    return size


def measure(source: bytes) -> dict[str, int]:
    """Return the counts of one source file."""
    tree = ast.parse(source)
    nodes = Counter(map(type, ast.walk(tree)))
    tokens = Counter(token.type for token in tokenize.tokenize(io.BytesIO(source).readline))
    plain, optimized = (
        bytecode_size(compile(tree, "<measured>", "exec", dont_inherit=True, optimize=level)) for level in (0, 2)
    )
    return {
        "files": 1,
        "bytes": len(source),
        "lines": len(source.splitlines()),
        "tokens": tokens.total(),
        "comments": tokens[tokenize.COMMENT],
        "functions": sum(nodes[kind] for kind in FUNCTIONS),
        "classes": nodes[ast.ClassDef],
        "branches": sum(nodes[kind] for kind in BRANCHES),
        "bytecode": plain,
        "bytecode_optimized": optimized,
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
    parser = argparse.ArgumentParser(description="Measure the standard library's modules from one letter to another.")
    parser.add_argument("--first", choices=string.ascii_lowercase, metavar="LETTER", default="a", help="default: a")
    parser.add_argument("--last", choices=string.ascii_lowercase, metavar="LETTER", default="z", help="default: z")
    parser.add_argument("--output", type=Path, help="the JSON file (default: data/measures/FIRST-LAST.json)")
    options = parser.parse_args()
    if options.first > options.last:
        fail(f"--first {options.first} comes after --last {options.last}")
    output = options.output or Path(f"data/measures/{options.first}-{options.last}.json")

    warnings.simplefilter("ignore")  # what the compiler thinks of somebody else's code is not this task's output
    library = Path(sysconfig.get_path("stdlib"))
    modules = find_modules(library, options.first, options.last)
    if not modules:
        fail(f"no source files from {options.first} to {options.last} in {library}")
    print(f"measuring {sum(map(len, modules.values()))} source files of {len(modules)} modules")

    measures: dict[str, dict[str, int]] = {}
    unparsed = []
    for name, files in modules.items():
        counts: Counter[str] = Counter()
        for path in files:
            try:
                counts.update(measure(path.read_bytes()))
            except UNPARSABLE:
                unparsed.append(path.relative_to(library).as_posix())
        if counts:
            measures[name] = dict(counts)
    result = {
        "python": platform.python_version(),
        "first": options.first,
        "last": options.last,
        "unparsed": unparsed,
        "modules": measures,
    }
    write_atomically(output, json.dumps(result, indent=1) + "\n")
    lines = sum(counts["lines"] for counts in measures.values())
    print(f"measured {lines:,} lines; {len(unparsed)} files do not parse")
    print(f"wrote {output}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        fail(str(error))
