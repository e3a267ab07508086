"""Laboratories: databases that tests start, or find, and look at with the raw drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from adaptive.testing import Lab
from labs.databases import PostgresLab, SqliteLab, postgres_lab
from labs.mongodb import MongoLab, mongo_lab
from labs.sqlserver import SqlserverLab, sqlserver_lab

__all__ = ["KINDS", "Lab", "MongoLab", "PostgresLab", "SqliteLab", "SqlserverLab", "mongo_lab", "open_lab",
           "postgres_lab", "sqlserver_lab"]  # fmt: skip

# By the name in the tests' ids; what the fixture `<kind>_server` gives → a lab with an empty database.
SERVERS: dict[str, Callable[[str], AbstractContextManager[Lab]]] = {
    "postgres": postgres_lab,
    "mongo": mongo_lab,
    "sqlserver": sqlserver_lab,
    "nx27017": mongo_lab,
}
KINDS = ["sqlite", *SERVERS]


@contextmanager
def open_lab(request: pytest.FixtureRequest, folder: Path) -> Iterator[Lab]:
    """Yield the lab that a fixture's parameter names; its server is started once."""
    if request.param == "sqlite":
        yield SqliteLab(folder / "lab.db")
    else:
        with SERVERS[request.param](request.getfixturevalue(f"{request.param}_server")) as found:
            yield found
