"""Write rows into a PostgreSQL table with COPY, exactly once.

This file stands alone: it needs psycopg 3, and for Arrow tables pyarrow and pgpq. Copied into
another project it works as it is:

    with PostgresSink("postgresql://localhost/market", table="orders") as sink:
        sink.begin()
        sink.write([{"order_id": 1, "price": "9.99"}])
        sink.commit()

Each transaction of a load starts with its receipt in a ledger beside the target table, inserted only
while the load's splits still belong to this run; so a batch begun again is recognised, and a
run that was replaced cannot commit. Rows go in by binary COPY where every value is known to arrive
unchanged, otherwise by text COPY, where the server itself reads or refuses each value.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from hashlib import sha256
from importlib.util import find_spec
from operator import itemgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, LiteralString, NamedTuple, Self
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    import pyarrow as pa

    Feed = Callable[[psycopg.Copy], None]
    Verdict = Literal["retry", "in_doubt", "reject", "fatal", "taken_over"]

MODES = ("append", "ignore", "upsert", "replace")
# Keepalives and the idle limit end a half-open attempt, whose locks the next attempt waits for, after about
# a minute. A batch is idle inside its transaction only while dead letters are synced: milliseconds.
SESSION = """SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO', false),
    set_config('IntervalStyle', 'postgres', false), set_config('tcp_keepalives_idle', '30', false),
    set_config('tcp_keepalives_interval', '10', false), set_config('tcp_keepalives_count', '3', false),
    set_config('idle_in_transaction_session_timeout', '60s', false),
    set_config('synchronous_commit',
        replace(current_setting('synchronous_commit'), 'off', 'on'), false)"""
DEFAULTS = {"connect_timeout": "10", "application_name": "adaptive", "keepalives_idle": "30",
            "keepalives_interval": "10", "keepalives_count": "3"}  # fmt: skip
# libpq keeps the SQLSTATE of a failed connection to itself, so that here, and only here, the text has to do.
CONNECT_FATAL = re.compile(
    r"authentication|no password|does not exist|pg_hba\.conf|not permitted|permission denied|certificate|SSL"
)
VERDICTS: dict[str, Verdict] = {
    "08": "in_doubt", "25P03": "in_doubt", "25P04": "in_doubt", "40003": "in_doubt", "57P": "in_doubt",
    "40": "retry", "53": "retry", "55P03": "retry", "57014": "retry",
    "21": "reject", "22": "reject", "23": "reject", "44": "reject", "54000": "reject", "P0": "reject",
    "08P01": "fatal", "22P03": "fatal", "53100": "fatal",
}  # by SQLSTATE or its longest known prefix; everything else is fatal  # fmt: skip
# What the server says to bytes it cannot read. It may also be the data (54000: a value too long for an
# index): the same rows are then sent as text, and what fails there is the data.
UNREADABLE = {"XX000", "22P03", "54000", "08P01"}

# Type name → (OID for psycopg's binary dumpers, how its values are checked first). psycopg wraps
# integers out of range (2**40 → 0 in int4), takes any truth value for bool and cuts the time off a date.
ROW_TYPES: dict[str, tuple[int, str | type | None]] = {
    "bool": (16, bool), "int2": (21, "h"), "int4": (23, "i"), "int8": (20, None), "float4": (700, "f"),
    "float8": (701, None), "numeric": (1700, None), "text": (25, None), "varchar": (25, None),
    "bpchar": (25, None), "enum": (25, None), "date": (1082, date), "timestamp": (1114, None),
    "timestamptz": (1184, None), "bytea": (17, None), "uuid": (2950, None), "jsonb": (3802, None),
    "json": (114, None),
}  # fmt: skip
# Text in Arrow that pgpq's encoder writes as the server expects it.
STRING_TYPES = {"text", "varchar", "bpchar", "name", "enum", "json", "jsonb"}
# pgpq holds the GIL and returns one bytes object per piece: of 2k, 8k, 16k and 64k rows 16k was the fastest.
PIECE_ROWS, PIECE_BYTES = 16_384, 8_000_000

CATALOGUE = """
    WITH RECURSIVE base AS (
        SELECT attnum, atttypid AS type, atttypmod AS mod, attnotnull AS required,
            atthasdef OR attidentity <> '' AS filled
        FROM pg_attribute
        WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
      UNION ALL
        SELECT attnum, typbasetype, greatest(mod, typtypmod), required OR typnotnull,
            filled OR typdefault IS NOT NULL
        FROM base JOIN pg_type ON oid = type WHERE typtype = 'd'
    )
    SELECT a.attname,
        CASE WHEN t.typtype = 'e' THEN 'enum' WHEN n.nspname = 'pg_catalog' THEN t.typname ELSE '' END,
        mod, NOT required, filled, a.attidentity,
        EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary
            AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
    FROM base JOIN pg_attribute a ON a.attrelid = %(oid)s AND a.attnum = base.attnum
        JOIN pg_type t ON t.oid = base.type JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype <> 'd' ORDER BY a.attnum"""
UNIQUE = """
    SELECT 1 FROM pg_index i WHERE indrelid = %s AND indisunique AND indimmediate AND indpred IS NULL
        AND indexprs IS NULL AND %s = (
            SELECT array_agg(attname::text ORDER BY attname::text COLLATE "C") FROM pg_attribute
            WHERE attrelid = indrelid AND attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1]))"""
LEDGER = """
    CREATE TABLE IF NOT EXISTS {loads} (
        load text PRIMARY KEY, fingerprint text, source text, mapping text, target text, mode text,
        state text, rows bigint, rejected bigint, started_at timestamptz, finished_at timestamptz);
    CREATE TABLE IF NOT EXISTS {splits} (load text, split int, owner text, PRIMARY KEY (load, split));
    CREATE TABLE IF NOT EXISTS {ledger} (
        load text, batch text, segments jsonb NOT NULL, rows bigint, rejected jsonb NOT NULL,
        committed_at timestamptz, PRIMARY KEY (load, batch));"""
# One statement, so that nothing comes between the check and the receipt. In READ COMMITTED, FOR SHARE
# waits for a takeover under way and then checks the owner again in the row as that left it; ON CONFLICT
# waits for an earlier attempt at the same batch.
RECEIPT = """
    WITH owned AS (
        SELECT FROM {splits} WHERE load = %(load)s AND split = ANY (%(splits)s::int[]) AND owner = %(owner)s
        ORDER BY split FOR SHARE
    ), replaced AS (DELETE FROM {ledger} WHERE load = %(load)s AND batch = %(replaces)s
    ), receipt AS (
        INSERT INTO {ledger} SELECT %(load)s, %(batch)s, %(segments)s, %(rows)s, '[]', now()
        WHERE (SELECT count(*) FROM owned) = cardinality(%(splits)s::int[])
        ON CONFLICT DO NOTHING RETURNING 1
    ) SELECT (SELECT count(*) FROM owned), (SELECT count(*) FROM receipt)"""


class OwnershipLostError(Exception):
    """Another run has taken the load's splits over; nothing of this run can be committed."""


