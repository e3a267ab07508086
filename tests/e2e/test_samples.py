"""Every sample runs as a newcomer would run it, against the lab of its database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
from labs import Lab, SqlserverLab, open_lab

from adaptive import orders
from adaptive.sinks import sqlserver

SAMPLES = Path(__file__).parents[2] / "samples"
LIVE = "live: 1,000 of 1,000 written, p95 latency"
ORDERS = 1_500  # more than the live ones change


def run(folder: Path, name: str, *arguments: str, **environment: str) -> str:
    """Run a sample in a folder, and return what it printed."""
    command = [sys.executable, str(SAMPLES / f"load_{name}.py"), *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """The lab of the sample's database."""
    with open_lab(request, tmp_path) as found:
        yield found


def on(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("lab", [kind], indirect=True)


def total(rows: list[dict[str, Any]]) -> int:
    return sum(row["quantity"] for row in rows)


def upserted() -> int:
    """Return the sum of quantities after the live orders have changed the first ones."""
    return total([*orders.orders(1_000, seed=8), *list(orders.orders(ORDERS))[1_000:]])


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mongodb", "sqlserver"])
def test_the_help_says_what_a_sample_does_and_shows_no_password(tmp_path: Path, name: str) -> None:
    secrets = dict.fromkeys(("POSTGRES_PASSWORD", "MONGO_PASSWORD", "MSSQL_SA_PASSWORD"), "s3cret")
    out = run(tmp_path, name, "--help", **secrets)
    assert f"python samples/load_{name}.py" in out
    assert "--orders N" in out
    assert "s3cret" not in out


def test_a_database_that_does_not_answer_is_said_in_a_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(SAMPLES / "load_postgresql.py"),
        "--to",
        "postgresql://me:s3cret@127.0.0.1:1/x",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("cannot connect to postgresql://me@127.0.0.1:1/x")
    assert len(done.stderr.splitlines()) == 1


@on("sqlite")
def test_sqlite_loads_a_file_once_and_orders_live(tmp_path: Path, lab: Lab) -> None:
    out = run(tmp_path, "sqlite", "--to", lab.url, "--orders", str(ORDERS))
    assert re.search(r"load: 1,500 written, .*\nload: .*orders-1500.csv: already loaded on ", out)
    assert LIVE in out
    assert f"table: 1,500 orders of {upserted():,} shares; prices are text" in out
    assert total(lab.rows("orders")) == upserted()


@on("postgres")
def test_postgresql_upserts_and_copies(tmp_path: Path, lab: Lab) -> None:
    for _ in range(2):  # repeating a sample is fine
        out = run(tmp_path, "postgresql", "--to", lab.url, "--orders", str(ORDERS))
        assert "load: 1,500 written" in out
        assert LIVE in out
        assert "copy: 10,000 ticks" in out
    assert (len(lab.rows("orders")), total(lab.rows("orders"))) == (ORDERS, upserted())
    assert len(lab.rows("ticks")) == 20_000


@on("postgres")
def test_a_file_takes_the_place_of_generated_orders(tmp_path: Path, lab: Lab) -> None:
    orders.write(tmp_path / "some.parquet", ORDERS)
    assert "load: 1,500 written" in run(tmp_path, "postgresql", "some.parquet", "--to", lab.url)


@on("mongo")
def test_mongodb_nests_documents_and_adds_fills(tmp_path: Path, lab: Lab) -> None:
    out = run(tmp_path, "mongodb", "--to", lab.url, "--orders", str(ORDERS))
    assert "load: 1,500 written" in out
    assert LIVE in out
    check_documents(lab)


@on("mongo")
def test_mongodb_loads_a_file_of_nested_documents(tmp_path: Path, lab: Lab) -> None:
    with (tmp_path / "documents.jsonl").open("w") as file:
        for order in orders.orders(ORDERS):
            instrument = {"symbol": order["symbol"], "venue": order["venue"]}
            file.write(json.dumps({"_id": order["order_id"], "instrument": instrument}) + "\n")
    out = run(tmp_path, "mongodb", "documents.jsonl", "--to", lab.url)
    assert "load: 1,500 written" in out
    assert LIVE in out
    check_documents(lab)


@on("sqlserver")
def test_sqlserver_leaves_the_numbers_to_the_server(tmp_path: Path, lab: Lab) -> None:
    url = f"{lab.url}{'&' if '?' in lab.url else '?'}driver={quote(sqlserver._find_driver(), safe='')}"
    for _ in range(2):
        out = run(tmp_path, "sqlserver", "--to", url, "--orders", str(ORDERS))
        assert "load: 1,500 written" in out
        assert LIVE in out
        assert "table: 1,500 orders, the last one has row_id 1500" in out
    [(quantity,)] = cast("SqlserverLab", lab).query("SELECT SUM(quantity) FROM trading.orders")
    assert quantity == upserted()


def check_documents(lab: Lab) -> None:
    documents = lab.rows("orders")
    assert len(documents) == ORDERS
    assert {order["symbol"] for order in orders.orders(ORDERS)} == {
        document["instrument"]["symbol"] for document in documents
    }
    filled = [document["fills"][0] for document in documents if "fills" in document]
    assert total(filled) == total(list(orders.orders(1_000)))
