"""The command: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import comparisons, drawing, growth, micro, own_time, startup
from benchmarks.contenders import BareLoop, Contender, Floor, MiniFlow
from benchmarks.machine import machine, versions
from benchmarks.measure import BenchmarkError
from benchmarks.peers import peers
from benchmarks.report import TARGETS, Result, as_markdown, as_text, targets, write_page
from benchmarks.workloads import Workload, large_flow
from benchmarks.workloads import comparisons as compared

PAGE = Path(__file__).with_name("README.md")


@dataclass(frozen=True, slots=True)
class Plan:
    """What one call of the command is about."""

    folder: Path
    rounds: int
    quick: bool
    contenders: Sequence[Contender]
    """The floor first, if it is there."""

    def place(self, name: str) -> Path:
        """Return an empty folder."""
        path = self.folder / name
        path.mkdir()
        return path


def benchmarks(plan: Plan) -> dict[str, Callable[[], list[Result]]]:
    """Return all benchmarks by their names, in the order of the page."""
    quick = plan.quick
    floor = next((contender for contender in plan.contenders if isinstance(contender, Floor)), None)

    def compare(workload: Workload) -> list[Result]:
        return [comparisons.compare(workload, plan.contenders, plan.place(workload.name), plan.rounds)]

    def profile() -> list[Result]:
        place = plan.place("profile")
        workloads = compared(quick=quick)
        sampled: list[tuple[Workload, tuple[str, ...]]] = [
            (workloads["spawn"], ()),
            (workloads["logs"], ()),
            (large_flow(sizes[-1]), ("--dry-run",)),
        ]
        results = []
        for workload, options in sampled:
            (place / workload.name).mkdir()
            results.append(own_time.profile(workload, place / workload.name, *options))
        (place / "imports").mkdir()
        return [*results, own_time.imports(place / "imports", plan.rounds)]

    sizes = [100, 1_000] if quick else [100, 1_000, 10_000, 100_000]
    return {
        **{name: partial(compare, workload) for name, workload in compared(quick=quick).items()},
        "growth": lambda: [growth.grow(sizes, floor, plan.place("growth"), plan.rounds)],
        "load": lambda: [micro.loading(sizes, plan.place("load"), plan.rounds)],
        "startup": lambda: [startup.start_up(plan.place("startup"), plan.rounds * 4)],
        "scheduler": lambda: [micro.scheduler([1_000, 10_000] if quick else [1_000, 10_000, 100_000, 1_000_000], plan.rounds)],
        "capture": lambda: [micro.capturing(100_000 if quick else 1_000_000, plan.rounds)],
        "drawing": lambda: [drawing.drawing(compared(quick=quick)["logs"], plan.place("drawing"), plan.rounds * 2)],
        "profile": profile,
    }


def main() -> int:
    """Run what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what MiniFlow costs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="the benchmarks to run; all unless any is named")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="another way to name one")
    parser.add_argument("--against", action="append", metavar="NAME", help="compare with these alone, not with all")
    parser.add_argument("--rounds", type=_count, default=5, metavar="N", help="how often each is measured (default 5)")
    parser.add_argument("--quick", action="store_true", help="much less to do: to see that it works, not to be quoted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    parser.add_argument("--write-readme", action="store_true", help="put the tables into benchmarks/README.md")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="make the temporary folder there: the file system counts")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # leaves nothing behind either
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.folder) as path:
        folder = Path(path).resolve()
        known: list[Contender] = [Floor(folder), MiniFlow(), MiniFlow(keeps_runs=True), BareLoop(), *peers()]
        if options.against is not None:
            _refuse_unknown(parser, options.against, {contender.name for contender in known})
            known = [contender for contender in known if isinstance(contender, MiniFlow) or contender.name in options.against]
        contenders = []
        for contender in known:
            if reason := contender.missing():
                print(f"without {contender.name}: {reason}")
            else:
                contenders.append(contender)
        if contenders[0].name != "floor":
            print("without the floor, ratios are to MiniFlow itself")
        if any(name.startswith("__editable__") for name in sys.modules):
            print("this is an editable install: every Python starts later by it, each task as well, and ratios look too good")
        about = _about(folder, contenders, options)
        print(_in_full(about))
        all_of_them = benchmarks(Plan(folder, options.rounds, options.quick, contenders))
        wanted = [*options.names, *options.only]
        _refuse_unknown(parser, wanted, set(all_of_them))
        results = []
        for name in wanted or all_of_them:
            try:
                found = all_of_them[name]()
            except (BenchmarkError, subprocess.CalledProcessError) as error:
                print(f"error: {name}: {error}", file=sys.stderr)
                return 1
            for result in found:
                print(f"\n{as_text(result)}", flush=True)
            results += found
            shutil.rmtree(folder / name, ignore_errors=True)
        summary = targets(results)
        if summary.rows:
            print(f"\n{as_text(summary)}")
            results.append(summary)
        about["load_at_end"] = machine(folder)["load"]
    if options.json is not None:
        options.json.write_text(json.dumps({**about, "results": [asdict(result) for result in results]}, indent=1) + "\n")
    if options.write_readme:
        is_whole = len(summary.rows) == len(TARGETS)  # else what others have measured would be gone
        tables = {
            result.name: as_markdown(result, _in_a_line(about)) for result in results if is_whole or result is not summary
        }
        write_page(PAGE, {"machine": _in_full(about), **tables})
    return 0


def _about(folder: Path, contenders: Sequence[Contender], options: argparse.Namespace) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    where, what = machine(folder), versions(contenders)
    return {
        "schema": 1,
        "date": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "quick": options.quick,
        "rounds": options.rounds,
        "machine": where,
        "versions": what,
    }


def _in_a_line(about: Mapping[str, Any]) -> str:
    """Return when and where something was measured."""
    where, what = about["machine"], about["versions"]
    return (
        f"{about['date'][:10]}, commit {what['commit']}, Python {what['python']}, {where['cpu']}, {where['cores']} cores, "
        f"load {where['load'][0]} before{', quick' if about['quick'] else ''}"
    )


def _in_full(about: Mapping[str, Any]) -> str:
    where = about["machine"]
    software = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['date']}: {where['cpu']}, {where['cores']} cores, {where['memory_gb']} GB, {where['kernel']}, "
        f"temporary folder on {where['file_system']}; {software}"
    )


def _refuse_unknown(parser: argparse.ArgumentParser, names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            parser.error(f'there is no "{name}"; there are: {", ".join(sorted(known))}')


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count


if __name__ == "__main__":
    sys.exit(main())
