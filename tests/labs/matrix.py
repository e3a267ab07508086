"""Prints, after the tests, which conformance check passed on which database, or why it does not apply."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

import pytest

from adaptive.testing import CHECKS
from labs import KINDS

TEST = re.compile(r"conformance/test_checks\.py::\w+\[(?P<lab>\w+)-(?P<check>\w+)\]")
MARKS = {"passed": "yes", "failed": "NO", "error": "NO"}
Results = dict[tuple[str, str], tuple[str, pytest.TestReport]]  # by check and lab


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the table of checks and databases, grouped by subject, and the reasons under it."""
    found = {
        (match["check"], match["lab"]): (outcome, report)
        for outcome in ("passed", "skipped", "failed", "error")
        for report in terminalreporter.stats.get(outcome, [])
        if (match := TEST.search(report.nodeid))
    }
    if found:
        terminalreporter.section("conformance: check by database")
        for line in _table(found):
            terminalreporter.line(line)


def _table(found: Results) -> Iterable[str]:
    labs = [kind for kind in KINDS if any(lab == kind for _, lab in found)]
    checks = [check for check in CHECKS if any(name == check.name for name, _ in found)]
    reasons = _reasons(found, [(check.name, lab) for check in checks for lab in labs])
    width = 2 + max(len(check.name) for check in checks)
    yield " " * width + _cells(labs)
    for subject, group in groupby(checks, key=lambda check: check.subject):
        yield subject
        for check in group:
            cells = [_cell(found.get((check.name, lab)), reasons) for lab in labs]
            yield f"  {check.name.replace('_', ' ')}".ljust(width) + _cells(cells)
    yield f"passed, of {len(checks)}".ljust(width) + _cells(str(_passed(found, lab)) for lab in labs)
    for reason, number in reasons.items():
        yield f"({number}) {reason}"


def _passed(found: Results, lab: str) -> int:
    return sum(place[1] == lab and outcome == "passed" for place, (outcome, _) in found.items())


def _reasons(found: Results, order: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return the reasons why checks were skipped, numbered from the top of the table."""
    reasons: dict[str, int] = {}
    for place in order:
        outcome, report = found.get(place, ("", None))
        if report and outcome == "skipped":
            reasons.setdefault(_reason(report), len(reasons) + 1)
    return reasons


def _cells(words: Iterable[str]) -> str:
    return "".join(f"  {word:>9}" for word in words)


def _cell(found: tuple[str, pytest.TestReport] | None, reasons: dict[str, int]) -> str:
    if found is None:
        return "not run"
    outcome, report = found
    return f"({reasons[_reason(report)]})" if outcome == "skipped" else MARKS[outcome]


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
