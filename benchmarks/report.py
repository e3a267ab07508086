"""Turns measured runs into verdicts on the targets, and both into Markdown and JSON."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from benchmarks.cases import TARGETS, Target
from benchmarks.runner import Run

Runs = Mapping[str, Sequence[Run]]  # "case/contender" → a run for each repetition
PACKAGES = ("psycopg", "pgpq", "pyarrow", "lxml", "xml2arrow", "adbc-driver-sqlite")


@dataclass(frozen=True)
class Verdict:
    """What was measured for a target: the median, and the extremes over the repetitions."""

    median: float
    least: float
    most: float
    met: bool


def verdict(target: Target, runs: Runs) -> Verdict | None:
    """Return the verdict on a target, None if it was not measured."""
    rival = _rival(target, runs)
    if target.ours not in runs or (target.theirs and not rival):
        return None
    values = [_value(target, run) for run in runs[target.ours]]
    if rival:
        values = [ours / _value(target, run) for ours, run in zip(values, runs[rival], strict=True)]
    middle = median(values)
    return Verdict(middle, min(values), max(values), target.at_least <= middle <= target.at_most)


def environment(postgres: str) -> dict[str, str]:
    """Return the machine, the versions and the command."""
    with psycopg.connect(postgres) as server:
        postgres_version = server.info.parameter_status("server_version") or "unknown"
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = cpu[0].partition(": ")[2] if cpu else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {model}, {memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "PostgreSQL": postgres_version,
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "peers": "see benchmarks/requirements.txt",
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


def as_json(env: Mapping[str, str], runs: Runs, failures: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that was measured, as plain values."""
    found = [(target, verdict(target, runs)) for target in TARGETS]
    return {
        "environment": dict(env),
        "targets": [
            {"target": target.text, "bound": _bound(target), "measured": asdict(one) if one else None}
            for target, one in found
        ],
        "runs": {name: [asdict(run) for run in some] for name, some in runs.items()},
        "missing": dict(failures),
    }


def as_markdown(env: Mapping[str, str], runs: Runs, failures: Mapping[str, str]) -> str:
    """Return the report that people read."""
    lines = [
        "# Benchmark",
        "",
        "Written by `make bench`; how it measures stands in `benchmarks/README.md`.",
        "",
    ]
    lines += [f"- {name}: {text}" for name, text in env.items()]
    lines += ["", "| target | bound | median (min to max) | |", "|---|---|---|---|"]
    lines += [_target_line(target, verdict(target, runs)) for target in TARGETS]
    lines += ["", "| run | rows | rows/s | process, s | load, s | peak MB |", "|---|--:|--:|--:|--:|--:|"]
    lines += [_run_line(name, some) for name, some in runs.items()]
    if failures:
        lines += ["", "Not measured:", "", *(f"- {name}: {reason}" for name, reason in failures.items())]
    return "\n".join(lines) + "\n"


def _rival(target: Target, runs: Runs) -> str | None:
    """Return the fastest of theirs that has run."""
    there = [name for name in target.theirs if name in runs]
    return min(there, key=lambda name: median(run.phase for run in runs[name]), default=None)


def _value(target: Target, run: Run) -> float:
    rows = run.rows or 1
    values = {
        "wall": run.wall / rows,
        "phase": run.phase / rows,
        "speed": rows / run.phase,
        "memory": run.memory,
    }
    return values[target.metric]


def _bound(target: Target) -> str:
    at_least = f"≥ {target.at_least:g}" if target.at_least else ""
    at_most = f"≤ {target.at_most:g}" if target.at_most != float("inf") else ""
    return ", ".join(filter(None, (at_least, at_most)))


def _target_line(target: Target, found: Verdict | None) -> str:
    measured = "not measured | "
    if found:
        measured = (
            f"{_span([found.median, found.least, found.most])} | {'met' if found.met else '**missed**'}"
        )
    return f"| {target.text} | {_bound(target)} | {measured} |"


def _run_line(name: str, runs: Sequence[Run]) -> str:
    rows = runs[0].rows
    rate = f"{rows / median(run.phase for run in runs):,.0f}" if rows else ""
    wall, phase = (_span(values) for values in ([run.wall for run in runs], [run.phase for run in runs]))
    return f"| {name} | {rows:,} | {rate} | {wall} | {phase} | {median(run.memory for run in runs):.0f} |"


def _span(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
