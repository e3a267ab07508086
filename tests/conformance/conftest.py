from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from labs import Lab, SqliteLab, postgres_lab


@pytest.fixture(params=["sqlite", "postgres"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield SqliteLab(tmp_path / "lab.db")
    else:
        with postgres_lab(request.getfixturevalue("postgres_server")) as found:
            yield found
