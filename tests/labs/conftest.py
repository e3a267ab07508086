"""A stand-in for SQL Server, and a table in a new database of it for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from labs import tds
from labs.tds import clients

ITEMS = """CREATE TABLE dbo.items (id int NOT NULL CONSTRAINT pk_items PRIMARY KEY, name nvarchar(5) NULL,
    amount int NULL CONSTRAINT positive CHECK (amount > 0), price decimal(6,2) NULL)"""


@pytest.fixture(scope="module")
def server() -> Iterator[tds.Served]:
    with tds.serving() as running:
        yield running


@pytest.fixture
def url(server: tds.Served, request: pytest.FixtureRequest) -> str:
    url = server.create(f"lab{abs(hash(request.node.nodeid))}")
    with closing(clients.odbc(url, autocommit=True)) as link:
        link.execute(ITEMS)
    return url


@pytest.fixture
def link(url: str) -> Iterator[Any]:
    """A connection without autocommit."""
    with closing(clients.odbc(url)) as found:
        yield found
