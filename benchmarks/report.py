"""Turns measured runs into verdicts on the targets, and both into Markdown and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.runner import Run
from benchmarks.targets import PARTS, Part, Target

Runs = Mapping[str, Sequence[Run]]  # "case/contender" → a run for each repetition
HEADS = ("run", "rows", "rows/s", "process, s", "load, s", "client CPU, µs a row", "peak MB")
INTRODUCTION = """\
# Benchmark

Written by `make bench`; how it measures stands in `benchmarks/README.md`. Each part was measured in one run,
on the day and the machine that it names.
"""


@dataclass(frozen=True)
class Measured:
    """What was measured of a part: where, the runs, and why a contender has none."""

    environment: Mapping[str, str]
    runs: Runs
    failures: Mapping[str, str]

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> Measured:
        """Return what `as_json` has written."""
        runs = {name: [Run(**each) for each in some] for name, some in written["runs"].items()}
        return cls(written["environment"], runs, written["missing"])


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


def as_json(report: Mapping[str, Measured]) -> dict[str, Any]:
    """Return everything that was measured, by part, as plain values."""
    return {part.name: _part_as_json(part, found) for part, found in _in_order(report)}


def as_markdown(report: Mapping[str, Measured]) -> str:
    """Return the report that people read."""
    return "\n".join([INTRODUCTION, *(_section(part, found) for part, found in _in_order(report))])


def _in_order(report: Mapping[str, Measured]) -> Iterable[tuple[Part, Measured]]:
    return ((part, report[part.name]) for part in PARTS if part.name in report)


def _part_as_json(part: Part, found: Measured) -> dict[str, Any]:
    verdicts = [(target, verdict(target, found.runs)) for target in part.targets]
    return {
        "environment": dict(found.environment),
        "targets": [
            {"target": target.text, "bound": _bound(target), "measured": asdict(one) if one else None}
            for target, one in verdicts
        ],
        "runs": {name: [asdict(run) for run in some] for name, some in found.runs.items()},
        "missing": dict(found.failures),
    }


def _section(part: Part, found: Measured) -> str:
    lines = [f"## {part.title}", ""]
    lines += [f"- {name}: {text}" for name, text in found.environment.items()]
    lines += ["", "| target | bound | median (min to max) | |", "|---|---|---|---|"]
    lines += [_target_line(target, verdict(target, found.runs)) for target in part.targets]
    lines += ["", f"| {' | '.join(HEADS)} |", "|---" + "|--:" * (len(HEADS) - 1) + "|"]
    lines += [_run_line(name, some) for name, some in found.runs.items()]
    if found.failures:
        lines += ["", "Not measured:", ""]
        lines += [f"- {name}: {reason}" for name, reason in found.failures.items()]
    return "\n".join(lines) + "\n"


def _rival(target: Target, runs: Runs) -> str | None:
    """Return the fastest of theirs that has run."""
    there = [name for name in target.theirs if name in runs]
    return min(there, key=lambda name: median(run.phase for run in runs[name]), default=None)


def _value(target: Target, run: Run) -> float:
    rows = run.rows or 1
    if target.metric in ("cpu", "cpu speed"):
        if run.cpu is None:
            raise ValueError(f"{target.ours}: a contender did not say its CPU seconds")
        return run.cpu / rows if target.metric == "cpu" else rows / run.cpu
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
        said = "met" if found.met else f"**missed** by {_distance(target, found.median)}"
        measured = f"{_span([found.median, found.least, found.most])} | {said}"
    return f"| {target.text} | {_bound(target)} | {measured} |"


def _distance(target: Target, value: float) -> str:
    """Return how far a value is from its bound, in percent of the bound."""
    share = value / target.at_most - 1 if value > target.at_most else 1 - value / target.at_least
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"


def _run_line(name: str, runs: Sequence[Run]) -> str:
    rows = runs[0].rows
    rate = f"{rows / median(run.phase for run in runs):,.0f}" if rows else ""
    wall, phase = (_span(values) for values in ([run.wall for run in runs], [run.phase for run in runs]))
    spent = [run.cpu / rows * 1e6 for run in runs if run.cpu is not None]
    memory = f"{median(run.memory for run in runs):.0f}"
    cells = (name, f"{rows:,}", rate, wall, phase, _span(spent) if spent else "", memory)
    return f"| {' | '.join(cells)} |"


def _span(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