class ConnectError(psycopg.OperationalError):
    """Connecting failed, and so nothing was applied. `fatal` says that trying again will not help."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error).strip())
        self.fatal = error.sqlstate is None and bool(CONNECT_FATAL.search(str(error)))


class ValueRefusedError(psycopg.DataError):
    """A Python value that its column cannot take; `index` is its row."""

    def __init__(self, index: int, reason: object) -> None:
        super().__init__(f"row {index} of the write: {reason}")
        self.index = index


class Column(NamedTuple):
    """A column as the catalogue has it, domains resolved; `type` is "" if it is not a built-in one."""

    name: str
    type: str
    modifier: int
    nullable: bool
    filled: bool
    identity: str
    key: bool

    @property
    def max_length(self) -> int | None:
        """Return the longest text it takes, in characters."""
        if self.type in ("varchar", "bpchar") and self.modifier >= 0:
            return self.modifier - 4
        return {"name": 63, "char": 1}.get(self.type)

    def arrow(self) -> pa.DataType | None:
        """Return the Arrow type whose binary form is known to arrive unchanged, if there is one."""
        import pyarrow as pa

        if self.type in STRING_TYPES:
            return pa.string()
        if self.type == "numeric":
            precision, scale = (self.modifier - 4) >> 16, (self.modifier - 4) & 0x7FF
            known = self.modifier >= 0 and max(precision, scale) <= 38  # a negative scale is above 1023
            return pa.decimal128(max(precision, scale), scale) if known else None
        # timestamp(3) would round what is finer, so its values have to come in milliseconds
        unit = "us" if not 0 <= self.modifier <= 3 else "ms" if self.modifier else "s"
        return {
            "bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(),
            "float4": pa.float32(), "float8": pa.float64(), "date": pa.date32(),
            "timestamp": pa.timestamp(unit), "timestamptz": pa.timestamp(unit, "UTC"), "bytea": pa.binary(),
            "uuid": pa.uuid(), "time": pa.time64("us") if unit == "us" else pa.time32(unit),
        }.get(self.type)  # fmt: skip


class Table(NamedTuple):
    """The target table; `oid` is 0 and there are no columns while it does not exist."""

    schema: str
    name: str
    oid: int = 0
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()

    def __str__(self) -> str:
        return sql.Identifier(self.schema, self.name).as_string()


class PostgresSink:
    """Write one PostgreSQL table. One instance per thread; see `Sink` for the order of calls.

    `table` may be `schema.table`; in `"a.b"`, quoted, the dot belongs to the name. Without a table there
    is only `loads`, of every table of the database, and `doctor`. `key` names the
    columns that decide what `ignore` and `upsert` take for the same row (default: the primary key).
    `ledger` names the table of receipts; those of loads and splits are named after it.

    Raises ValueError if an argument cannot be right.
    """

    capabilities: frozenset[Any] = frozenset(
        (*MODES, "transactional", "create", *(["arrow"] if find_spec("pyarrow") else []))
    )
    max_rows: int | None = None
    max_bytes: int | None = None
    max_writers: int | None = None

    def __init__(
        self,
        url: str,
        *,
        table: str | None = None,
        mode: str = "append",
        key: str | Sequence[str] = (),
        ledger: str = "_adaptive_ledger",
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; known are {', '.join(MODES)}")
        self._conninfo = _parse_url(url)
        self._path = _parse_table(table)
        self._mode, self._key = mode, (key,) if isinstance(key, str) else tuple(key)
        self._ledger = ledger
        self._link: psycopg.Connection[Any] | None = None
        self._known: Table | None = None
        self._receipt: tuple[str, str] | None = None
        self._destination: tuple[str, ...] = ()  # where COPY writes; empty outside a transaction
        self._copied = ""  # the name the server calls it by in its errors
        self._dirty = False  # something was written since the savepoint
        self._emptied = False  # `replace` without a load empties the table in its first transaction
        self._immediate = False  # deferred constraints are checked by each write, not by commit
        self._as_text: set[tuple[str, ...]] = set()  # columns that binary COPY failed for
        self.doomed = False
        self.duplicates = 0

    # ---- connection

    def open(self) -> None:
        """Connect. Raises ConnectError."""
        if self._link is not None and not self._link.closed:
            return
        self._destination, self.doomed = (), False
        try:
            # pgbouncer and ALTER TABLE both break server-side prepared statements; ours are few
            self._link = psycopg.connect(**self._conninfo, autocommit=True, prepare_threshold=None)
            self._link.execute(SESSION)
        except psycopg.Error as error:
            self.close()
            raise ConnectError(error) from None  # the original carries the password

    def close(self) -> None:
        """Disconnect, rolling back what is open. Repeating it is fine; raises nothing."""
        self.rollback()
        if self._link is not None:
            self._link.close()
            self._link = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- loads

    def prepare(self, load: Mapping[str, Any], schema: pa.Schema | None = None) -> Sequence[tuple[Any, ...]]:
        """Make ready for a load, under an advisory lock, and return the table's columns.

        Raises LookupError if the table or a unique index for `key` is missing, PermissionError if
        a right is missing, ValueError if `schema` or the mode does not fit the table.
        """
        self._known = None
        try:
            table = self._locate()
            if not table.oid and schema is None:
                raise LookupError(f"table {table} does not exist; create it first (or load with --create)")
            if missing := self._missing_rights(table):
                raise PermissionError(f"rights are missing on {table}; run: {'; '.join(missing)}")
            self._create_ledger(table)
            with self._connection.transaction():
                self._lock(table)
                if not self._locate().oid and schema is not None:
                    self._create(table, schema)
                self._start(load)
        except psycopg.errors.InsufficientPrivilege as error:
            raise PermissionError(str(error)) from error
        return [self._describe(column) for column in self._table.columns]

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Return the columns that binary COPY cannot take from Arrow: they make the table load as text."""
        return tuple(column.name for column in self._table.columns if column.arrow() is None)

    def loads(self) -> list[dict[str, Any]]:
        """Return the loads of this table, or of all without one, oldest first; [] without a ledger."""
        if self._path and not self._has_ledger():
            return []
        if self._path:
            found = self._loads(self._table.schema, str(self._table))
        else:
            found = [row for schema in self._ledgers() for row in self._loads(schema, None)]
        return sorted(found, key=lambda row: (row["started_at"], row["load"]))

    def _loads(self, schema: str, target: str | None) -> list[dict[str, Any]]:
        query = """SELECT load, fingerprint, source, mapping, target, mode, state,
                coalesce(rows, (SELECT sum(rows) FROM {ledger} r WHERE r.load = l.load), 0)::bigint AS rows,
                coalesce(rejected, (SELECT sum(jsonb_array_length(rejected)) FROM {ledger} r
                    WHERE r.load = l.load), 0)::bigint AS rejected, started_at, finished_at
            FROM {loads} l WHERE target = %s OR %s::text IS NULL"""
        cursor = self._connection.cursor(row_factory=dict_row)
        names = self._names(schema)
        return cursor.execute(sql.SQL(query).format(**names), [target, target]).fetchall()

    def _ledgers(self) -> list[str]:
        """Return the schemas whose ledger this user may read."""
        query = """SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relname = %s AND relkind = 'r' AND has_table_privilege(c.oid, 'SELECT')"""
        prefix = self._ledger.removesuffix("_ledger")
        return [schema for (schema,) in self._run(query, [f"{prefix}_loads"])]

    def empty(self) -> bool:
        """Return whether the table has no rows; a missing one has none."""
        return not self._locate().oid or self._run("SELECT 1 FROM {target} LIMIT 1").fetchone() is None

    def receipts(self, load: str) -> list[tuple[list[list[int]], int, list[list[int]]]]:
        """Return what is committed of a load: segments, rows, rejected positions; [] without a ledger."""
        if not self._has_ledger():
            return []
        return self._run("SELECT segments, rows, rejected FROM {ledger} WHERE load = %s", [load]).fetchall()

    def finish(self, load: Mapping[str, Any]) -> None:
        """End a load in one transaction: swap `replace` in, compact the receipts, mark it done.

        Repeating it is fine. Raises OwnershipLostError.
        """
        name = load["load"]
        with self._connection.transaction():
            state = self._run("SELECT state FROM {loads} WHERE load = %s FOR UPDATE", [name]).fetchone()
            if state == ("done",):
                return
            owned = "SELECT split FROM {splits} WHERE load = %s AND owner = %s ORDER BY split FOR UPDATE"
            held = {split for (split,) in self._run(owned, [name, load["owner"]])}
            if not held.issuperset(load["splits"]):
                raise OwnershipLostError(f"load {name} was taken over by another run")
            if self._mode == "replace":
                self._swap(name)
            self._run(
                """UPDATE {loads} SET state = 'done', finished_at = now(), (rows, rejected) = (
                    SELECT coalesce(sum(rows), 0), coalesce(sum(jsonb_array_length(rejected)), 0)
                    FROM {ledger} WHERE load = %(load)s) WHERE load = %(load)s""",
                {"load": name},
            )
            self._run("DELETE FROM {ledger} WHERE load = %s AND rejected = '[]'", [name])
            # Without its splits a late batch of this very run finds no owner, and so is refused as well.
            self._run("DELETE FROM {splits} WHERE load = %s", [name])

    def doctor(self) -> list[str]:
        """Return what is found out about server, table and rights, in words; changes nothing."""
        info = self._connection.info
        server = f"PostgreSQL {info.parameter_status('server_version')}"
        found = [f"{server}, database {info.dbname}, user {info.user}"]
        if not self._path:
            return found
        table = self._locate()
        found.append(f"table {table} {'exists' if table.oid else 'does not exist'}")
        found += [f"a right is missing: {grant}" for grant in self._missing_rights(table)]
        if not self._has_ledger():
            found.append(
                f"the ledger will be created by the first load, or beforehand: {self.ddl(table.schema)}"
            )
        return found

    def ddl(self, schema: str) -> str:
        """Return the statements that create the ledger in a schema."""
        return sql.SQL(LEDGER).format(**self._names(schema)).as_string()

    # ---- transactions

    def begin(self, receipt: Mapping[str, Any] | None = None) -> bool:
        """Open a transaction whose first statement is the receipt; False if it is already committed.

        Raises OwnershipLostError if another run has taken over one of its splits.
        """
        name = self._table.name
        if receipt is not None and self._mode == "replace":
            name = self._staging(receipt["load"])
        self.doomed = self._dirty = False
        try:
            owned, inserted, expected = self._begin(receipt)
        except BaseException:
            self.rollback()
            raise
        self._destination = (self._table.schema, name)
        self._receipt = (receipt["load"], receipt["batch"]) if receipt is not None else None
        if owned == expected and inserted:
            return True
        self.rollback()
        if owned != expected:
            raise OwnershipLostError("the load was taken over by another run")
        return False

    def write(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, str, str]]:
        """Write mappings of column to value, all or nothing; a key that a row lacks is NULL.

        Raises the driver's error, ValueRefusedError or LookupError (no such column). Always returns [].
        """
        self.duplicates = 0
        if not rows:
            return []
        names, values = _tuples(rows)
        columns = self._columns(names)
        if any(column.type in ("json", "jsonb") for column in columns):
            values = [tuple(map(_wrap_json, columns, row)) for row in values]
        if self._merges:
            values = [(*row, index) for index, row in enumerate(values)]
        forms: list[tuple[bool, Feed]] = [(False, lambda copy: _feed_text(copy, columns, values))]
        if names not in self._as_text and _fits(columns, values):
            oids = [ROW_TYPES[column.type][0] for column in columns] + [20] * self._merges
            forms.insert(0, (True, lambda copy: _feed_binary(copy, oids, values)))
        return self._write(names, len(rows), forms)

    def write_arrow(self, rows: pa.Table) -> list[tuple[int, str, str]]:
        """Write a table, all or nothing: in binary if its types are those of `prepare`, else as text.

        Raises the driver's error or LookupError (no such column). Always returns [].
        """
        import pyarrow as pa

        self.duplicates = 0
        if not rows.num_rows:
            return []
        names = tuple(rows.schema.names)
        columns = self._columns(names)
        if self._merges:
            rows = rows.append_column(_ordinal(names), pa.array(range(rows.num_rows), pa.int64()))
        forms: list[tuple[bool, Feed]] = [(False, lambda copy: _feed_lines(copy, rows))]
        if names not in self._as_text and find_spec("pgpq") and _is_typed(columns, rows.schema):
            forms.insert(0, (True, lambda copy: _feed_arrow(copy, columns, rows)))
        return self._write(names, rows.num_rows, forms)

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        """Make the transaction durable; `rejected` and `rows` correct the receipt.

        Deferred constraints are checked first. If one fails, the transaction is doomed, and in the
        following ones each write checks them at once, so that the rows can be told apart.
        """
        try:
            with self._connection.pipeline():
                self._run("SET CONSTRAINTS ALL IMMEDIATE")
                if self._receipt and (rejected or rows is not None):
                    self._run(
                        """UPDATE {ledger} SET rejected = %s, rows = coalesce(%s, rows)
                        WHERE load = %s AND batch = %s""",
                        [Jsonb([list(position) for position in rejected]), rows, *self._receipt],
                    )
                self._run("COMMIT")
        except BaseException as error:
            self.doomed, self._immediate = True, self.classify(error) == "reject"
            raise
        self._destination, self._emptied = (), True

    def rollback(self) -> None:
        """Drop the transaction. Raises nothing."""
        if (
            self._link is not None
            and self._link.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE
        ):
            with suppress(psycopg.Error):
                self._link.execute("ROLLBACK")
        self._destination, self.doomed = (), False

    # ---- errors

    def hint(self, error: BaseException) -> int | None:
        """Return the index of the row that failed, where COPY's line in the error's context names it."""
        if isinstance(error, ValueRefusedError):
            return error.index
        context = error.diag.context if isinstance(error, psycopg.Error) else None
        for line in (context or "").splitlines():
            if line.startswith(f"COPY {self._copied}, "):
                number = re.match(r"\D+(\d+)", line.removeprefix(f"COPY {self._copied}, "))
                return int(number[1]) - 1 if number else None
        return None

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means: retry, in_doubt, reject, fatal or taken_over. By SQLSTATE."""
        if isinstance(error, OwnershipLostError):
            return "taken_over"
        if isinstance(error, ConnectError):
            return "fatal" if error.fatal else "retry"
        if isinstance(error, ValueRefusedError):
            return "reject"
        if isinstance(error, psycopg.Error) and error.sqlstate:
            return next(
                (VERDICTS[code] for n in (5, 3, 2) if (code := error.sqlstate[:n]) in VERDICTS), "fatal"
            )
        return "in_doubt" if isinstance(error, psycopg.OperationalError) else "fatal"

    # ---- catalogue

    @property
    def _connection(self) -> psycopg.Connection[Any]:
        if self._link is None:
            self.open()
        assert self._link is not None  # noqa: S101 - open() raises instead
        return self._link

    @property
    def _table(self) -> Table:
        if self._known is None or not self._known.oid:
            self._known = self._locate()
        if not self._known.oid:
            raise LookupError(f"table {self._known} does not exist")
        return self._known

    @property
    def _merges(self) -> bool:
        return self._mode in ("ignore", "upsert")

    def _locate(self) -> Table:
        """Look the target up, search_path included, with its columns."""
        if not self._path:
            raise ValueError("say the table")
        query = """SELECT coalesce(n.nspname, %s, current_schema()), coalesce(c.relname, %s),
                coalesce(c.oid, 0)
            FROM (SELECT to_regclass(%s) AS oid) t LEFT JOIN pg_class c ON c.oid = t.oid
            LEFT JOIN pg_namespace n ON n.oid = c.relnamespace"""
        schema = self._path[0] if len(self._path) == 2 else None
        quoted = sql.Identifier(*self._path).as_string()
        found = Table(*self._run(query, [schema, self._path[-1], quoted]).fetchone())  # type: ignore[misc]
        if found.schema is None:
            raise LookupError("search_path names no schema that exists; say schema.table")
        if not found.oid:
            return found
        columns = tuple(map(Column._make, self._run(CATALOGUE, {"oid": found.oid})))
        key = self._key or tuple(column.name for column in columns if column.key)
        if self._merges and not self._run(UNIQUE, [found.oid, sorted(key)]).fetchone():
            raise LookupError(
                f"mode {self._mode} needs a unique index on ({', '.join(key) or 'a key'}) of {found}"
            )
        return found._replace(columns=columns, key=key)

    def _describe(self, column: Column) -> tuple[Any, ...]:
        import pyarrow as pa

        key, kind = column.name in self._table.key, column.arrow() or pa.string()
        return column.name, kind, column.nullable, column.filled, key, column.max_length

    def _columns(self, names: Sequence[str]) -> list[Column]:
        known = {column.name: column for column in self._table.columns}
        if unknown := [name for name in names if name not in known]:
            raise LookupError(
                f"{self._table} has no column {unknown[0]!r} to write to; it has {', '.join(known)}"
            )
        if self._merges and (missing := set(self._table.key) - set(names)):
            raise LookupError(
                f"mode {self._mode} needs the key in every row; missing: {', '.join(sorted(missing))}"
            )
        return [known[name] for name in names]

    # ---- ledger

    def _names(self, schema: str) -> dict[str, sql.Identifier]:
        prefix = self._ledger.removesuffix("_ledger")
        named = {"loads": f"{prefix}_loads", "splits": f"{prefix}_splits", "ledger": self._ledger}
        return {word: sql.Identifier(schema, name) for word, name in named.items()}

    def _run(
        self,
        query: LiteralString,
        values: Sequence[object] | Mapping[str, object] = (),
        **names: sql.Composable,
    ) -> psycopg.Cursor[Any]:
        """Execute one statement; {target} and the ledger's names stand for the quoted identifiers."""
        if "{" in query:
            names |= self._names(self._table.schema)
            names["target"] = sql.Identifier(self._table.schema, self._table.name)
        cursor: psycopg.Cursor[Any] = self._connection.execute(sql.SQL(query).format(**names), values or None)
        return cursor

    def _has_ledger(self) -> bool:
        table = self._locate()
        names = [name.as_string() for name in self._names(table.schema).values()]
        query = "SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest(%s::text[]) name"
        return bool(table.oid) and self._run(query, [names]).fetchone() == (True,)

    def _create_ledger(self, table: Table) -> None:
        """Create the ledger, in a transaction of its own: the lock covers every table of the schema."""
        with self._connection.transaction():
            self._lock(Table(table.schema, self._ledger))
            names = [name.as_string() for name in self._names(table.schema).values()]
            query = "SELECT 1 FROM unnest(%s::text[]) name WHERE to_regclass(name) IS NULL"
            if self._run(query, [names]).fetchone():
                self._connection.execute(sql.SQL(LEDGER).format(**self._names(table.schema)))

    def _lock(self, table: Table) -> None:
        self._run("SELECT pg_advisory_xact_lock(hashtextextended('adaptive ' || %s, 0))", [str(table)])

    def _missing_rights(self, table: Table) -> list[str]:
        """Return the GRANT statements that this user lacks for a load."""
        needed = {"append": "INSERT", "ignore": "SELECT,INSERT", "upsert": "SELECT,INSERT,UPDATE",
                  "replace": "SELECT,INSERT,DELETE"}  # fmt: skip
        wanted = [("TABLE", str(table), right) for right in needed[self._mode].split(",") if table.oid]
        for name in (identifier.as_string() for identifier in self._names(table.schema).values()):
            if self._run("SELECT to_regclass(%s)", [name]).fetchone() != (None,):
                wanted += [("TABLE", name, right) for right in ("SELECT", "INSERT", "UPDATE", "DELETE")]
            else:
                wanted.append(("SCHEMA", table.schema, "CREATE"))
        if not table.oid or self._mode == "replace":
            wanted.append(("SCHEMA", table.schema, "CREATE"))
        if self._merges:
            wanted.append(("DATABASE", self._connection.info.dbname, "TEMPORARY"))
        return [grant for item in dict.fromkeys(wanted) if (grant := self._grant(*item))]

    def _grant(self, kind: str, name: str, right: str) -> str | None:
        query: LiteralString = {
            "SCHEMA": "SELECT has_schema_privilege(%(name)s, %(right)s)",
            "DATABASE": "SELECT has_database_privilege(%(name)s, %(right)s)",
            "TABLE": """SELECT CASE %(right)s WHEN 'DELETE' THEN has_table_privilege(%(name)s, 'DELETE')
                ELSE has_any_column_privilege(%(name)s, %(right)s) END""",
        }[kind]
        if self._run(query, {"name": name, "right": right}).fetchone() == (True,):
            return None
        quoted = name if kind == "TABLE" else sql.Identifier(name).as_string()
        return f"GRANT {right} ON {kind} {quoted} TO {sql.Identifier(self._connection.info.user).as_string()}"

    def _create(self, table: Table, schema: pa.Schema) -> None:
        """Create the missing target, and forget what the ledger knows of an earlier one."""
        columns = [
            sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(_ddl_type(field.name, field.type)))
            for field in schema
        ]
        if self._key:
            columns.append(sql.SQL("PRIMARY KEY ({})").format(_list(self._key)))
        create = sql.SQL("CREATE TABLE {} ({})")
        target = sql.Identifier(table.schema, table.name)
        self._connection.execute(create.format(target, sql.SQL(", ").join(columns)))
        self._known = self._locate()
        for name in reversed(self._names(table.schema).values()):  # the loads last: they tell which
            forget: LiteralString = (
                "DELETE FROM {rows} WHERE load IN (SELECT load FROM {loads} WHERE target = %s)"
            )
            self._run(forget, [str(table)], rows=name)

    def _start(self, load: Mapping[str, Any]) -> None:
        """Register the load and take its splits over; wait for transactions of the earlier owner."""
        state = self._run("SELECT state FROM {loads} WHERE load = %s", [load["load"]]).fetchone()
        if state == ("done",):
            return
        self._run(
            """INSERT INTO {loads} (load, fingerprint, source, mapping, target, mode, state, started_at)
            VALUES (%(load)s, %(fingerprint)s, %(source)s, %(mapping)s, %(target)s, %(mode)s, 'running',
                now())
            ON CONFLICT (load) DO NOTHING""",
            {**load, "target": str(self._table), "mode": self._mode},
        )
        self._run(
            """INSERT INTO {splits} SELECT %s, split, %s FROM unnest(%s::int[]) split ORDER BY split
            ON CONFLICT (load, split) DO UPDATE SET owner = excluded.owner""",
            [load["load"], load["owner"], list(load["splits"])],
        )
        if self._mode == "replace":
            self._check_references()
            self._stage(load["load"], resumed=state is not None)

    # ---- replace

    def _check_references(self) -> None:
        """Refuse a table whose rows take others with them when they are deleted."""
        query = """SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND confrelid = %s
            AND conrelid <> confrelid AND confdeltype IN ('c', 'n', 'd')"""
        if cascades := self._run(query, [self._table.oid]).fetchall():
            tables = ", ".join(sorted({name for (name,) in cascades}))
            raise ValueError(
                f"replacing {self._table} would change {tables} through ON DELETE; use another mode"
            )

    def _staging(self, load: str) -> str:
        return f"_adaptive_replace_{_digest(str(self._table))}_{_digest(load)}"

    def _stage(self, load: str, *, resumed: bool) -> None:
        """Make the staging table of a load, or keep that of a resumed one; drop those of ended loads."""
        running = self._run(
            "SELECT load FROM {loads} WHERE target = %s AND state = 'running'", [str(self._table)]
        )
        kept = {self._staging(name) for (name,) in running} - (
            {self._staging(load)} if not resumed else set()
        )
        query = """SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r'
            AND starts_with(relname, %s) AND pg_has_role(relowner, 'USAGE')"""
        schema = sql.Identifier(self._table.schema).as_string()
        present = {name for (name,) in self._run(query, [schema, self._staging("").rsplit("_", 1)[0] + "_"])}
        for name in present - kept:
            self._run("DROP TABLE {staging}", staging=sql.Identifier(self._table.schema, name))
        if self._staging(load) not in present & kept:
            self._run(
                "DELETE FROM {ledger} WHERE load = %s", [load]
            )  # rows that went with their staging table
            self._create_staging(sql.Identifier(self._table.schema, self._staging(load)))

    def _create_staging(self, staging: sql.Identifier) -> None:
        """Make a table that refuses what the target will refuse, foreign keys included."""
        like = """CREATE TABLE {staging} (LIKE {target} INCLUDING DEFAULTS INCLUDING GENERATED
            INCLUDING CONSTRAINTS INCLUDING INDEXES INCLUDING STORAGE)"""
        self._run(like, staging=staging)
        for column in self._table.columns:
            if column.identity:  # LIKE would give it a sequence of its own, and so numbers used before
                query = "SELECT pg_get_serial_sequence(%s, %s)"
                (sequence,) = self._run(query, [str(self._table), column.name]).fetchone() or (None,)
                default: LiteralString = (
                    "ALTER TABLE {staging} ALTER {column} SET DEFAULT nextval({sequence})"
                )
                self._run(
                    default,
                    staging=staging,
                    column=sql.Identifier(column.name),
                    sequence=sql.Literal(sequence),
                )
        foreign = """SELECT format('ALTER TABLE %%s ADD %%s', %s::text, pg_get_constraintdef(oid))
            FROM pg_constraint WHERE conrelid = %s AND contype = 'f' AND confrelid <> conrelid
            AND has_table_privilege(confrelid, 'REFERENCES')"""
        for (statement,) in self._run(foreign, [staging.as_string(), self._table.oid]).fetchall():
            self._connection.execute(statement.encode())

    def _swap(self, load: str) -> None:
        """Put the staged rows in place of the old ones.

        DELETE and INSERT keep grants, views, foreign keys and triggers, which renaming loses, and
        let readers see the old rows until the commit, where TRUNCATE would make them wait.
        """
        names: dict[str, Any] = {
            "staging": sql.Identifier(self._table.schema, self._staging(load)),
            "columns": _list(column.name for column in self._table.columns),
        }
        self._run("LOCK TABLE {target} IN SHARE ROW EXCLUSIVE MODE", **names)
        self._run("DELETE FROM {target}", **names)
        insert: LiteralString = (
            "INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {staging}"
        )
        self._run(insert, **names)
        self._run("DROP TABLE {staging}", **names)

    # ---- writing

    def _begin(self, receipt: Mapping[str, Any] | None) -> tuple[int, int, int]:
        """Send the transaction's first statements in one round trip; return owned, receipts, splits."""
        splits = sorted({segment[0] for segment in receipt["segments"]}) if receipt else []
        answer = None
        with self._connection.pipeline():
            self._run("BEGIN ISOLATION LEVEL READ COMMITTED")
            if self._immediate:
                self._run("SET CONSTRAINTS ALL IMMEDIATE")
            if receipt:
                segments = Jsonb([list(segment) for segment in receipt["segments"]])
                answer = self._run(RECEIPT, {**receipt, "segments": segments, "splits": splits})
            elif self._mode == "replace" and not self._emptied:
                self._run("DELETE FROM {target}")
            self._run("SAVEPOINT adaptive")
        owned, inserted = (answer and answer.fetchone()) or (0, 1)
        return owned, inserted, len(splits)

    def _write(self, names: tuple[str, ...], rows: int, forms: Sequence[tuple[bool, Feed]]) -> list[Any]:
        """Write in the first form that the server can read."""
        if not self._destination:
            raise RuntimeError("begin a transaction before writing")
        for binary, feed in forms:
            try:
                self._put(names, rows, binary, feed)
                break
            except BaseException as error:
                self._undo()
                if not (binary and _is_unreadable(error)):
                    raise
                self._as_text.add(names)
        return []

    def _undo(self) -> None:
        try:
            self._run("ROLLBACK TO SAVEPOINT adaptive")
            self._dirty = False
        except psycopg.Error:
            self.doomed = True

    def _put(self, names: tuple[str, ...], rows: int, binary: bool, feed: Feed) -> None:
        if self._dirty:
            self._run("RELEASE SAVEPOINT adaptive; SAVEPOINT adaptive")
        target, columns = self._destination, names
        if self._merges:
            target, columns = self._merge_table(names), (*names, _ordinal(names))
        self._dirty, self._copied = True, target[-1]
        copy = sql.SQL("COPY {} ({}) FROM STDIN {}").format(
            sql.Identifier(*target), _list(columns), sql.SQL("(FORMAT binary)" if binary else "")
        )
        with self._connection.cursor().copy(copy) as stream:
            feed(stream)
        if self._merges:
            written = self._merge(target, names)
            self.duplicates = rows - written if self._mode == "ignore" else 0

    def _merge_table(self, names: tuple[str, ...]) -> tuple[str, str]:
        """Return this connection's staging table, empty. It has no constraints: triggers may mend rows."""
        staging = "pg_temp", f"_adaptive_merge_{self._table.oid}_{_digest(repr(names))}"
        parts: dict[str, Any] = {
            "staging": sql.Identifier(*staging),
            "columns": _list(names),
            "ordinal": _list([_ordinal(names)]),
        }
        self._run(
            """CREATE TEMPORARY TABLE IF NOT EXISTS {staging} ON COMMIT DELETE ROWS
            AS SELECT {columns}, 0::bigint AS {ordinal} FROM {target} WITH NO DATA""",
            **parts,
        )
        if self._dirty:
            self._run("TRUNCATE {staging}", **parts)
        return staging

    def _merge(self, staging: tuple[str, ...], names: tuple[str, ...]) -> int:
        """Move the staged rows over in key order, so that writers cannot deadlock; return how many.

        Of rows with one key the last (upsert) or first (ignore) counts; a NULL is never the same key. The
        order needs the ordinal: a heap does not keep that of COPY. DISTINCT ON took 1.6 times an append.
        """
        key, upsert = self._table.key, self._mode == "upsert"
        fixed = {*key, *(column.name for column in self._table.columns if column.identity == "a")}
        changed = [sql.SQL("{0} = excluded.{0}").format(_list([name])) for name in names if name not in fixed]
        action = sql.SQL("UPDATE SET {}").format(sql.SQL(", ").join(changed)) if upsert and changed else None
        return self._run(
            """INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE
            SELECT DISTINCT ON ({key}, CASE WHEN ROW({key}) IS NOT NULL THEN 0 ELSE {ordinal} END) {columns}
            FROM {staging}
            ORDER BY {key}, CASE WHEN ROW({key}) IS NOT NULL THEN 0 ELSE {ordinal} END, {ordinal} {direction}
            ON CONFLICT ({key}) DO {action}""",
            staging=sql.Identifier(*staging),
            columns=_list(names),
            key=_list(key),
            ordinal=_list([_ordinal(names)]),
            direction=sql.SQL("DESC" if upsert else "ASC"),
            action=action or sql.SQL("NOTHING"),
        ).rowcount


