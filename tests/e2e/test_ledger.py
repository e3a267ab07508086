"""The ledger has another name, was made by somebody else, or there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from labs import Lab, postgres_lab

import adaptive as package
from adaptive.config import Settings
from adaptive.errors import SinkError, SourceError, UsageError
from adaptive.rows import Row
from e2e.conftest import Command

LINES = "item_id,name,amount\n" + "".join(f"{row},item {row},{row % 7 + 1}\n" for row in range(3_000))
LEDGER = ("ledger", "loads", "splits")


@pytest.fixture
def items(lab: Lab, adaptive: Command) -> Lab:
    """A database with the table `items`, and 3,000 rows for it in `items.csv`."""
    lab.make_items()
    (adaptive.folder / "items.csv").write_text(LINES)
    return lab


def tables(lab: Lab) -> list[str]:
    if lab.name == "sqlite":
        return sorted(row["name"] for row in lab.rows("sqlite_master") if row["type"] == "table")
    return sorted(row["relname"] for row in lab.rows("pg_stat_user_tables"))


def test_the_ledger_has_the_name_it_is_given(items: Lab, adaptive: Command) -> None:
    command = ("load", "items.csv", "--to", items.url, "--ledger", "Audit Trail")
    assert adaptive(*command).code == 0
    assert tables(items) == sorted(["items", *(f"Audit Trail_{word}" for word in LEDGER)])
    assert "already loaded" in adaptive(*command).out
    assert "3,000" in adaptive("status", items.url, "--ledger", "Audit Trail").out
    assert len(items.rows("items")) == 3_000


def test_a_user_without_rights_loads_with_a_ledger_made_beforehand(
    postgres_server: str, adaptive: Command
) -> None:
    with postgres_lab(postgres_server) as lab:
        lab.make_items()
        (adaptive.folder / "items.csv").write_text(LINES)
        name = urlsplit(lab.url).path[1:]
        lab.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
        place = urlsplit(lab.url).netloc.rpartition("@")[2]
        url = urlsplit(lab.url)._replace(netloc=f"{name}:secret@{place}").geturl()
        command = ("load", "items.csv", "--to", url, "--ledger", "etl.audit")
        doctor = ("doctor", url, "--table", "items", "--ledger", "etl.audit")
        try:
            lab.execute("CREATE SCHEMA etl")
            lab.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            assert f'GRANT USAGE ON SCHEMA "etl" TO {name}' in adaptive(*command).err
            lab.execute(f"GRANT USAGE ON SCHEMA etl TO {name}")
            lab.execute(f"GRANT INSERT ON items TO {name}")
            assert 'GRANT CREATE ON SCHEMA "etl"' in adaptive(*command).err
            advice = adaptive(*doctor).out
            lab.execute(advice[advice.index("CREATE TABLE IF NOT EXISTS") :])
            lab.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA etl TO {name}")
            assert adaptive(*command).code == 0
            assert "already loaded" in adaptive(*command).out
            assert len(lab.rows("items")) == 3_000
        finally:
            lab.execute(f"DROP OWNED BY {name}")
            lab.execute(f"DROP ROLE {name}")


def test_without_a_ledger_nothing_is_added_to_the_database(items: Lab, adaptive: Command) -> None:
    for times in (1, 2):
        (adaptive.folder / "items.csv").write_text(LINES.replace("\n", f"\n{times}")[:-1])  # other ids
        done = adaptive("load", "items.csv", "--to", items.url, "--ledger", "off", "--batch", "500")
        assert (done.code, done.err) == (0, "")
        assert len(items.rows("items")) == 3_000 * times
    assert tables(items) == ["items"]


def test_without_a_ledger_bad_rows_are_still_isolated(items: Lab, adaptive: Command) -> None:
    (adaptive.folder / "items.csv").write_text(LINES + "2,taken,1\n3000,good,1\n3001,bad,-1\n3002,worse,x\n")
    done = adaptive("load", "items.csv", "--to", items.url, "--ledger", "off", "--batch", "500")
    assert done.code == 3, done.err
    assert sorted(row["item_id"] for row in items.rows("items")) == list(range(3_001))
    assert sorted(letter["position"]["record"] for letter in adaptive.letters()) == [3_001, 3_003, 3_004]


def test_without_a_ledger_a_load_that_stops_leaves_nothing(items: Lab, adaptive: Command) -> None:
    (adaptive.folder / "items.csv").write_text(LINES + "2,taken,1\n")
    limits = ("--batch", "500", "--max-rejected", "0")
    done = adaptive("load", "items.csv", "--to", items.url, "--ledger", "off", *limits)
    assert done.code == 1
    assert "nothing is written" in done.err
    assert items.rows("items") == []
    assert [path.name for path in adaptive.folder.iterdir()] == ["items.csv"]


def test_without_a_ledger_a_source_that_breaks_off_leaves_nothing(items: Lab) -> None:
    def feed() -> Iterator[Row]:
        for number in range(2_000):
            yield {"item_id": number, "name": "x", "amount": 1}
        raise OSError("the feed broke off")

    with pytest.raises((SourceError, OSError)):
        package.load(feed(), items.url, table="items", ledger="off", batch=100)
    assert items.rows("items") == []


def test_a_lost_connection_leaves_nothing_without_a_ledger(items: Lab) -> None:
    if items.name == "sqlite":
        pytest.skip("sqlite: there is no connection to lose")

    def feed() -> Iterator[Row]:
        for number in range(2_000):
            if number == 1_500:
                items.break_links()
            yield {"item_id": number, "name": "x", "amount": 1}

    with pytest.raises(SinkError, match="nothing is written"):
        package.load(feed(), items.url, table="items", ledger="off", batch=100, queue_size=200)
    assert items.rows("items") == []


def test_at_least_once_commits_every_batch(items: Lab, adaptive: Command) -> None:
    options = ("--ledger", "off", "--at-least-once", "--writers", "2", "--batch", "100")
    assert adaptive("load", "items.csv", "--to", items.url, *options).code == 0
    assert len(items.rows("items")) == 3_000
    assert tables(items) == ["items"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--at-least-once"], "--ledger off"),
        (["--ledger", "off", "--writers", "2"], "one writer"),
        (["--ledger", "off", "--mode", "replace"], "needs a ledger"),
        (["--ledger", "off", "--load-id", "mine"], "there is none"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: list[str], said: str, items: Lab, adaptive: Command
) -> None:
    done = adaptive("load", "items.csv", "--to", items.url, *options)
    assert done.code == 2
    assert said in done.err
    assert items.rows("items") == []


def test_a_replay_needs_a_ledger(items: Lab, adaptive: Command) -> None:
    (adaptive.folder / "items.csv").write_text(LINES + "9999,bad,-1\n")
    adaptive("load", "items.csv", "--to", items.url, "--ledger", "audit", "--dead-letters", "letters")
    replay = ("replay", "letters", "--to", items.url, "--table", "items", "--ledger")
    refused = adaptive(*replay, "off")
    assert refused.code == 2
    assert "needs a ledger" in refused.err
    letters = adaptive.folder / "letters"
    letters.write_text(letters.read_text().replace('"amount": -1', '"amount": 1'))
    assert adaptive(*replay, "audit").code == 0
    assert "_adaptive_loads" not in tables(items)
    assert len(items.rows("items")) == 3_001


def test_a_pipeline_without_a_ledger_says_that_rows_may_repeat(items: Lab, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at_least_once"):
        package.Pipeline(items.url, table="items", ledger="off")
    settings = Settings(at_least_once=True)
    with package.Pipeline(items.url, table="items", ledger="off", settings=settings) as pipeline:
        for number in range(1_000):
            pipeline.put({"item_id": number, "name": "x", "amount": 1})
    assert len(items.rows("items")) == 1_000
    assert tables(items) == ["items"]
