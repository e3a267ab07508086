"""Measure and report: `python -m benchmarks [--quick] [--only PART] [--cases REGEX] [--rows N]`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from benchmarks.cases import Case
from benchmarks.environment import environment
from benchmarks.report import Measured, as_json, as_markdown
from benchmarks.runner import ROOT, ContenderError, Run, Runner
from benchmarks.servers import SERVERS, NoServerError
from benchmarks.targets import PARTS, Part

PACKAGES = ("psycopg", "pgpq", "pyarrow", "lxml", "xml2arrow", "adbc-driver-sqlite", "pyodbc",
            "mssql-python", "pymongo")  # fmt: skip


def arguments() -> argparse.Namespace:
    """Return the command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 rows, once")
    parser.add_argument("--only", choices=[part.name for part in PARTS], help="one part; the others stay")
    parser.add_argument("--cases", default="", metavar="REGEX", help="only the cases whose name matches")
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows of a case; some have a multiple or a share of them"
    )
    parser.add_argument("--reps", type=int, default=5, help="repetitions")
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="folder for inputs and databases")
    given = parser.parse_args()
    if given.quick:
        given.rows, given.reps = 100_000, 1
    given.partial = (given.rows, given.reps, given.cases) != (1_000_000, 5, "")
    return given


def measure(runner: Runner, cases: list[Case], reps: int) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """Return the runs and what could not run; contenders take turns, so that noise meets all alike."""
    runs: dict[str, list[Run]] = defaultdict(list)
    failures: dict[str, str] = {}
    for repetition in range(reps):
        for case in cases:
            for contender in case.contenders:
                name = f"{case.name}/{contender.name}"
                if name in failures:
                    continue
                try:
                    run = runner.measure(case, contender)
                except ContenderError as error:
                    failures[name] = str(error)
                    runs.pop(name, None)
                    print(f"{name}: {error}", file=sys.stderr)
                else:
                    runs[name].append(run)
                    print(f"{repetition + 1}/{reps} {name}: {run.phase:.2f} s", file=sys.stderr)
    return dict(runs), failures


def measure_part(part: Part, given: argparse.Namespace) -> Measured | None:
    """Return what was measured of a part; None if no case was wanted, or there is no server."""
    cases = [case for case in part.cases if re.search(given.cases, case.name)]
    if not cases:
        return None
    before = os.getloadavg()[0]
    try:
        with SERVERS[part.name](given.cache) as server:
            runs, failures = measure(Runner(given.cache.resolve(), server.url, given.rows), cases, given.reps)
    except NoServerError as error:
        print(f"{part.name}: {error}", file=sys.stderr)
        return None
    about = {
        **environment(PACKAGES),
        "peers": "see benchmarks/requirements.txt",
        "server": server.about,
        "load average": f"{before:.1f} at the start, {os.getloadavg()[0]:.1f} at the end",
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }
    return Measured(about, runs, failures)


def write(folder: Path, report: Mapping[str, Measured]) -> None:
    """Write the report for people and for programs."""
    (folder / "benchmarks.md").write_text(as_markdown(report))
    (folder / "benchmarks.json").write_text(json.dumps(as_json(report), indent=1) + "\n")


def main() -> int:
    """Run the parts and write the report; only a complete run of a part replaces what docs/ has of it."""
    given = arguments()
    given.cache.mkdir(parents=True, exist_ok=True)
    wanted = [part for part in PARTS if given.only in (None, part.name)]
    report = {part.name: found for part in wanted if (found := measure_part(part, given))}
    print(as_markdown(report))
    if given.partial:
        write(given.cache, report)
    else:
        written = json.loads((ROOT / "docs/benchmarks.json").read_text())
        write(ROOT / "docs", {name: Measured.read(found) for name, found in written.items()} | report)
    failed = {name for found in report.values() for name in found.failures}
    return 1 if any(target.ours in failed for part in wanted for target in part.targets) else 0


if __name__ == "__main__":
    sys.exit(main())