def _parse_url(url: str) -> dict[str, Any]:
    """Return psycopg's connection parameters, ours where the URL says nothing.

    Raises ValueError, in whose text no part of the URL appears: it might be of the password.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("a PostgreSQL URL starts with postgresql://")
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        given = {}
    if not given or urlsplit(url).netloc.count("@") > 1:
        raise ValueError("not a valid PostgreSQL URL; %-encode special characters, @ in a password is %40")
    return {**DEFAULTS, **given, "client_encoding": "UTF8"}


def _parse_table(table: str | None) -> tuple[str, ...]:
    """Return the parts of `table`, `schema.table` or `"quoted.name"`; none without a table."""
    if table is None:
        return ()
    parts = re.fullmatch(r'(?:("(?:[^"]|"")+"|[^".]+)\.)?("(?:[^"]|"")+"|[^".]+)', table)
    if parts is None or "\0" in parts[0]:
        raise ValueError(f'cannot read the table name {table!r}: say table, schema.table or "a quoted.name"')
    unquoted = (
        part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts.groups() if part
    )
    return tuple(unquoted)


def _list(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _ordinal(names: Sequence[str]) -> str:
    """Return a name for the ordinal of staged rows that no column has."""
    return "ordinal" + "_" * max((len(name) for name in names if name.startswith("ordinal")), default=0)


def _ddl_type(name: str, kind: pa.DataType) -> str:
    """Return the PostgreSQL type for an Arrow type. Raises ValueError if there is none."""
    import pyarrow as pa

    is_a = pa.types
    if is_a.is_dictionary(kind):
        return _ddl_type(name, kind.value_type)
    if is_a.is_decimal(kind):
        return f"numeric({kind.precision}, {kind.scale})"
    if is_a.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    if kind == pa.uuid():
        return "uuid"
    kinds = [
        (is_a.is_boolean, "boolean"), (is_a.is_uint64, "numeric(20, 0)"), (is_a.is_integer, "bigint"),
        (is_a.is_floating, "double precision"), (is_a.is_date, "date"), (is_a.is_time, "time"),
        (is_a.is_nested, "jsonb"), (_is_binary, "bytea"), (_is_text, "text"), (is_a.is_null, "text"),
    ]  # fmt: skip
    found = next((word for check, word in kinds if check(kind)), None)
    if found is None:
        raise ValueError(f"column {name!r}: there is no PostgreSQL type for {kind}; say one with --types")
    return found


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return any(
        check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _is_binary(kind: pa.DataType) -> bool:
    import pyarrow as pa

    checks = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    )
    return any(check(kind) for check in checks)


def _is_unreadable(error: BaseException) -> bool:
    """Say whether a failed binary COPY is to be sent again as text: the form was at fault, or might be."""
    if isinstance(error, psycopg.Error):
        return error.sqlstate in UNREADABLE or (
            error.sqlstate is None and not isinstance(error, psycopg.OperationalError)
        )
    return isinstance(error, Exception)


# ---- rows


def _tuples(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns, those of the first row first, and the rows as tuples.

    itemgetter is the fastest way; its KeyError, or a row of another length, shows uneven rows.
    """
    names = tuple(rows[0])
    with suppress(KeyError):
        if set(map(len, rows)) == {len(names)}:
            pick = itemgetter(*names)
            return names, list(map(pick, rows)) if len(names) > 1 else [(pick(row),) for row in rows]
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    return names, [tuple(map(row.get, names)) for row in rows]


