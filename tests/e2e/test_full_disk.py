"""A disk that is really full: the load stops with a clear error, and the same command completes it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from labs import Lab, SqliteLab

from adaptive.testing.disks import NoDiskError, SmallDisk
from e2e.conftest import Command, Finished

ROWS = 10_000
MB = 1 << 20
FULL = ("disk is full", "No space left on device")
IDS = "import sqlite3; print([n for n, in sqlite3.connect('x.db').execute('SELECT id FROM t ORDER BY id')])"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "disk").mkdir()
    try:
        made = SmallDisk(40 * MB, tmp_path / "disk")
    except NoDiskError as error:
        pytest.skip(f"small disk: none ({error})")
    with made:
        yield made


@pytest.fixture
def file(adaptive: Command) -> Path:
    """A file of records, every hundredth of them bad."""
    path = adaptive.folder / "t.csv"
    ids = (f"x{n}" if n % 100 == 99 else str(n) for n in range(ROWS))
    path.write_text("id,note\n" + "".join(f"{id_},{'y' * 100}\n" for id_ in ids))
    return path


GOOD = [n for n in range(ROWS) if n % 100 != 99]
BAD = {n + 1 for n in range(ROWS) if n % 100 == 99}  # records count from 1


def on(disk: SmallDisk, adaptive: Command, *arguments: str) -> Finished:
    """Run the command where it sees the disk, in its folder."""
    command = disk.command([sys.executable, "-m", "adaptive", *arguments])
    done = subprocess.run(command, capture_output=True, text=True, env=adaptive.environment, check=False)
    return Finished(done.returncode, done.stdout, done.stderr)


def stopped(done: Finished) -> bool:
    """Say whether a load ended for want of room, as one that can be repeated."""
    return done.code == 1 and any(reason in done.err for reason in FULL) and "Traceback" not in done.err


def dead(folder: Path) -> list[int]:
    """Return the records among the dead letters of a load, those that an attempt left behind, too."""
    [letters] = folder.glob("*.rejected.jsonl")
    return [json.loads(line)["position"]["record"] for line in letters.read_text().splitlines()[1:]]


@pytest.mark.parametrize(("batch", "free"), [("500", 150_000), ("adaptive", 600_000), ("500", 900_000)])
def test_a_sqlite_database_on_a_full_disk_is_completed_when_there_is_room(
    batch: str, free: int, disk: SmallDisk, file: Path, adaptive: Command
) -> None:
    command = [
        "load",
        str(file),
        "--to",
        "sqlite:///x.db",
        "--create",
        "--types",
        "id=int64",
        "--batch",
        batch,
    ]
    disk.fill(free)
    for _ in range(2):  # repeating it in vain costs nothing
        done = on(disk, adaptive, *command)
        assert stopped(done), done
        assert free < 900_000 or "; the same command resumes the load" in done.err  # it had begun
    disk.clear()
    done = on(disk, adaptive, *command)
    assert done.code == 3, done
    found = subprocess.run(
        disk.command([sys.executable, "-c", IDS]), capture_output=True, text=True, check=True
    )
    assert json.loads(found.stdout) == GOOD
    assert set(dead(disk.root)) == BAD
    done = on(disk, adaptive, *command)
    assert (done.code, "already loaded" in done.out) == (0, True), done


def test_a_database_that_cannot_even_be_made_is_refused(
    disk: SmallDisk, file: Path, adaptive: Command
) -> None:
    command = ["load", str(file), "--to", "sqlite:///x.db", "--create", "--types", "id=int64"]
    disk.fill(free=0)
    done = on(disk, adaptive, *command)
    assert done.code in (1, 2), done
    assert any(reason in done.err for reason in FULL), done
    disk.clear()
    assert on(disk, adaptive, *command).code == 3


@pytest.mark.parametrize("free", [4_096, 20_480])
def test_dead_letters_on_a_full_disk_stop_the_load_and_none_is_missing_afterwards(
    free: int, disk: SmallDisk, file: Path, lab: Lab, adaptive: Command
) -> None:
    lab.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, note TEXT)")
    command = ["load", str(file), "--to", lab.url, "--batch", "500"]
    disk.fill(free)
    done = on(disk, adaptive, *command)
    assert stopped(done), done
    assert "cannot write dead letters to" in done.err
    assert len(lab.rows("t")) < len(GOOD)
    disk.clear()
    done = on(disk, adaptive, *command)
    assert done.code == 3, done
    assert sorted(row["id"] for row in lab.rows("t")) == GOOD
    assert set(dead(disk.root)) == BAD


def test_staging_files_on_a_full_disk_stop_the_load_and_are_gone_afterwards(
    disk: SmallDisk, file: Path, tmp_path: Path, adaptive: Command
) -> None:
    lab = SqliteLab(tmp_path / "x.db")
    lab.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, note TEXT)")
    adaptive.environment["TMPDIR"] = str(disk.folder)
    command = ["load", str(file), "--to", lab.url, "--batch", "5000"]
    disk.fill(free=100_000)
    done = on(disk, adaptive, *command)
    assert stopped(done), done
    assert not list(disk.root.glob("adaptive*"))
    disk.clear()
    assert on(disk, adaptive, *command).code == 3
    assert sorted(row["id"] for row in lab.rows("t")) == GOOD
    assert not list(disk.root.glob("adaptive*"))


def test_idempotency_keys_on_a_full_disk_stop_the_load(
    disk: SmallDisk, file: Path, tmp_path: Path, adaptive: Command
) -> None:
    lab = SqliteLab(tmp_path / "x.db")
    lab.execute("CREATE TABLE t (id BIGINT, note TEXT)")
    keys = ["--idempotency-key", "id", "--idempotency-store", "keys.db"]
    command = ["load", str(file), "--to", lab.url, *keys, "--batch", "2000"]
    disk.fill(free=200_000)
    done = on(disk, adaptive, *command)
    assert stopped(done), done
    disk.clear()
    assert on(disk, adaptive, *command).code == 3
    found = sorted(row["id"] for row in lab.rows("t"))
    assert sorted(set(found)) == GOOD
    assert len(found) <= len(GOOD) + 2_000  # at least once: the batch whose keys had no room may come again


def test_a_pipeline_on_a_full_disk_says_so_and_what_was_flushed_is_there(
    disk: SmallDisk, adaptive: Command
) -> None:
    program = (
        "import adaptive, sqlite3\n"
        "sqlite3.connect('x.db').execute('CREATE TABLE t (id INTEGER, note TEXT)')\n"
        "flushed = 0\n"
        "try:\n"
        "    with adaptive.Pipeline('sqlite:///x.db', table='t') as pipeline:\n"
        "        for number in range(100_000):\n"
        "            pipeline.put({'id': number, 'note': 'y' * 100})\n"
        "            if number % 1_000 == 999:\n"
        "                pipeline.flush()\n"
        "                flushed = number + 1\n"
        "except adaptive.SinkError as error:\n"
        "    print(error, flushed)\n"
    )
    disk.fill(free=MB)
    command = disk.command([sys.executable, "-c", program])
    done = subprocess.run(command, capture_output=True, text=True, env=adaptive.environment, check=False)
    assert "disk is full" in done.stdout, done
    flushed = int(done.stdout.split()[-1])
    disk.clear()
    found = subprocess.run(
        disk.command([sys.executable, "-c", IDS]), capture_output=True, text=True, check=True
    )
    written = json.loads(found.stdout)
    assert written == list(range(len(written)))
    assert 0 < flushed <= len(written) < 100_000


# ---- outputs that take nothing: /dev/full


def loaded(adaptive: Command, arguments: str, redirection: str = "") -> Finished:
    (adaptive.folder / "t.csv").write_text("id\n1\n2\n")
    command = (
        f"{sys.executable} -m adaptive load t.csv --to sqlite:///x.db --create {arguments} {redirection}"
    )
    done = subprocess.run(
        ["sh", "-c", command], cwd=adaptive.folder, env=adaptive.environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "redirection", "said"),
    [
        ("--metrics-json /dev/full", "", "the metrics cannot be written: /dev/full: No space left on device"),
        ("", ">/dev/full", "No space left on device"),
    ],
)
def test_a_report_that_cannot_be_written_is_an_error_but_the_rows_are_there(
    arguments: str, redirection: str, said: str, adaptive: Command
) -> None:
    done = loaded(adaptive, arguments, redirection)
    assert done.code == 1, done
    assert said in done.err
    assert "Traceback" not in done.err
    rows = SqliteLab(adaptive.folder / "x.db").rows("t")
    assert sorted(row["id"] for row in rows) == [1, 2]
    done = loaded(adaptive, "")
    assert done.code == 0
    assert "already loaded" in done.out


def test_dead_letters_need_a_file(adaptive: Command) -> None:
    done = loaded(adaptive, "--dead-letters /dev/full")
    assert done.code == 2, done
    assert "/dev/full: dead letters need a file" in done.err
    assert not (adaptive.folder / "x.db").exists()


def test_a_log_that_cannot_be_written_does_not_stop_a_load(adaptive: Command) -> None:
    assert loaded(adaptive, "--log-level debug", "2>/dev/full").code == 0
    assert len(SqliteLab(adaptive.folder / "x.db").rows("t")) == 2
