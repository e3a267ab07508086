"""Prints, after the tests, which conformance check passed on which database, or why it does not apply."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from adaptive.testing import CHECKS
from labs import KINDS

TEST = re.compile(r"conformance/test_checks\.py::\w+\[(?P<lab>\w+)-(?P<check>\w+)\]")
MARKS = {"passed": "yes", "failed": "NO", "error": "NO"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the table of checks and databases, and the reasons under it."""
    found = {
        (match["check"], match["lab"]): (outcome, report)
        for outcome in ("passed", "skipped", "failed", "error")
        for report in terminalreporter.stats.get(outcome, [])
        if (match := TEST.search(report.nodeid))
    }
    if not found:
        return
    labs = [kind for kind in KINDS if any(lab == kind for _, lab in found)]
    checks = [check.name for check in CHECKS if any(name == check.name for name, _ in found)]
    reasons: dict[str, int] = {}
    for report in (report for outcome, report in found.values() if outcome == "skipped"):
        reasons.setdefault(_reason(report), len(reasons) + 1)
    terminalreporter.section("conformance: check by database")
    width = max(map(len, checks))
    terminalreporter.line(" " * width + _cells(labs))
    for check in checks:
        cells = [_cell(found.get((check, lab)), reasons) for lab in labs]
        terminalreporter.line(check.ljust(width) + _cells(cells))
    for reason, number in reasons.items():
        terminalreporter.line(f"({number}) {reason}")


def _cells(words: Iterable[str]) -> str:
    return "".join(f"  {word:>9}" for word in words)


def _cell(found: tuple[str, pytest.TestReport] | None, reasons: dict[str, int]) -> str:
    if found is None:
        return "not run"
    outcome, report = found
    return f"({reasons[_reason(report)]})" if outcome == "skipped" else MARKS[outcome]


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
