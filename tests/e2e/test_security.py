"""Attacks by names, values, files and folders: nothing is executed, filled, followed or betrayed."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from labs import Lab, postgres

import adaptive as library
from adaptive.config import Settings
from adaptive.dead_letters import DeadLetter, DeadLetterFile
from adaptive.dialect import Dialect
from adaptive.errors import AdaptiveError, SourceError, UsageError
from adaptive.rows import Column, Field, Position
from adaptive.sources import files, open_source
from adaptive.urls import shown
from e2e.conftest import Command

HOSTILE = (
    "t; DROP TABLE t; --", "a\"b", "a'b", "a`b", "a]b", "a%sb", "a%(x)sb", "a{b}", "$1", "a\\b", "a:b", "a?b",
    "a\nb", "\x1b[2J", "[bold]", "\u202egnp", "select", " ", "\U0001f600", "x" * 60,
)  # fmt: skip


# ---- names and values


def test_hostile_names_of_columns_and_values_are_only_names_and_values(lab: Lab, tmp_path: Path) -> None:
    names = [name for name in HOSTILE if name != " "]
    row = dict(zip(names, reversed(names), strict=True))
    result = library.load([row], lab.url, table="t", create=True)
    assert result.written == 1
    assert lab.rows("t") == [row]


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != " "])
def test_hostile_names_of_tables_and_loads_are_only_names(name: str, lab: Lab, adaptive: Command) -> None:
    (adaptive.folder / "t.csv").write_text("id\n1\n")
    quoted = '"' + name.replace('"', '""') + '"'
    load_id = "".join(char if char.isprintable() and char != "/" else "_" for char in name)
    done = adaptive("load", "t.csv", "--to", lab.url, "--table", quoted, "--create", "--load-id", load_id)
    assert done.code == 0, done
    assert lab.rows(name) == [{"id": 1}]
    assert [row["load"] for row in lab.rows("_adaptive_loads")] == [load_id]
    assert "\x1b" not in done.out
    assert len(done.out.splitlines()) > 1


@pytest.mark.parametrize("name", ["a; DROP TABLE t", 'a"b', "x'y"])
def test_a_hostile_name_of_the_ledger_is_only_a_name_or_refused(name: str, lab: Lab) -> None:
    lab.execute("CREATE TABLE t (id BIGINT)")
    try:
        library.load([{"id": 1}], lab.url, table="t", ledger=name)
    except UsageError:
        assert lab.rows("t") == []
    else:
        assert lab.rows("t") == [{"id": 1}]
        assert len(lab.rows(f"{name}_loads")) == 1


# ---- what is shown


def test_a_terminal_is_not_steered_by_names_or_values(adaptive: Command) -> None:
    name = "\x1b[31mred[bold]\n\u202e.csv"
    (adaptive.folder / name).write_text("id\n\x1b]0;title\x07\n")
    with closing(sqlite3.connect(adaptive.folder / "x.db")) as link:
        link.execute("CREATE TABLE t (id INTEGER)")
    done = adaptive("load", name, "--to", "sqlite:///x.db", "--table", "t")
    assert done.code == 3, done
    assert "\\x1b[31mred[bold]\\n\\u202e.csv" in done.out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.out)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", adaptive("status", "sqlite:///x.db").out)


def test_a_file_name_is_no_markup_of_the_progress_display() -> None:
    from adaptive.progress import Display

    progress = Display()._progress
    progress.add_task("[/x][bold]a")
    assert str(progress.columns[1](progress.tasks[0])) == "[/x][bold]a"
    assert shown("a\tb\nc\x1b", keep="\n") == "a\\tb\nc\\x1b"


# ---- files that fill memory


def read_all(path: Path, **dialect: Any) -> tuple[int, int, str]:
    """Return how many rows and rejects a source gives, and the error that ended it."""
    source = open_source(str(path), Dialect(**dialect))
    rows = rejects = 0
    try:
        fields = [Field(name, Column(name, pa.string())) for name in source.schema().names]
        for raw in source.read():
            chunk = source.parse(raw, fields)
            rows, rejects = rows + len(chunk), rejects + len(chunk.rejects)
    except (SourceError, UsageError) as error:
        return rows, rejects, str(error)
    return rows, rejects, ""


ENDLESS = {
    "line.csv": (b"a,b\n1,2\n3,", b"x", "line 3"),
    "quote.csv": (b'a,b\n1,2\n3,"', b"x,y\n", "line 3"),
    "line.jsonl": (b'{"a":1}\n{"a":"', b"x", "line 2"),
    "text.xml": (b"<r><o><a>1</a></o><o><a>", b"x", "byte 18"),
    "attribute.xml": (b'<r><o><a>1</a></o><o a="', b"x", "byte 18"),
    "comment.xml": (b"<r><o><a>1</a></o><!--", b"x", "byte 18"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_record_without_end_stops_the_load_and_says_where_and_what_to_set(
    name: str, tmp_path: Path
) -> None:
    begin, more, place = ENDLESS[name]
    (tmp_path / name).write_bytes(begin + more * (12_000_000 // len(more)))
    rows, _, error = read_all(tmp_path / name, max_record=1)
    assert rows == 1
    assert name in error
    assert place in error
    assert "longer than 1 MB" in error
    assert "--max-record" in error


def test_a_record_of_any_size_is_read_if_it_is_let_in(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(b'{"a":"' + b"x" * 3_000_000 + b'"}\n')
    assert read_all(tmp_path / "t.jsonl", max_record=4) == (1, 0, "")
    for wrong in (0, 2_000):
        with pytest.raises(UsageError, match="max-record"):
            Dialect(max_record=wrong)


def test_memory_stays_bounded_by_an_endless_record(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("wb") as file:
        file.write(b"a,b\n1,2\n3,")
        for _ in range(200):
            file.write(b"x" * (1 << 20))
    code = (
        "import re, sys; sys.path.insert(0, sys.argv[2]); from e2e.test_security import read_all;"
        "from pathlib import Path; print(read_all(Path(sys.argv[1])));"
        # Not ru_maxrss: a process inherits the peak of the one that started it.
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "t.csv"), str(Path(__file__).parent.parent)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    found, kilobytes = done.stdout.splitlines()
    assert "longer than 64 MB" in found
    assert int(kilobytes) < 600_000


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
@pytest.mark.parametrize(
    ("name", "begin", "more"),
    [("t.csv", b"a\n1\n", b"\n"), ("t.jsonl", b'{"a":1}\n', b"\n"), ("t.xml", b"<r><o><a>1</a></o>", b" ")],
    ids=["csv", "jsonl", "xml"],
)
def test_a_decompression_bomb_stops_the_load(
    name: str, begin: bytes, more: bytes, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    bomb = tmp_path / name
    bomb.write_bytes(compress(begin + more * 70_000_000))
    rows, _, error = read_all(bomb)
    assert rows == 1
    assert bomb.name in error
    assert "--max-ratio is 200" in error


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_a_bomb_of_many_small_members_stops_the_load(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_bytes(compress(b"a\n1\n") + compress(b"\n" * 1_000_000) * 70)
    rows, _, error = read_all(tmp_path / "t.csv")
    assert rows == 1
    assert "--max-ratio is 200" in error


@pytest.mark.parametrize(
    ("compress", "ratio"), [(gzip.compress, 2_000), (zstd, 200_000)], ids=["gzip", "zstd"]
)
def test_content_may_be_compressed_as_well_as_the_user_says(
    compress: Callable[[bytes], bytes], ratio: int, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_bytes(compress(b"a\n1\n" + b"\n" * 70_000_000))
    assert read_all(tmp_path / "t.csv", max_ratio=ratio) == (1, 0, "")


def test_little_content_may_be_compressed_as_well_as_it_can(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a\n1\n" + b"\n" * 10_000_000, mtime=0))
    assert read_all(tmp_path / "t.csv.gz") == (1, 0, "")


COUNT = 5_000
ATTACKS = {  # each took minutes, or grew with the square of the count, without a bound
    "unclosed": (b"<o><a>1</a>" * COUNT, COUNT),
    "comments": (b"<o><!--" * COUNT, COUNT),
    "sections": (b"<o><a><![CDATA[</a></o>" * COUNT, COUNT),
    "instructions": (b"<o><?x" * COUNT, COUNT),
    "depth": (b"<o>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</o>", 1),
    "namespaces": (b"<o " + b" ".join(b'xmlns:n%d="u"' % n for n in range(COUNT)) + b"/>", 1),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_on_the_xml_reader_cost_only_their_records(name: str, tmp_path: Path) -> None:
    text, rejects = ATTACKS[name]
    (tmp_path / "mapping.yaml").write_text("tables: {o: {row: /r/o, fields: {a: {path: a}}}}")
    (tmp_path / "t.xml").write_bytes(b"<r><o><a>1</a></o>" + text + b"</r>")
    found = read_all(tmp_path / "t.xml", mapping=str(tmp_path / "mapping.yaml"))
    assert found in ((1, rejects, ""), (2, 0, ""))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", ",".join(f"c{n}" for n in range(5_000)) + "\n"),
        ("t.jsonl", "".join(f'{{"c{n}":1}}\n' for n in range(5_000))),
        ("t.xml", "<r><o " + " ".join(f'c{n}=""' for n in range(5_000)) + "/></r>"),
    ],
)
def test_more_columns_than_any_table_has_are_refused(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    error = read_all(tmp_path / name)[2]
    assert f"{name}: it has 5,000 columns or more; at most {files.MAX_COLUMNS:,}" in error


# ---- files and folders of others


def letter() -> DeadLetter:
    return DeadLetter(Position(0, 0), "value", "x is no number", file="t.csv")


def test_dead_letters_follow_no_link_and_wait_for_no_pipe(tmp_path: Path) -> None:
    victim, link, pipe = tmp_path / "victim", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(victim)
    os.mkfifo(pipe)
    with pytest.raises(AdaptiveError, match="symbolic link"):
        DeadLetterFile(str(link), {"load": "x"}).append([letter()])
    with pytest.raises(AdaptiveError, match="it is no file"):
        DeadLetterFile(str(pipe), {"load": "x"}).append([letter()])
    assert not victim.exists()
    victim.write_text("precious\n")
    with pytest.raises(AdaptiveError, match="not a dead letter file"):
        DeadLetterFile(str(link), {"load": "x"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user")
def test_dead_letters_are_not_written_to_a_file_that_another_user_made(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").touch()
    (tmp_path / "t.jsonl").chmod(0o666)
    os.chown(tmp_path / "t.jsonl", 65534, 65534)
    with pytest.raises(AdaptiveError, match="belongs to another user"):
        DeadLetterFile(str(tmp_path / "t.jsonl"), {"load": "x"}).append([letter()])


def test_files_with_records_are_for_their_owner_only(adaptive: Command) -> None:
    (adaptive.folder / "t.csv").write_text("id\nx\n")
    with closing(sqlite3.connect(adaptive.folder / "x.db")) as link:
        link.execute("CREATE TABLE t (id INTEGER)")
    assert adaptive("load", "t.csv", "--to", "sqlite:///x.db").code == 3
    [file] = adaptive.folder.glob("*.rejected.jsonl")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# ---- certificates


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A PostgreSQL that takes TLS connections only, with a certificate of its own for localhost."""
    directory, openssl = postgres.binaries(), shutil.which("openssl")
    if directory is None or openssl is None:
        pytest.skip("needs PostgreSQL's programs and openssl (apt-get install postgresql openssl)")
    with tempfile.TemporaryDirectory(prefix="adaptive-tls-") as name:
        folder = Path(name)
        certificate, key = folder / "server.crt", folder / "server.key"
        subprocess.run(
            [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        key.chmod(0o600)
        if os.geteuid() == 0:
            for path in (folder, certificate, key):
                shutil.chown(path, "postgres")
        port, files_ = postgres._free_port(), folder / "data"
        postgres._run(
            directory / "initdb", "-D", files_, "-U", "adaptive", "-A", "trust", "-N", folder=folder
        )
        (files_ / "pg_hba.conf").write_text("hostssl all all all trust\n")
        options = (
            f"-c listen_addresses=localhost -p {port} -c unix_socket_directories= -c fsync=off "
            f"-c ssl=on -c ssl_cert_file={certificate} -c ssl_key_file={key}"
        )
        control = (directory / "pg_ctl", "-D", files_, "-w")
        postgres._run(*control, "-l", folder / "log", "-o", options, "start", folder=folder)
        try:
            yield f"postgresql://adaptive@localhost:{port}/postgres", certificate
        finally:
            postgres._run(*control, "-m", "immediate", "stop", folder=folder)


def test_postgresql_checks_certificates_as_the_url_says(tls_server: tuple[str, Path], tmp_path: Path) -> None:
    url, certificate = tls_server
    known, other = f"&sslrootcert={certificate}", tmp_path / "other.crt"
    other.touch()
    refused = {
        "sslmode=disable": "no encryption",
        "sslmode=verify-full&sslrootcert=system": "certificate verify failed",
        f"sslmode=verify-full&sslrootcert={other}": "root certificate",
    }
    for options, said in refused.items():
        with pytest.raises(AdaptiveError, match=said):
            library.load([{"id": 1}], f"{url}?{options}", table="refused", create=True)
    wrong_name = url.replace("localhost", "127.0.0.1") + f"?sslmode=verify-full{known}"
    with pytest.raises(AdaptiveError, match="does not match"):
        library.load([{"id": 1}], wrong_name, table="refused", create=True)
    for number, options in enumerate(("sslmode=require", f"sslmode=verify-full{known}", "")):
        result = library.load([{"id": number}], f"{url}?{options}", table=f"t{number}", create=True)
        assert result.written == 1


@pytest.mark.parametrize("load_id", ["../../x", "/tmp/x", "a\0b", "a\nb", "\x1b[2J"])
def test_a_load_id_that_cannot_be_a_file_name_is_refused(load_id: str) -> None:
    with pytest.raises(UsageError, match="load id"):
        Settings(load_id=load_id)