def _wrap_json(column: Column, value: object) -> object:
    """Return a value of a JSON column for psycopg: text is JSON already, anything else is encoded."""
    if value is None or column.type not in ("json", "jsonb"):
        return value
    return Jsonb(value, dumps=str) if isinstance(value, str) else Jsonb(value)


def _fits(columns: Sequence[Column], rows: Sequence[tuple[Any, ...]]) -> bool:
    """Say whether binary COPY keeps every value. What it would refuse by itself is not looked at."""
    for index, column in enumerate(columns):
        if column.type not in ROW_TYPES:
            return False
        check = ROW_TYPES[column.type][1]
        if check is None:
            continue
        values = [value for row in rows if (value := row[index]) is not None]
        if isinstance(check, type):
            if not set(map(type, values)) <= {check}:
                return False
            continue
        try:
            struct.pack(f"<{len(values)}{check}", *values)
        except (struct.error, OverflowError):
            return False
    return True


def _feed_binary(copy: psycopg.Copy, oids: Sequence[int], rows: Iterable[tuple[Any, ...]]) -> None:
    copy.set_types(oids)
    for row in rows:
        copy.write_row(row)


def _feed_text(copy: psycopg.Copy, columns: Sequence[Column], rows: Iterable[tuple[Any, ...]]) -> None:
    for index, row in enumerate(rows):
        try:
            for column, value in zip(columns, row, strict=False):
                if reason := _loss(column.type, value):
                    raise ValueError(f"column {column.name!r}: {reason}")  # noqa: TRY301
            copy.write_row(row)
        except (psycopg.OperationalError, MemoryError):
            raise
        except Exception as error:
            raise ValueRefusedError(index, error) from error


