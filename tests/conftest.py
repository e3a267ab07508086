"""What holds for every test: how hypothesis runs, and which labs CI insists on."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from labs import KINDS, Lab, mongodb, open_lab, postgres, sqlserver

pytest_plugins = ["labs.matrix"]

IN_CI = os.environ.get("CI") == "true"
# Beginnings of reasons to skip that `make system-deps` and `make` take away.
PROVIDED = ("lab postgres: none", "lab nx27017: none", "lab sqlserver:")

# No deadline anywhere: a busy machine is not a failure.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if IN_CI else "local")


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def insisted(report: Report) -> Report:
    """Fail what was skipped in CI for want of something that CI provides."""
    if IN_CI and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith(PROVIDED):
            report.outcome = "failed"
            report.longrepr = f"CI expects this to run. {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return insisted((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return insisted((yield))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server's superuser, started for the session if need be."""
    with postgres.server() as url:
        if url is None:
            pytest.skip(postgres.ADVICE)
        yield url


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[str]:
    """The URL of a MongoDB server, started for the session if need be."""
    with mongodb.server() as url:
        yield url


@pytest.fixture(scope="session")
def nx27017_server() -> Iterator[str]:
    """The URL of a second stand-in for MongoDB, started for the session."""
    with mongodb.nx_server() as url:
        if url is None:
            pytest.skip(mongodb.NX_ADVICE)
        yield url


@pytest.fixture(scope="session")
def sqlserver_server() -> Iterator[str]:
    """The URL of a SQL Server's login that may create databases, started for the session if need be."""
    if reason := sqlserver.missing():
        pytest.skip(reason)
    with sqlserver.server() as url:
        yield url


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """An empty database of each kind."""
    with open_lab(request, tmp_path) as found:
        yield found
