"""Files go into databases whole and exact, by the command a user would type."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from labs import Lab

import adaptive as package
from adaptive import orders
from adaptive.errors import UsageError
from e2e.conftest import Command

OrderFile = Callable[..., str]


def loaded(lab: Lab, table: str = "orders") -> list[dict[str, Any]]:
    """Return the orders of a table as Python values, by id."""
    rows = sorted(lab.rows(table), key=lambda row: row["order_id"])
    if lab.name == "sqlite":
        rows = [
            {
                **row,
                "price": Decimal(str(row["price"])),
                "placed_at": datetime.fromisoformat(row["placed_at"]),
            }
            for row in rows
        ]
    return rows


def expected(count: int = 3_000) -> list[dict[str, Any]]:
    return list(orders.orders(count))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "xml", "csv.gz", "jsonl.zst", "xml.gz"])
def test_every_format_arrives_exactly(
    suffix: str, lab: Lab, adaptive: Command, order_file: OrderFile
) -> None:
    file = order_file(f"orders.{suffix}")
    done = adaptive("load", file, "--to", lab.url, "--create", "--types", "price=decimal(13,4)")
    assert (done.code, done.err) == (0, "")
    assert "3,000 rows" in done.out
    assert loaded(lab) == expected()


def test_a_table_that_is_there_gives_the_types(
    lab: Lab, adaptive: Command, order_file: OrderFile, orders_table: str
) -> None:
    done = adaptive("load", order_file("orders.csv"), "--to", lab.url)
    assert done.code == 0, done.err
    assert loaded(lab) == expected()


def test_the_same_load_again_writes_nothing_and_says_so(
    lab: Lab, adaptive: Command, order_file: OrderFile
) -> None:
    command = ("load", order_file("orders.csv"), "--to", lab.url, "--create")
    adaptive(*command)
    again = adaptive(*command)
    assert again.code == 0
    assert "already loaded on" in again.out
    assert len(loaded(lab)) == 3_000
    assert adaptive(*command, "--again").code == 0
    assert len(loaded(lab)) == 6_000


def test_other_content_under_the_same_name_is_refused(
    lab: Lab, adaptive: Command, order_file: OrderFile
) -> None:
    command = ("load", order_file("orders.csv"), "--to", lab.url, "--create")
    adaptive(*command)
    order_file("orders.csv", 10)
    refused = adaptive(*command)
    assert refused.code == 2
    assert "--again" in refused.err
    assert len(loaded(lab)) == 3_000


def test_a_table_that_was_emptied_is_refused(lab: Lab, adaptive: Command, order_file: OrderFile) -> None:
    command = ("load", order_file("orders.csv"), "--to", lab.url, "--create")
    adaptive(*command)
    lab.execute("DELETE FROM orders")
    refused = adaptive(*command)
    assert refused.code == 2
    assert "empty" in refused.err


def test_a_dropped_table_starts_afresh(lab: Lab, adaptive: Command, order_file: OrderFile) -> None:
    command = ("load", order_file("orders.csv"), "--to", lab.url, "--create")
    adaptive(*command)
    lab.execute("DROP TABLE orders")
    assert adaptive(*command).code == 0
    assert len(loaded(lab)) == 3_000


def test_several_files_and_globs(lab: Lab, adaptive: Command) -> None:
    for number in range(3):
        orders.write(adaptive.folder / f"orders-{number}.csv", 100, seed=number)
    done = adaptive("load", "orders-*.csv", "--to", lab.url, "--table", "orders", "--create")
    assert done.code == 0, done.err
    assert len(lab.rows("orders")) == 300
    orders.write(adaptive.folder / "orders-3.csv", 100, seed=3)
    adaptive("load", "orders-*.csv", "--to", lab.url, "--table", "orders", "--create")
    assert len(lab.rows("orders")) == 400


def test_a_name_that_json_lines_bring_late_fills_its_column(lab: Lab, adaptive: Command) -> None:
    lab.execute("CREATE TABLE late (id INTEGER, qty INTEGER, kind VARCHAR(9) DEFAULT 'plain')")
    lines = [json.dumps({"id": number, "padding": "x" * 90}) for number in range(15_000)]  # 1.6 MB
    lines = [line.replace(', "padding": "' + "x" * 90 + '"', " " * 100) for line in lines]
    lines += ['{"id": 15000, "qty": 5}', '{"id": 15001, "colour": "red"}']
    (adaptive.folder / "late.jsonl").write_text("\n".join(lines))
    assert adaptive("load", "late.jsonl", "--to", lab.url).code == 3
    rows = {row["id"]: (row["qty"], row["kind"]) for row in lab.rows("late")}
    assert rows[0] == (None, "plain")
    assert rows[15_000] == (5, "plain")
    assert len(rows) == 15_001
    [letter] = adaptive.letters()
    assert "colour" in letter["reason"]


def test_standard_input(lab: Lab, adaptive: Command, order_file: OrderFile, orders_table: str) -> None:
    content = (adaptive.folder / order_file("orders.csv")).read_bytes()
    done = adaptive("load", "-", "--format", "csv", "--to", lab.url, "--table", "orders", stdin=content)
    assert done.code == 0, done.err
    assert loaded(lab) == expected()


def test_upsert_and_replace(lab: Lab, adaptive: Command, order_file: OrderFile, orders_table: str) -> None:
    adaptive("load", order_file("orders.csv"), "--to", lab.url)
    changed = [{**order, "note": "changed"} for order in orders.orders(10)]
    (adaptive.folder / "orders.jsonl").write_text(
        "".join(json.dumps(row, default=str) + "\n" for row in changed)
    )
    done = adaptive("load", "orders.jsonl", "--to", lab.url, "--mode", "upsert")
    assert done.code == 0, done.err
    assert loaded(lab) == [*changed, *expected()[10:]]
    done = adaptive("load", "orders.jsonl", "--to", lab.url, "--mode", "replace")
    assert done.code == 0, done.err
    assert loaded(lab) == changed


def test_ignore_counts_what_is_there(
    lab: Lab, adaptive: Command, order_file: OrderFile, orders_table: str
) -> None:
    adaptive("load", order_file("some.csv", 100), "--to", lab.url, "--table", "orders")
    done = adaptive("load", order_file("all.csv"), "--to", lab.url, "--table", "orders", "--mode", "ignore",
                    "--metrics-json", "metrics.json")  # fmt: skip
    assert done.code == 0, done.err
    metrics = json.loads((adaptive.folder / "metrics.json").read_text())
    assert (metrics["success_count"], metrics["duplicate_count"], metrics["enqueue_count"]) == (
        2_900,
        100,
        3_000,
    )


@pytest.mark.parametrize("batch", ["tiers", "adaptive", "7"])
def test_metrics_add_up(batch: str, lab: Lab, adaptive: Command, orders_table: str) -> None:
    orders.write(adaptive.folder / "orders.csv", 500, bad_share=0.02, duplicate_share=0.02)
    done = adaptive("load", "orders.csv", "--to", lab.url, "--batch", batch, "--metrics-json", "m.json", "-q")
    assert done.code == 3
    assert done.out == ""
    metrics = json.loads((adaptive.folder / "m.json").read_text())
    settled = sum(metrics[f"{name}_count"] for name in ("success", "fail", "duplicate", "rejection"))
    assert settled == metrics["enqueue_count"] == 500
    good = list(orders.loadable(orders.orders(500, bad_share=0.02, duplicate_share=0.02)))
    assert metrics["success_count"] == len(good)
    assert loaded(lab) == good
    assert len(adaptive.letters()) == metrics["fail_count"]


def test_a_killed_load_is_completed_by_the_same_command(
    lab: Lab, adaptive: Command, order_file: OrderFile, orders_table: str
) -> None:
    command = ("load", order_file("orders.csv", 60_000), "--to", lab.url, "--batch", "500")
    for rows in (1, 10_000, 30_000):
        running = adaptive.start(*command)
        while running.poll() is None and len(lab.rows("orders")) < rows:
            pass
        running.kill()
        running.communicate()
    done = adaptive(*command)
    assert done.code == 0, done.err
    assert loaded(lab) == expected(60_000)
    assert "already loaded" in adaptive(*command).out


def test_an_interrupted_load_is_resumable(
    lab: Lab, adaptive: Command, order_file: OrderFile, orders_table: str
) -> None:
    command = (
        "load",
        order_file("orders.csv", 60_000),
        "--to",
        lab.url,
        "--batch",
        "100",
        "--queue-size",
        "400",
    )
    running = adaptive.start(*command)
    while len(lab.rows("orders")) < 1:
        assert running.poll() is None, running.communicate()
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate()
    assert running.returncode == 130, err
    assert "resumes" in err
    before = len(lab.rows("orders"))
    assert 0 < before < 60_000
    assert adaptive(*command).code == 0
    assert loaded(lab) == expected(60_000)


def test_two_runs_at_once_write_every_row_once(
    lab: Lab, adaptive: Command, order_file: OrderFile, orders_table: str
) -> None:
    file = order_file("orders.csv", 20_000)
    runs = [adaptive.start("load", file, "--to", lab.url, "--batch", size) for size in ("300", "700")]
    ends = [(run.communicate()[1], run.returncode) for run in runs]
    assert min(code for _, code in ends) == 0, ends
    assert all(code == 0 or "taken over" in err for err, code in ends), ends
    assert loaded(lab) == expected(20_000)


def test_settings_come_from_flags_environment_and_files(
    lab: Lab, adaptive: Command, order_file: OrderFile
) -> None:
    file = order_file("orders.csv", 50)
    (adaptive.folder / "adaptive.toml").write_text('table = "from_toml"\ncreate = true\nbatch = "tiers"\n')
    adaptive.environment["ADAPTIVE_TO"] = lab.url
    assert adaptive("load", file).code == 0
    assert len(lab.rows("from_toml")) == 50
    (adaptive.folder / ".env").write_text("ADAPTIVE_TABLE=from_dotenv\n")
    assert adaptive("load", file).code == 0
    assert len(lab.rows("from_dotenv")) == 50
    adaptive.environment["ADAPTIVE_TABLE"] = "from_environment"
    assert adaptive("load", file).code == 0
    assert len(lab.rows("from_environment")) == 50
    assert adaptive("load", file, "--table", "from_flag").code == 0
    assert len(lab.rows("from_flag")) == 50
    (adaptive.folder / "adaptive.toml").write_text("colour = 1\n")
    assert adaptive("load", file).code == 2


def test_replay_loads_mended_letters_once(lab: Lab, adaptive: Command, orders_table: str) -> None:
    orders.write(adaptive.folder / "orders.csv", 200, bad_share=0.05)
    assert adaptive("load", "orders.csv", "--to", lab.url).code == 3
    [file] = adaptive.folder.glob("*.rejected.jsonl")
    assert file.stat().st_mode & 0o777 == 0o600
    missing = 200 - len(lab.rows("orders"))
    assert missing == len(adaptive.letters()) > 5
    text = file.read_text()
    for column, bad in orders.BAD_VALUES[1:]:
        good = {"price": "12.5", "placed_at": "2024-01-02T00:00:00Z"}[column]
        text = text.replace(f'"{column}": "{bad}"', f'"{column}": "{good}"')
    file.write_text(text)
    replay = ("replay", file.name, "--to", lab.url, "--table", "orders")
    assert adaptive(*replay).code == 3
    still = sum(letter["column"] == "quantity" for letter in map(json.loads, text.splitlines()[1:]))
    assert len(lab.rows("orders")) == 200 - still
    file.write_text(text.replace('"quantity": "many"', '"quantity": "5"'))
    assert adaptive(*replay).code == 0
    assert len(lab.rows("orders")) == 200
    assert adaptive(*replay).code == 0
    assert len(lab.rows("orders")) == 200


def test_a_dry_run_finds_bad_values_and_touches_nothing(
    lab: Lab, adaptive: Command, order_file: OrderFile, orders_table: str
) -> None:
    orders.write(adaptive.folder / "orders.csv", 300, bad_share=0.02)
    done = adaptive("load", "orders.csv", "--to", lab.url, "--dry-run")
    assert done.code == 3, done.err
    assert re.search(r"would write +29[46] rows", done.out), done.out
    assert "record 50, column quantity" in done.out
    assert lab.rows("orders") == []
    assert "no loads" in adaptive("status", lab.url).out
    assert list(adaptive.folder.glob("*.rejected.jsonl")) == []
    fresh = adaptive("load", order_file("new.csv", 10), "--to", lab.url, "--dry-run", "--create")
    assert fresh.code == 0, fresh.err
    assert re.search(r"would write +10 rows", fresh.out), fresh.out
    assert adaptive("load", "new.csv", "--to", lab.url, "--dry-run").code == 2


def test_status_and_doctor(lab: Lab, adaptive: Command, order_file: OrderFile) -> None:
    adaptive("load", order_file("orders.csv", 10), "--to", lab.url, "--create")
    status = adaptive("status", lab.url)
    assert status.code == 0, status.err
    assert "orders.csv" in status.out
    assert "done" in status.out
    doctor = adaptive("doctor", lab.url)
    assert doctor.code == 0, doctor.out


def test_the_demonstration(adaptive: Command) -> None:
    first = adaptive("demo", "--rows", "500")
    assert first.code == 0, first.err
    assert (adaptive.folder / "demo" / "orders.db").exists()
    second = adaptive("demo", "--rows", "500")
    assert second.code == 0
    assert "already loaded" in second.out


def test_a_load_that_a_bound_stopped_goes_on_with_a_higher_one(lab: Lab, adaptive: Command) -> None:
    note = "x" * (3 << 20)
    (adaptive.folder / "notes.csv").write_text(f"id,note\n1,first\n2,{note}\n3,last\n")
    command = ("load", "notes.csv", "--to", lab.url, "--create", "--types", "id=int64,note=text")
    stopped = adaptive(*command, "--max-record", "1")
    assert stopped.code in (1, 2), stopped
    assert "max-record" in stopped.err
    assert adaptive(*command).code == 0
    rows = sorted(lab.rows("notes"), key=lambda row: row["id"])
    assert [(row["id"], len(row["note"])) for row in rows] == [(1, 5), (2, len(note)), (3, 4)]


def test_a_load_that_was_refused_leaves_no_trace(lab: Lab, adaptive: Command) -> None:
    lab.execute("CREATE TABLE t (id BIGINT, note TEXT)")
    file = adaptive.folder / "t.csv"
    file.write_text("id,oops\n3,c\n")
    refused = adaptive("load", "t.csv", "--to", lab.url)
    assert (refused.code, "t.csv: table t has no column oops" in refused.err) == (2, True)
    file.write_text("id,note\n3,c\n")
    assert adaptive("load", "t.csv", "--to", lab.url).code == 0
    assert [row["id"] for row in lab.rows("t")] == [3]


def test_changed_content_is_refused_only_where_it_would_come_beside_the_old(
    lab: Lab, adaptive: Command
) -> None:
    command = ("load", "t.csv", "--to", lab.url, "--create", "--types", "id=int64")
    for content in ("1", "2"):
        (adaptive.folder / "t.csv").write_text(f"id\n{content}\n")
        done = adaptive(*command)
    assert (done.code, "with other content" in done.err) == (2, True)
    assert adaptive(*command, "--again").code == 0
    assert "already loaded" in adaptive(*command).out
    assert sorted(row["id"] for row in lab.rows("t")) == [1, 2]
    lab.execute("DROP TABLE t")
    (adaptive.folder / "t.csv").write_text("id\n3\n")
    assert adaptive(*command).code == 0
    assert [row["id"] for row in lab.rows("t")] == [3]


def test_options_and_types_that_do_not_exist_are_refused(lab: Lab, adaptive: Command) -> None:
    with pytest.raises(UsageError, match="there is no option max_rejectd"):
        package.load([{"id": 1}], lab.url, table="t", max_rejectd=1)
    (adaptive.folder / "t.csv").write_text("id,price\n1,2\n")
    refused = adaptive("load", "t.csv", "--to", lab.url, "--create", "--types", "pirce=decimal(9,2)")
    assert (refused.code, "t.csv has no column pirce" in refused.err) == (2, True)


@pytest.mark.parametrize("mode", ["ignore", "upsert"])
def test_a_source_without_the_key_is_refused_before_anything_is_written(
    mode: str, lab: Lab, adaptive: Command
) -> None:
    lab.make_items()
    (adaptive.folder / "items.csv").write_text("name,amount\nx,1\n")
    refused = adaptive("load", "items.csv", "--to", lab.url, "--mode", mode, "--key", "item_id")
    assert (refused.code, "item_id" in refused.err) == (2, True)
