"""A MongoDB for tests: the one the environment names, else a private one on a free port.

Found in this order: `ADAPTIVE_TEST_MONGODB_URL`, a container if those are wanted, `mongod` in PATH, then our
own stand-in, `labs.mongo_wire`. A second stand-in, which is not ours, is a laboratory of its own:
nx-27017 in `.labs/mongodb` speaks MongoDB's protocol over SQLite.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime
from datetime import time as clock_time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from bson import Decimal128
from pymongo import MongoClient

from adaptive.protocols import Sink
from adaptive.rows import Row
from adaptive.sinks import sink_class
from adaptive.testing.proxy import FaultProxy
from labs import containers, mongo_wire

VARIABLE = "ADAPTIVE_TEST_MONGODB_URL"
NX_ADVICE = "lab nx27017: none found; run make"
STAND_IN = Path(__file__).parents[2] / ".labs/mongodb/bin/nx-27017"
LISTENING = re.compile(r"Listening on 127\.0\.0\.1:(\d+)")
DEVIATIONS = {
    "many_rows_with_different_faults_are_isolated": "nx-27017 has no validators",
    "a_row_that_violates_a_check_is_isolated": "nx-27017 has no validators",
    "replace_swaps_at_the_end_and_survives_a_resume": "nx-27017 renames no collection",
    "a_row_without_a_column_to_write_to_is_isolated": "nx-27017 renames no collection",
    **dict.fromkeys(
        (
            "uint64_comes_back_as_it_was",
            "decimal_of_15_digits_comes_back_as_it_was",
            "decimal_of_18_digits_comes_back_as_it_was",
            "decimal_of_38_digits_comes_back_as_it_was",
            "decimal_without_a_fraction_comes_back_as_it_was",
            "struct_comes_back_as_it_was",
            "a_key_of_any_type_is_recognised",
        ),
        "nx-27017 takes no Decimal128",
    ),
    "float64_comes_back_as_it_was": "nx-27017 takes no NaN and no infinity",
    "uuid_comes_back_as_it_was": "nx-27017 forgets the subtype of binary values",
    "ignore_refuses_what_is_no_duplicate": "nx-27017 has no validators",
    "an_upsert_that_violates_a_check_is_refused_alone": "nx-27017 has no validators",
    "a_violated_constraint_is_a_reject_of_its_row": "nx-27017 has no validators",
    "a_replacement_goes_on_with_batches_of_another_size": "nx-27017 renames no collection",
    "a_row_near_the_size_of_a_document_is_written_or_refused_alone": "nx-27017 has a limit of its own",
    **dict.fromkeys(
        ("a_row_whose_key_is_repeated_is_isolated", "many_rows_of_an_arrow_table_are_isolated"),
        "nx-27017 takes half a minute for what it shows in another check",
    ),
    "a_write_at_its_bound_goes_in_and_one_over_it_is_not_cut": "nx-27017 takes minutes for 100,000 rows",
    **dict.fromkeys(
        (
            "hostile_tables_are_just_names",
            "a_hostile_table_is_replaced",
            "a_hostile_ledger_is_just_a_name",
            "ignore_takes_hostile_key_columns",
            "upsert_takes_hostile_key_columns",
        ),
        "nx-27017 takes only [A-Za-z0-9_] in names",
    ),
}
LARGEST = 16 << 20
USERS = "MongoDB is tested without users; its answers to them are played"
# What the sink for MongoDB does not offer.
ABSENT = {
    "transactional": "MongoDB is loaded without transactions: the receipt follows the rows",
    "tables": "MongoDB is loaded without transactions: nothing holds several collections together",
    "keys": "MongoDB is loaded without transactions: keys could not be committed with the rows",
    "create": "a collection takes any columns",
    "missing_rights_are_named_with_what_mends_them": USERS,
    "a_write_without_a_right_is_fatal": USERS,
    "a_wrong_password_is_shown_to_nobody": USERS,
}
# As a CHECK of SQL has it, NULL passes.
VALIDATOR = {
    "$and": [
        {"$or": [{"amount": {"$gt": 0}}, {"amount": None}]},
        {"$or": [{"name": {"$regex": "^[\\s\\S]{0,200}$"}}, {"name": None}]},
    ]
}


class MongoLab:
    """A database of a MongoDB server, reached by sinks through a proxy that can cut them off."""

    def __init__(self, server: str, proxy: FaultProxy) -> None:
        self.database = f"adaptive_{secrets.token_hex(6)}"
        self.client: MongoClient[dict[str, Any]] = MongoClient(
            server, tz_aware=True, uuidRepresentation="standard"
        )
        self.db = self.client[self.database]
        self._proxy = proxy
        through = urlsplit(proxy.through(server))
        self.url = through._replace(path=f"/{self.database}", query=urlsplit(server).query).geturl()
        nx = self.client.admin.command("buildInfo").get("process") == "nx_27017"
        self.name = "nx27017" if nx else "mongo"
        self.deviations: Mapping[str, str] = {**ABSENT, **DEVIATIONS} if nx else ABSENT

    def sink(self, table: str, **options: Any) -> Sink:
        return sink_class(self.url)(self.url, table=table, **options)

    def make_items(self, rows: Sequence[Row] = ()) -> None:
        self.db.command("create", "items", validator=VALIDATOR)
        self.db["items"].create_index("item_id", unique=True)
        if rows:
            self.db["items"].insert_many([dict(row) for row in rows])

    def make_orders(self, *, deferred: bool = False) -> None:
        raise NotImplementedError("collections refer to nothing")

    def drop(self, table: str) -> None:
        self.db[table].drop()

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the documents without `_id`, and of items NULL for a field that is left out."""
        found = [dict(document) for document in self.db[table].find()]
        for row in found:
            row.pop("_id")
        blank: dict[str, Any] = dict.fromkeys(("item_id", "name", "amount")) if table == "items" else {}
        return [{**blank, **row} for row in found]

    def stored(self, kind: pa.DataType, value: Any) -> Any:
        """Return BSON's values: dates and timestamps are moments in UTC, in milliseconds."""
        if isinstance(value, dict):
            return {name: self.stored(kind, one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.stored(kind, one) for one in value]
        if isinstance(value, str) and len(value.encode()) > LARGEST:
            raise ValueError("a document has at most 16 MB")
        if isinstance(value, Decimal):
            if len(value.as_tuple().digits) > 34:
                raise ValueError("Decimal128 has 34 digits")
            return Decimal128(value)
        if isinstance(value, clock_time):
            return value.isoformat()
        if isinstance(value, datetime):
            moment = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
            return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else value

    def stranger(self) -> AbstractContextManager[MongoLab]:
        raise NotImplementedError(USERS)

    def statements(self, text: str) -> list[str]:
        return re.findall(r"db\.grantRolesToUser\(.*\)", text)

    def mend(self, statement: str) -> None:
        raise NotImplementedError(USERS)

    def break_links(self) -> None:
        self._proxy.cut()


@contextmanager
def mongo_lab(server: str) -> Iterator[MongoLab]:
    """Yield a lab with a new database of a server; drop it afterwards."""
    parts = urlsplit(server)
    with FaultProxy(parts.hostname or "127.0.0.1", parts.port or 27017) as proxy:
        lab = MongoLab(server, proxy)
        try:
            yield lab
        finally:
            lab.client.drop_database(lab.database)
            lab.client.close()


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a server."""
    if url := os.environ.get(VARIABLE):
        yield _reachable(url)
    elif containers.wanted():
        with containers.container("mongo", lambda url: MongoClient(url).admin.command("ping")) as url:
            yield _reachable(url)
    elif mongod := shutil.which("mongod"):
        port = _free_port()
        with _running(mongod, "--bind_ip", "127.0.0.1", "--port", str(port), "--dbpath"):
            yield f"mongodb://127.0.0.1:{port}/?directConnection=true"
    else:
        with mongo_wire.serving() as url:
            yield url


@contextmanager
def nx_server() -> Iterator[str | None]:
    """Yield the URL of nx-27017, or None where it is not installed."""
    if not STAND_IN.exists():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="adaptive-nx-") as folder:
        log, pid = Path(folder) / "log", Path(folder) / "pid"
        files = ["--log-file", str(log), "--pid-file", str(pid), "--data-dir"]
        with _running(str(STAND_IN), "--host", "127.0.0.1", "-p", "0", *files) as process:
            yield f"mongodb://127.0.0.1:{_port(log, process)}/?directConnection=true"


@contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, whose last argument is a new folder, until the end."""
    with tempfile.TemporaryDirectory(prefix="adaptive-mongo-", ignore_cleanup_errors=True) as folder:
        quiet = subprocess.DEVNULL
        with subprocess.Popen([*command, folder], stdout=quiet, stderr=quiet) as process:
            try:
                yield process
            finally:
                process.terminate()


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    """Return the port that the stand-in took, once it says so."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and (found := LISTENING.search(log.read_text())):
            return int(found[1])
        time.sleep(0.02)
    raise RuntimeError(f"nx-27017 does not listen: {log.read_text() if log.exists() else 'no log'}")


def _reachable(server: str) -> str:
    """Return a server's URL with the options that a client behind a proxy and in another database needs.

    Raises ValueError for one that no proxy can stand before.
    """
    parts = urlsplit(server)
    if parts.scheme != "mongodb" or "," in parts.netloc:
        raise ValueError(f"{VARIABLE} has to be mongodb:// with one host: faults are put before it")
    options = [option for option in parts.query.split("&") if option]
    known = {option.partition("=")[0].lower() for option in options}
    if "directconnection" not in known:
        options.append("directConnection=true")
    if parts.username and "authsource" not in known:
        options.append(f"authSource={parts.path[1:] or 'admin'}")
    return parts._replace(query="&".join(options), path=parts.path or "/").geturl()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