def _loss(kind: str, value: object) -> str | None:
    """Say what the server would drop from a value without a word."""
    if isinstance(value, bytes | bytearray | memoryview) and kind != "bytea":
        return "bytes for a column that is not bytea"
    if isinstance(value, datetime) and kind == "date" and value.time() != time.min:
        return "the time of day does not fit in a date"
    if isinstance(value, datetime | time) and value.tzinfo and kind in ("timestamp", "time", "date"):
        return "the column has no time zone"
    return None


# ---- Arrow


def _is_typed(columns: Sequence[Column], schema: pa.Schema) -> bool:
    """Say whether a table has exactly the types of the columns, and the ordinal at its end or not."""
    return all(
        field.type == column.arrow() or (column.type in STRING_TYPES - {"jsonb"} and _is_text(field.type))
        for column, field in zip(columns, schema, strict=False)
    )


def _pieces(rows: pa.Table) -> list[pa.RecordBatch]:
    size = PIECE_BYTES * rows.num_rows // (rows.nbytes + 1)
    pieces: list[pa.RecordBatch] = rows.to_batches(max_chunksize=min(max(size, 1), PIECE_ROWS))
    return pieces


def _feed_arrow(copy: psycopg.Copy, columns: Sequence[Column], rows: pa.Table) -> None:
    from pgpq import ArrowToPostgresBinaryEncoder
    from pgpq.encoders import StringEncoderBuilder
    from pgpq.schema import Jsonb as JsonbType

    builders = {field.name: ArrowToPostgresBinaryEncoder.infer_encoder(field) for field in rows.schema}
    for column, field in zip(columns, rows.schema, strict=False):
        if column.type == "jsonb":
            builders[field.name] = StringEncoderBuilder.new_with_output(field, JsonbType())
    encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(rows.schema, builders)
    copy.write(encoder.write_header())
    for piece in _pieces(rows):
        copy.write(encoder.write_batch(piece))
    copy.write(encoder.finish())


