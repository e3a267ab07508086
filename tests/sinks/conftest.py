from __future__ import annotations

from collections.abc import Iterator

import pytest
from labs import postgres


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a database of this session; tests make themselves schemas in it."""
    with postgres.database(postgres_server) as url:
        yield url
