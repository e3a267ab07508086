"""Measure and report: `python -m benchmarks [--quick] [--cases REGEX] [--rows N] [--reps N]`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

from benchmarks.cases import CASES, TARGETS, Case
from benchmarks.report import as_json, as_markdown, environment
from benchmarks.runner import ROOT, ContenderError, Run, Runner
from benchmarks.server import postgres


def arguments() -> argparse.Namespace:
    """Return the command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 rows, once")
    parser.add_argument("--cases", default="", metavar="REGEX", help="only the cases whose name matches")
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows of a case (csv-times-5: five times)"
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


def main() -> int:
    """Run the cases and write the report; only a complete run replaces the one in docs/."""
    given = arguments()
    given.cache.mkdir(parents=True, exist_ok=True)
    cases = [case for case in CASES if re.search(given.cases, case.name)]
    with postgres(given.cache) as url:
        runs, failures = measure(Runner(given.cache.resolve(), url, given.rows), cases, given.reps)
        env = environment(url)
    out = given.cache if given.partial else ROOT / "docs"
    markdown = as_markdown(env, runs, failures)
    (out / "benchmarks.md").write_text(markdown)
    (out / "benchmarks.json").write_text(json.dumps(as_json(env, runs, failures), indent=1) + "\n")
    print(markdown)
    return 1 if any(target.ours in failures for target in TARGETS) else 0


if __name__ == "__main__":
    sys.exit(main())
