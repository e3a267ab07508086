"""Bad input and bad circumstances: a clear message, the right exit code, and everything good in the table."""

from __future__ import annotations

import gzip
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from labs import Lab, SqliteLab, postgres_lab

from adaptive import cli
from e2e.conftest import Command, Finished

TABLE = "CREATE TABLE t (id BIGINT PRIMARY KEY, qty INTEGER, price NUMERIC(10,2), note TEXT)"
Here = Callable[..., Finished]
HEADER = "id,qty,price,note\n"
PASSWORD = "p@ss/wo?rd"


@pytest.fixture
def table(lab: Lab) -> Lab:
    lab.execute(TABLE)
    return lab


def write(adaptive: Command, name: str, content: str | bytes) -> str:
    (adaptive.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def ids(lab: Lab, table: str = "t") -> list[int]:
    return sorted(row["id"] for row in lab.rows(table))


@pytest.fixture
def here(
    adaptive: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """The command in this process, where a process of its own (half a second) would show nothing more."""
    for name in [name for name in os.environ if name.startswith("ADAPTIVE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(adaptive.folder)

    def run(*arguments: str) -> Finished:
        monkeypatch.setattr(sys, "argv", ["adaptive", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Finished(int(end.value.code or 0), *capsys.readouterr())

    return run


def check(done: Finished, code: int, *said: str) -> None:
    """Check the exit code, what is said, and that an error is a line and no traceback."""
    assert "Traceback" not in done.err + done.out
    assert done.code == code, done
    for text in said:
        assert text in done.err + done.out
    if "Usage:" not in done.err:
        errors = [line for line in done.err.splitlines() if not line.startswith("adaptive: WARNING: ")]
        assert len(errors) <= 1, done.err


def load(here: Here, lab: Lab, name: str, *options: str) -> Finished:
    return here("load", name, "--to", lab.url, "--table", "t", *options)


# ---- inputs that are no input


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", None, "no such file"),
        ("none-*.csv", None, "no file matches"),
        ("folder", "/", "this is a directory"),
        ("empty.csv", b"", "this is empty"),
        ("empty.csv.gz", gzip.compress(b"", mtime=0), "this is empty"),
        ("empty.jsonl", b"", "no record"),
        ("empty.xml", b"", "not XML"),
        ("empty.parquet", b"", "not a Parquet file"),
        ("garbage.parquet", b"\x93\x00\xff" * 100, "not a Parquet file"),
        ("garbage.xml", b"\x93\x00\xff" * 100, "not XML"),
        ("first.xml", b"<r><o><id>1</o><o><id>2</id></o></r>", "its first record is malformed"),
        ("garbage.csv", b"\x93\x00\xff" * 100, "the header cannot be read"),
        ("garbage.csv.gz", b"\x1f\x8b\x08" + b"\x93\x00\xff" * 100, "broken off"),
        ("text.jsonl", b"id,qty\n1,2\n", "is it JSON Lines"),
        ("array.json", b'[{"id": 1}]', "jq -c"),
        ("lines.json", b'[\n {"id": 1},\n {"id": 2}\n]\n', "jq -c"),
        ("sheet.xlsx", b"PK", "--format"),
        ("double.csv", b"id,qty,qty\n1,2,3\n", "two columns are named 'qty'"),
        ("alike.csv", b"id,qty,QTY\n1,2,3\n", "several source columns match column qty"),
        ("more.csv", b"id,colour\n1,red\n", "no column colour"),
        ("unnamed.csv", b"id,,qty\n1,2,3\n", "column 2 has no name"),
    ],
)
def test_an_input_that_cannot_be_one_is_refused_by_name(
    name: str, content: bytes | str | None, said: str, adaptive: Command, here: Here, tmp_path: Path
) -> None:
    if content == "/":
        (adaptive.folder / name).mkdir()
    elif content is not None:
        write(adaptive, name, content)
    lab = SqliteLab(tmp_path / "x.db")
    lab.execute(TABLE)
    done = here("load", name, "--to", lab.url, "--table", "t")
    check(done, 2, said)
    assert lab.rows("t") == []
    if name not in ("more.csv", "alike.csv"):  # these name the table
        assert name in done.err


def test_an_unreadable_file_is_refused(adaptive: Command, here: Here) -> None:
    (adaptive.folder / write(adaptive, "secret.csv", HEADER)).chmod(0)
    if os.access(adaptive.folder / "secret.csv", os.R_OK):
        pytest.skip("root may read every file")
    check(here("load", "secret.csv", "--to", "sqlite:///x.db", "--create"), 2, "secret.csv", "permission")


def test_a_header_alone_is_an_empty_load(table: Lab, adaptive: Command, here: Here) -> None:
    write(adaptive, "t.csv", HEADER)
    check(load(here, table, "t.csv"), 0, "written", " 0 rows")
    check(load(here, table, "t.csv"), 0, "already loaded")


# ---- inputs that break


@pytest.mark.parametrize("create", [False, True], ids=["table", "create"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "xml"])
def test_what_comes_before_a_cut_is_loaded(
    form: str, create: bool, lab: Lab, adaptive: Command, here: Here
) -> None:
    noise, count = random.Random(7), 3_000
    rows = [(number, noise.randbytes(8).hex()) for number in range(count)]
    begin, row, end = {
        "csv": ("id,note\n", "{},{}\n", ""),
        "jsonl": ("", '{{"id":{},"note":"{}"}}\n', ""),
        "xml": ("<r>", "<o><id>{}</id><note>{}</note></o>", "</r>"),
    }[form]
    whole = gzip.compress((begin + "".join(row.format(*each) for each in rows) + end).encode(), mtime=0)
    write(adaptive, f"t.{form}.gz", whole[: len(whole) // 2])
    if not create:
        lab.execute(TABLE)
    done = load(here, lab, f"t.{form}.gz", *["--create"] * create)
    check(done, 1, f"t.{form}.gz", "broken off after byte", "cut off")
    found = lab.rows("t")
    assert 1_000 < len(found) < 2_000
    assert [(each["id"], each["note"]) for each in sorted(found, key=lambda each: each["id"])] == rows[
        : len(found)
    ]


@pytest.mark.parametrize(
    ("form", "records", "said"),  # of four records the first and the third are bad
    [
        ("csv", "1,x,1.5,a|2,2,1.5,b|3,3,1.555,c|4,4,,|", ["record 1, column qty: 'x'", "price: '1.555'"]),
        (
            "csv",
            "1,1|2,2,1,b|3,3,1,c,d,e|4,4,1,|",
            ["record 1, line 2: expected 4 fields, found 2", "found 6"],
        ),
        ("csv", "1,1,1,\xff|2,2,2,ok|3,3,3,\xe4|4,4,,|", ["record 1, line 2: not readable as utf-8"]),
        ("jsonl", '{"id":1,"note":"\xff"}|{"id":2}|{"id":3,|{"id":4}|', ["line 1: byte 0xff", "line 3: "]),
        (
            "jsonl",
            '{"id":1,"qty":"x"}|{"id":2}|[3]|{"id":4}|',
            ["line 1, column qty: 'x'", "not a JSON object"],
        ),
        ("xml", "<id>1</id><qty>x</qty>|<id>2</id>|<id>3</id><qty>3|<id>4</id>", ["qty: 'x'", "record 3: "]),
        (
            "xml",
            "<id>1</id><qty>x</qty>|<id>2</id>|<id>3\xff</id>|<id>4</id>",
            ["record 1, column qty", "record 3: "],
        ),
        ("xml", "<id>1</id><qty>x</qty>|<id>2</id>|<id/>|<id>4</id>", ["record 1, column qty", "record 3"]),
    ],
)
def test_a_bad_record_costs_itself_alone(
    form: str, records: str, said: list[str], table: Lab, adaptive: Command, here: Here
) -> None:
    content = {
        "csv": HEADER + records.replace("|", "\n"),
        "jsonl": records.replace("|", "\n"),
        "xml": f"<r><o>{records.replace('|', '</o><o>')}</o></r>",
    }[form]
    write(adaptive, f"t.{form}", content.encode("latin-1"))
    check(load(here, table, f"t.{form}"), 3, f"t.{form}, ", *said)
    assert ids(table) == [2, 4]
    assert [letter["position"]["record"] for letter in adaptive.letters()] == [1, 3]


@pytest.mark.parametrize(
    ("name", "content"),
    [("t.csv", HEADER + "1,1,1,a\0b\n2,2,1,b\n"), ("t.jsonl", '{"id":1,"note":"a\\u0000b"}\n{"id":2}\n')],
)
def test_nul_in_text_is_a_dead_letter(
    name: str, content: str, table: Lab, adaptive: Command, here: Here
) -> None:
    write(adaptive, name, content)
    check(load(here, table, name), 3, f"{name}, record 1")
    assert ids(table) == [2]
    [letter] = adaptive.letters()
    assert letter["row"]["note"] == "a\0b"
    assert "NUL" in letter["reason"] or "0x00" in letter["reason"]


@pytest.mark.parametrize("form", ["csv", "jsonl", "xml"])
def test_a_field_of_3_mb_arrives(form: str, table: Lab, adaptive: Command, here: Here) -> None:
    big = "y" * 3_000_000
    contents = {
        "csv": f"id,note\n1,{big}\n2,b\n",
        "jsonl": f'{{"id":1,"note":"{big}"}}\n{{"id":2}}\n',
        "xml": f"<r><o><id>1</id><note>{big}</note></o><o><id>2</id></o></r>",
    }
    write(adaptive, f"t.{form}", contents[form])
    check(load(here, table, f"t.{form}"), 0)
    assert sorted(len(row["note"] or "") for row in table.rows("t") if row["id"] == 1) == [3_000_000]


# ---- tables


def test_a_table_that_does_not_fit_is_refused(lab: Lab, adaptive: Command, here: Here) -> None:
    write(adaptive, "t.csv", "id\n1\n")
    command = ("load", "t.csv", "--to", lab.url)
    check(here(*command), 2, "t", "--create")
    lab.execute("CREATE TABLE t (id BIGINT, must TEXT NOT NULL)")
    check(here(*command), 2, "column must of table t must be filled")
    lab.execute("ALTER TABLE t DROP COLUMN must")
    check(here(*command, "--mode", "upsert"), 2, "upsert", "key")
    assert lab.rows("t") == []


def test_table_names_are_quoted(lab: Lab, adaptive: Command, here: Here) -> None:
    write(adaptive, "t.csv", "id\n1\n")
    for given, name in (
        ('"a""b.c"', 'a"b.c'),
        ("x'; DROP TABLE t; --", "x'; DROP TABLE t; --"),
        ("Ä b", "Ä b"),
    ):
        check(here("load", "t.csv", "--to", lab.url, "--table", given, "--create"), 0)
        assert lab.rows(name) == [{"id": 1}]


def test_a_schema_goes_before_the_dot(postgres_server: str, adaptive: Command, here: Here) -> None:
    write(adaptive, "t.csv", "id\n1\n")
    with postgres_lab(postgres_server) as lab:
        check(here("load", "t.csv", "--to", lab.url, "--table", "s.t", "--create"), 2, '"s" does not exist')
        lab.execute("CREATE SCHEMA s")
        check(here("load", "t.csv", "--to", lab.url, "--table", "s.t", "--create"), 0)
        lab.execute("ALTER TABLE s.t SET SCHEMA public")
        assert ids(lab) == [1]


# ---- connections, passwords, rights


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:geheim@127.0.0.1:1/x", "Connection refused"),
        ("mysql://u:geheim@h/x", "postgresql://"),
        ("orders.db", "sqlite://"),
        ("sqlite://", "sqlite:///relative.db"),
        ("sqlite:///nowhere/x.db", "nowhere"),
        ("sqlite:///t.csv", "t.csv: file is not a database"),
        ("postgresql://u:ge@heim@h/x", "%40"),
    ],
)
@pytest.mark.parametrize("command", ["load", "status", "doctor"])
def test_a_database_that_is_not_there_is_named_without_its_password(
    command: str, url: str, said: str, adaptive: Command, here: Here
) -> None:
    write(adaptive, "t.csv", HEADER + "1,1,1,a\n" * 100)
    arguments = {
        "load": ("load", "t.csv", "--to", url, "--create", "--log-level", "error"),
        "status": ("status", url),
        "doctor": ("doctor", url),
    }[command]
    done = here(*arguments)
    check(done, 1 if command == "doctor" else 2, said)
    assert "geheim" not in done.err + done.out
    assert "heim@" not in done.err + done.out


@pytest.fixture
def other_user(postgres_server: str) -> Iterator[tuple[Lab, str]]:
    """A database and the URL of an ordinary user there, with a password full of special characters."""
    with postgres_lab(postgres_server) as lab:
        name = urlsplit(lab.url).path[1:]  # unique, like the database
        lab.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        try:
            parts = urlsplit(lab.url)
            place = parts.netloc.rpartition("@")[2]
            yield lab, parts._replace(netloc=f"{name}:{quote(PASSWORD, safe='')}@{place}").geturl()
        finally:
            lab.execute(f"DROP OWNED BY {name}")
            lab.execute(f"DROP ROLE {name}")


def test_a_wrong_password_is_never_shown(other_user: tuple[Lab, str], adaptive: Command) -> None:
    wrong = other_user[1].replace("rd@", "rdX@")
    with suppress(psycopg.OperationalError):
        psycopg.connect(wrong).close()
        pytest.skip("this server asks for no password")
    write(adaptive, "t.csv", HEADER)
    for level in ("error", "debug"):
        done = adaptive(
            "load", "t.csv", "--to", wrong, "--create", "--log-level", level, "--metrics-json", "m"
        )
        assert done.code == 2
        assert "password authentication failed" in done.err
        for form in (PASSWORD, quote(PASSWORD, safe=""), "p@ss", "p%40ss"):
            assert form not in done.err + done.out
    assert [path.name for path in adaptive.folder.iterdir()] == ["t.csv"]


def test_a_password_is_in_no_file_and_no_table(other_user: tuple[Lab, str], adaptive: Command) -> None:
    lab, url = other_user
    lab.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    write(adaptive, "t.csv", HEADER + "1,1,1,a\n2,x,1,a\n")
    lab.execute(TABLE)
    lab.execute("GRANT ALL ON t TO PUBLIC")
    done = adaptive("load", "t.csv", "--to", url, "--log-level", "debug", "--metrics-json", "m")
    assert done.code == 3, done
    written = b"".join(path.read_bytes() for path in adaptive.folder.iterdir()).decode()
    ledger = repr([lab.rows(f"_adaptive_{name}") for name in ("loads", "splits", "ledger")])
    for form in (PASSWORD, quote(PASSWORD, safe="")):
        assert form not in done.err + done.out + written + ledger


def test_missing_rights_are_named_as_grants(
    other_user: tuple[Lab, str], adaptive: Command, here: Here
) -> None:
    lab, url = other_user
    lab.execute(TABLE)
    write(adaptive, "t.csv", HEADER + "1,1,1,a\n")
    lab.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as it is since PostgreSQL 15
    insert, create = 'GRANT INSERT ON TABLE "public"."t" TO', 'GRANT CREATE ON SCHEMA "public" TO'
    check(here("load", "t.csv", "--to", url), 2, insert, create)
    lab.execute(f"GRANT INSERT ON t TO {urlsplit(url).username}")
    done = here("load", "t.csv", "--to", url)
    check(done, 2, create)
    assert "GRANT INSERT" not in done.err
    assert lab.rows("t") == []
    with pytest.raises(psycopg.errors.UndefinedTable):
        lab.rows("_adaptive_loads")


def test_a_database_that_is_read_only_is_refused(
    table: Lab, adaptive: Command, here: Here, tmp_path: Path
) -> None:
    write(adaptive, "t.csv", HEADER + "1,1,1,a\n")
    if table.name == "postgres":
        name = urlsplit(table.url).path[1:]
        table.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        check(load(here, table, "t.csv"), 2, "read-only transaction")
    else:
        folder = tmp_path / "locked"
        folder.mkdir()
        (tmp_path / "lab.db").rename(folder / "lab.db")
        folder.chmod(0o500)
        (folder / "lab.db").chmod(0o400)
        if os.access(folder / "lab.db", os.W_OK):
            pytest.skip("root may write every file")
        check(
            adaptive("load", "t.csv", "--to", f"sqlite:///{folder / 'lab.db'}"),
            2,
            "lab.db",
            "must be writable",
        )


# ---- usage and settings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Usage:"),
        (["lode"], "No such command 'lode'"),
        (["load", "t.csv"], "--to"),
        (["load", "t.csv", "--colour"], "--colour"),
        (["load", "t.csv", "--queue-size", "many"], "'many' is not a valid int"),
        (["load", "t.csv", "--mode", "merge"], "append, ignore, upsert, replace"),
        (["load", "t.csv", "--batch", "0"], "batch '0'"),
        (["load", "t.csv", "--writers", "0"], "writers has to be at least 1"),
        (["load", "t.csv", "--linger", "-1"], "linger"),
        (["load", "t.csv", "--max-rejected", "some"], "max-rejected 'some'"),
        (["load", "t.csv", "--max-rejected", "101%"], "max-rejected '101%'"),
        (["load", "t.csv", "--types", "id=number"], "unknown type 'number'"),
        (["load", "t.csv", "--timezone", "Mars/Base"], "Mars/Base"),
        (["load", "t.csv", "--encoding", "utf-9"], "utf-9"),
        (["load", "t.csv", "--delimiter", ";;"], "--delimiter ';;'"),
        (["load", "t.csv", "--format", "xls"], "--format"),
        (["load", "t.csv", "--log-level", "loud"], "log level 'loud'"),
        (["load", "t.csv", "--config", "none.toml"], "none.toml: No such file"),
        (["load", "t.csv", "--mapping", "none.yaml"], "none.yaml: No such file"),
        (["load", "t.csv", "--metrics-json", "none/m.json"], "none/m.json: there is no folder none"),
        (["load", "t.csv", "--metrics-json", "."], "cannot be written"),
        (["load", "t.csv", "--dead-letters", "none/d.jsonl"], "none/d.jsonl: there is no folder none"),
        (["load", "t.csv", "--dead-letters", "/dev/null"], "/dev/null"),
        (["load", "t.csv", "u.csv", "--dead-letters", "d.jsonl"], "--dead-letters"),
        (["load", "t.csv", "u.csv", "--load-id", "x"], "--load-id"),
        (["load", "-", "--format", "csv"], "--table"),
        (["replay", "none.jsonl"], "--table"),
        (["replay", "none.jsonl", "--table", "t"], "none.jsonl: No such file"),
        (["replay", "t.csv", "--table", "t"], "t.csv: not a dead letter file"),
        (["replay", "headless.jsonl", "--table", "t"], "headless.jsonl: its first line lacks load"),
        (["replay", "version.jsonl", "--table", "t"], "version 1"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_touched(
    arguments: list[str], said: str, adaptive: Command, here: Here
) -> None:
    write(adaptive, "t.csv", "id\n1\n")
    write(adaptive, "u.csv", "id\n2\n")
    write(adaptive, "headless.jsonl", '{"adaptive_dead_letters": 1, "format": "csv"}\n')
    write(adaptive, "version.jsonl", '{"adaptive_dead_letters": 99}\n')
    to = (
        ["--to", "sqlite:///x.db"]
        if arguments[:1] in (["load"], ["replay"]) and arguments[1:] != ["t.csv"]
        else []
    )
    create = ["--create"] if arguments[:1] == ["load"] else []
    check(here(*arguments, *to, *create), 2, said)
    assert not (adaptive.folder / "x.db").exists()


def test_a_driver_that_is_not_installed_is_named(adaptive: Command, tmp_path: Path) -> None:
    write(adaptive, "t.csv", "id\n1\n")
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['psycopg'] = None\n")
    adaptive.environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{adaptive.environment.get('PYTHONPATH', '')}"
    check(
        adaptive("load", "t.csv", "--to", "postgresql://h/x"), 2, "needs psycopg", "pip install '.[postgres]'"
    )


def test_options_of_csv_and_quiet(lab: Lab, adaptive: Command, here: Here) -> None:
    text = "1;'Müller; Söhne';NA;2024-07-01 12:00:00\n2;NA;'NA';2024-12-01 12:00:00\n"
    write(adaptive, "t.csv", text.encode("latin-1"))
    done = load(
        here, lab, "t.csv", "--create", "--quiet", "--columns", "id, name,note, at",
        "--delimiter", ";", "--quote", "'", "--null", "NA", "--encoding", "latin-1",
        "--timezone", "Europe/Berlin", "--types", "at=timestamptz",
    )  # fmt: skip
    assert done == Finished(0, "", "")
    rows = sorted(lab.rows("t"), key=lambda row: row["id"])
    assert [(row["name"], row["note"]) for row in rows] == [("Müller; Söhne", None), (None, "NA")]
    instants = [row["at"] if lab.name == "postgres" else datetime.fromisoformat(row["at"]) for row in rows]
    assert [instant.astimezone(UTC).hour for instant in instants] == [10, 11]


# ---- budgets


def test_a_hopeless_load_stops_and_is_resumable(table: Lab, adaptive: Command, here: Here) -> None:
    write(adaptive, "t.csv", HEADER + "".join(f"{n},{'x' if n % 10 == 0 else n},1,a\n" for n in range(3_000)))
    for budget, code in (("20", 1), ("5%", 1), ("12%", 0)):
        check(load(here, table, "t.csv", "--max-rejected", budget, "--batch", "100"), code)
    assert ids(table) == [n for n in range(3_000) if n % 10]
    check(load(here, table, "t.csv"), 0, "already loaded")


# ---- a failing machine


def limited(size: int) -> Callable[[], None]:
    """Return a function for a child process: no file of it may grow beyond `size` bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def finished(running: subprocess.Popen[str]) -> Finished:
    out, err = running.communicate(timeout=60)
    return Finished(running.returncode, out, err)


def test_a_full_disk_stops_the_load_and_it_is_resumable(
    adaptive: Command, here: Here, tmp_path: Path
) -> None:
    lab = SqliteLab(tmp_path / "x.db")
    lab.execute(TABLE)
    write(adaptive, "t.csv", HEADER + "".join(f"{n},1,1,{'y' * 100}\n" for n in range(5_000)))
    command = ("load", "t.csv", "--to", lab.url, "--batch", "500")
    # A limit is not quite a full disk: SQLite cannot tell what became of the commit, so it is tried again.
    done = finished(adaptive.start(*command, "--max-retries", "1", preexec_fn=limited(300_000)))
    check(done, 1, "disk I/O error")
    assert len(lab.rows("t")) < 5_000
    check(here(*command), 0)
    assert ids(lab) == list(range(5_000))


def test_a_dead_letter_file_on_a_full_disk_stops_the_load(table: Lab, adaptive: Command, here: Here) -> None:
    rows = "".join(f"{n},{'x' if n % 2 else n},1,{'y' * 100}\n" for n in range(2_000))
    write(adaptive, "t.csv", HEADER + rows)
    command = ("load", "t.csv", "--to", table.url, "--batch", "200", "--dead-letters", "d.jsonl")
    if table.name == "postgres":  # SQLite's own files would meet the limit first
        done = finished(adaptive.start(*command, preexec_fn=limited(100_000)))
        check(done, 1, "cannot write dead letters to d.jsonl")
        assert len(table.rows("t")) < 1_000
    check(here(*command), 3)
    assert ids(table) == list(range(0, 2_000, 2))
    letters = [
        json.loads(line)["position"]["record"]
        for line in (adaptive.folder / "d.jsonl").read_text().splitlines()[1:]
    ]
    assert set(letters) == set(range(2, 2_001, 2))


def test_sessions_that_are_ended_again_and_again_do_not_stop_a_load(
    postgres_server: str, adaptive: Command, here: Here
) -> None:
    write(adaptive, "t.csv", HEADER + "".join(f"{n},1,1,a\n" for n in range(40_000)))
    with postgres_lab(postgres_server) as lab:
        lab.execute(TABLE)
        running = adaptive.start("load", "t.csv", "--to", lab.url, "--batch", "200")
        for rows in (1, 5_000, 10_000, 20_000):
            while running.poll() is None and len(lab.rows("t")) < rows:
                pass
            lab.break_links()
        check(finished(running), 0, "retried")
        assert ids(lab) == list(range(40_000))
        check(load(here, lab, "t.csv"), 0, "already loaded")


# ---- streams and signals


@pytest.mark.parametrize("redirection", ["| head -0", ">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_load_does_not_depend_on_its_streams(redirection: str, adaptive: Command) -> None:
    write(adaptive, "t.csv", "id\n1\n")
    command = (
        f"set -o pipefail; {sys.executable} -m adaptive load t.csv --to sqlite:///x.db --create {redirection}"
    )
    done = subprocess.run(
        ["bash", "-c", command], cwd=adaptive.folder, env=adaptive.environment, capture_output=True, text=True
    )
    check(Finished(done.returncode, done.stdout, done.stderr), 0)
    assert done.stderr == ""
    assert ids(SqliteLab(adaptive.folder / "x.db")) == [1]


def test_a_closed_standard_input_is_refused(adaptive: Command) -> None:
    command = f"{sys.executable} -m adaptive load - --format csv --to sqlite:///x.db --table t --create <&-"
    done = subprocess.run(
        ["bash", "-c", command], cwd=adaptive.folder, env=adaptive.environment, capture_output=True, text=True
    )
    check(Finished(done.returncode, done.stdout, done.stderr), 2, "standard input is closed")


def test_a_second_signal_ends_a_load_that_waits(table: Lab, adaptive: Command) -> None:
    running = adaptive.start(
        "load",
        "-",
        "--format",
        "csv",
        "--to",
        table.url,
        "--table",
        "t",
        "--linger",
        "0",
        stdin=subprocess.PIPE,
    )
    assert running.stdin
    assert running.stderr
    running.stdin.write(HEADER)
    for number in count():
        running.stdin.write(f"{number},1,1,a\n")
        running.stdin.flush()
        if table.rows("t"):
            break
    running.send_signal(signal.SIGINT)
    assert "a second signal stops at once" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    assert "resumes the load" in running.stderr.readline()
    assert running.wait(timeout=30) == 130
    running.stdin.close()
    running.stdout.close()
    running.stderr.close()


# ---- replay


@pytest.mark.parametrize(
    ("name", "content", "mend"),
    [
        ("t.csv", HEADER + "1,1\n2,2,2,b\n3,3,3,c,d\n", {"1,1": "1,1,,a", "3,3,3,c,d": "3,3,3,c;d"}),
        ("t.tsv", "id\tqty\n1\n2\t2\n3\t3\t3\n", {"1": "1\t1", "3\t3\t3": "3\t3"}),
        (
            "t.jsonl",
            '{"ID":1,"qty":1\n{"ID":2,"qty":2}\n3\n',
            {'{"ID":1,"qty":1': '{"ID":1,"qty":1}', "3": '{"ID":3}'},
        ),
    ],
)
def test_broken_text_that_was_mended_is_replayed(
    name: str, content: str, mend: dict[str, str], table: Lab, adaptive: Command, here: Here
) -> None:
    write(adaptive, name, content)
    check(load(here, table, name), 3)
    [file] = adaptive.folder.glob("*.rejected.jsonl")
    replay = ("replay", file.name, "--to", table.url, "--table", "t")
    check(here(*replay), 3)  # as broken as before
    head, *letters = map(json.loads, file.read_text().splitlines())
    for letter in letters:
        letter["raw"] = mend[letter["raw"]]
    file.write_text("".join(json.dumps(line) + "\n" for line in (head, *letters)))
    check(here(*replay), 0)
    assert ids(table) == [1, 2, 3]
    assert {row["id"]: row["qty"] for row in table.rows("t")}[1] == 1
    check(here(*replay), 0)
    assert ids(table) == [1, 2, 3]


def test_rejects_of_a_replay_are_replayed_in_turn_and_into_other_tables(
    table: Lab, adaptive: Command, here: Here
) -> None:
    write(adaptive, "t.csv", HEADER + "1,x,1,a\n2,2,2,b\n3,3\n")
    check(load(here, table, "t.csv"), 3)
    table.execute(TABLE.replace(" t ", " u "))
    [first] = adaptive.folder.glob("*.rejected.jsonl")
    for name in ("t", "u"):
        check(here("replay", first.name, "--to", table.url, "--table", name), 3)
        [second] = set(adaptive.folder.glob("*.rejected.jsonl")) - {first}
        second.write_text(second.read_text().replace('"x"', '"7"').replace('"3,3"', '"3,3,3,c"'))
        check(here("replay", second.name, "--to", table.url, "--table", name), 0)
        check(here("replay", second.name, "--to", table.url, "--table", name), 0)
        second.unlink()
    assert (ids(table), ids(table, "u")) == ([1, 2, 3], [1, 3])


def test_a_replay_keeps_the_time_zone(lab: Lab, adaptive: Command, here: Here) -> None:
    write(adaptive, "t.csv", "id,at\nx,2024-07-01 12:00:00\n")
    write(adaptive, "made.csv", "id,at\n")
    check(load(here, lab, "made.csv", "--create", "--types", "id=int64,at=timestamptz"), 0)
    check(load(here, lab, "t.csv", "--timezone", "Europe/Berlin"), 3)
    [file] = adaptive.folder.glob("*.rejected.jsonl")
    file.write_text(file.read_text().replace('"x"', '"1"'))
    check(here("replay", file.name, "--to", lab.url, "--table", "t"), 0)
    [row] = lab.rows("t")
    assert datetime.fromisoformat(str(row["at"])) == datetime(2024, 7, 1, 10, tzinfo=UTC)
