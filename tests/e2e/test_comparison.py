from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from labs import KINDS, Lab, open_lab

from adaptive.orders import orders
from benchmarks.comparison import STRATEGIES, Comparison, Plan, Result, Run, compare, measure
from benchmarks.comparison_report import environment
from benchmarks.databases import TABLE, Database, known_urls, reach

ROOT = Path(__file__).parents[2]
NAMES = ["single", "small", "medium", "large", "tiers", "adaptive"]


def performance_test(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "performance_test.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return reach(f"sqlite:///{tmp_path}/x.db")


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """A database of each kind."""
    with open_lab(request, tmp_path) as found:
        yield found


def rates(**given: float) -> Comparison:
    runs = {
        name: Run(rows=100, seconds=100 / rate, batches=1, p95_batch_ms=1.0) for name, rate in given.items()
    }
    return Comparison(
        Database("sqlite:///x.db", "SQLite"), [Result(name, [run]) for name, run in runs.items()]
    )


def test_the_command_measures_every_strategy_and_prints_a_table(tmp_path: Path) -> None:
    done = performance_test(
        tmp_path, "compare", "--quick", "--rows", "1500", "--to", "sqlite:///x.db",
        "--json", "x.json", "--markdown", "x.md",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [found] = json.loads((tmp_path / "x.json").read_text())["databases"]
    assert list(found["strategies"]) == NAMES
    for name, numbers in found["strategies"].items():
        assert numbers["rows_per_second"] > 0
        assert 0 < numbers["rows"] <= 1500
        assert f"│ {name} " in done.stdout
        assert f"| {name} |" in (tmp_path / "x.md").read_text()
    assert found["strategies"]["small"]["batches"] == 15
    assert isinstance(found["order_held"], bool)
    assert "slow strategies write fewer rows" in done.stdout.replace("\n", " ")


def test_a_database_that_does_not_answer_is_listed_with_its_reason(tmp_path: Path) -> None:
    done = performance_test(
        tmp_path, "compare", "--quick", "--rows", "100", "--to", "sqlite:///nowhere/x.db",
        "--to", "oracle://me:secret@localhost/x",
    )  # fmt: skip
    assert done.returncode == 1
    assert "not compared: sqlite:///nowhere/x.db: " in done.stdout
    assert "not compared: oracle://me@localhost/x: no sink for this URL" in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_a_run_writes_batches_of_its_size_and_leaves_no_table(tmp_path: Path, database: Database) -> None:
    run = measure(database, STRATEGIES[1], list(orders(1_000)), seconds=60)
    assert (run.rows, run.batches) == (1_000, 10)
    with closing(sqlite3.connect(tmp_path / "x.db")) as link:
        assert link.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_every_kind_of_database_is_measured_and_checked(lab: Lab) -> None:
    """Without the price: nx-27017 stores no Decimal128."""
    some = [{name: value for name, value in order.items() if name != "price"} for order in orders(300)]
    run = measure(reach(lab.url), STRATEGIES[1], some, seconds=60)
    assert (run.rows, run.batches) == (300, 3)


def test_a_producer_stops_at_its_deadline(database: Database) -> None:
    assert measure(database, STRATEGIES[0], list(orders(10)), seconds=0).rows == 1


class Lossy(Database):
    """A database whose table loses small orders."""

    @contextmanager
    def table(self) -> Iterator[None]:
        with super().table(), closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as link:
            link.execute(
                f"CREATE TRIGGER lose AFTER INSERT ON {TABLE} WHEN new.quantity < 5000 BEGIN"
                f" DELETE FROM {TABLE} WHERE order_id = new.order_id; END"
            )
            yield


def test_a_database_that_lost_rows_has_no_numbers(database: Database) -> None:
    lossy = Lossy(database.url, database.version)
    compared, failed = compare([lossy], Plan(rows=20, seconds=60, repeat=1), print)
    assert compared == []
    assert re.search(r"single: .*Sums\(rows=11, .* instead of Sums\(rows=20", failed[lossy.name])


def test_the_databases_that_are_tried_come_from_the_environment_and_else_from_docker_compose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAPTIVE_TEST_MONGODB_URL", "mongodb://server/?directConnection=true")
    monkeypatch.delenv("ADAPTIVE_TEST_POSTGRESQL_URL", raising=False)
    monkeypatch.delenv("ADAPTIVE_TEST_MSSQL_URL", raising=False)
    monkeypatch.setenv("POSTGRES_PASSWORD", "a/b")
    (tmp_path / ".env").write_text("MSSQL_SA_PASSWORD=secret")
    assert known_urls(tmp_path) == [
        f"sqlite:///{tmp_path}/comparison.db",
        "postgresql://postgres:a%2Fb@127.0.0.1:5432/market",
        "mongodb://server/adaptive_comparison?directConnection=true",
        "mssql://sa:secret@127.0.0.1:1433/market?TrustServerCertificate=yes",
    ]


def test_the_expected_order_is_judged_by_medians() -> None:
    assert rates(single=100, small=1_000, medium=2_000, large=3_000).broken == []
    broken = rates(single=100, small=300, medium=2_000, large=2_000).broken
    assert broken == [
        "small (300) is not above 3 times single (100)",
        "large (2,000) is not above medium (2,000)",
    ]


def test_a_report_shows_no_password() -> None:
    command = environment(["performance_test.py", "--to", "postgresql://me:secret@localhost/x"])["command"]
    assert command == "performance_test.py --to postgresql://me@localhost/x"
