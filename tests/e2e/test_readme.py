"""Every example of the README runs as it stands there, but for the database's URL."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from labs import postgres_lab
from labs.mongodb import mongo_lab
from labs.sqlserver import sqlserver_lab

import adaptive as package
from adaptive import orders
from e2e.conftest import Command

README = (Path(__file__).parents[2] / "README.md").read_text()
POSTGRESQL, MONGODB = "postgresql://localhost/market", "mongodb://localhost/market"
SQLSERVER = "mssql://sa:secret@localhost/market"
EXPORT = """<export><orders>
<order id="1"><price>9.9900</price><customer><address><city>Zürich</city></address></customer></order>
<order id="2"><price>1</price></order>
</orders></export>"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def market(
    adaptive: Command, postgres_server: str, mongo_server: str, sqlserver_server: str
) -> Iterator[dict[str, str]]:
    """A folder with the files that the examples name, and a database for each URL in them."""
    for name in ("orders.csv", "orders.jsonl", "orders.xml"):
        orders.write(adaptive.folder / name, 200)
    (adaptive.folder / "export.xml").write_text(EXPORT, encoding="utf-8")
    (adaptive.folder / "orders.yaml").write_text(blocks("yaml")[0])
    with (
        postgres_lab(postgres_server) as postgres,
        mongo_lab(mongo_server) as mongo,
        sqlserver_lab(sqlserver_server) as sqlserver,
    ):
        yield {POSTGRESQL: postgres.url, MONGODB: mongo.url, SQLSERVER: sqlserver.url}


def here(text: str, market: dict[str, str]) -> str:
    """Return an example with the databases of this test."""
    for url, own in market.items():
        text = text.replace(url, own)
    return text


def test_the_commands_run(adaptive: Command, market: dict[str, str]) -> None:
    orders.write(adaptive.folder / "bad.csv", 100, bad_share=0.02)
    rejected = adaptive.folder / "0123456789abcdef.rejected.jsonl"
    bad = (
        "load",
        "bad.csv",
        "--to",
        market[POSTGRESQL],
        "--table",
        "orders",
        "--dead-letters",
        rejected.name,
    )
    for block in blocks("console"):
        for line in re.findall(r"^\$ adaptive (.*)$", block, re.MULTILINE):
            if line.startswith("replay"):
                done = adaptive(*bad)
                assert done.code == 3, done.err
                rejected.write_text(rejected.read_text().replace('"many"', '"5"').replace("12,5O", "12.5"))
            done = adaptive(*shlex.split(here(line, market)))
            assert done.code == 0, (line, done)
            assert "Traceback" not in done.err


def test_the_python_examples_run(
    adaptive: Command, market: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(adaptive.folder)
    names = {"feed": lambda: orders.orders(50, seed=8), "adaptive": package}
    for block in blocks("python"):
        exec(here(block, market), names)