def _feed_lines(copy: psycopg.Copy, rows: pa.Table) -> None:
    """Send COPY's text format: unlike CSV, one row is one line, and so an error's line is the row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tab, newline, empty = (pa.scalar(text, pa.large_string()) for text in ("\t", "\n", ""))
    for piece in _pieces(rows):
        texts = [_escape(column) for column in piece.columns]
        null = {"null_handling": "replace", "null_replacement": "\\N"}
        lines = pc.binary_join_element_wise(*texts, tab, **null)
        copy.write(pc.binary_join_element_wise(lines, empty, newline).buffers()[2])


def _escape(column: pa.Array) -> pa.Array:
    """Return a column as COPY's text format has it; bytes and uuid, rare here, one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.type == pa.uuid():
        return pa.array(
            [value and str(UUID(bytes=bytes(value))) for value in column.storage.to_pylist()],
            pa.large_string(),
        )
    if _is_binary(column.type):
        texts = [None if value is None else f"\\\\x{value.hex()}" for value in column.to_pylist()]
        return pa.array(texts, pa.large_string())
    text = column.cast(pa.large_string())
    if _is_text(column.type) and pc.any(pc.match_substring_regex(text, r"[\\\n\r\t]")).as_py():
        for char, escaped in (("\\", r"\\"), ("\n", r"\n"), ("\r", r"\r"), ("\t", r"\t")):
            text = pc.replace_substring(text, char, escaped)
    return text
