"""Idempotency keys in a SQLite file, for targets that cannot keep them in the transaction of the rows.

A key is entered before its row is written and committed after it, so it counts at least once: a crash, or a
connection lost for good, between the two commits leaves a row whose key is not known, and the next load
writes it again. Nothing else does: the UNIQUE constraint decides among any number of threads and processes,
which therefore write one batch at a time.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from adaptive.around import AroundSink
from adaptive.protocols import BatchSink, Verdict

BUSY_SECONDS = 30.0  # wait for another writer's batch, which takes well under 1 s; then it is tried again
TABLE = (
    "CREATE TABLE IF NOT EXISTS keys (target TEXT NOT NULL, key TEXT NOT NULL, claimed_at TEXT NOT NULL,"
    " UNIQUE (target, key))"
)
# The rowid, which grows, tells of two keys with one time which is the older.
PRUNE = """
    DELETE FROM keys WHERE claimed_at < ?1 OR ?2 IS NOT NULL AND rowid NOT IN (
        SELECT rowid FROM keys ORDER BY claimed_at DESC, rowid DESC LIMIT ?2)"""


class IdempotencyStoreError(Exception):
    """The store cannot be used; `verdict` is what that means for the batch."""

    def __init__(self, path: str, error: sqlite3.Error, *, at_commit: bool = False) -> None:
        super().__init__(f"idempotency store {path}: {error}")
        busy = (error.sqlite_errorcode or 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        self.verdict: Verdict = "in_doubt" if at_commit else "retry" if busy else "fatal"


class IdempotencyStore:
    """A file of keys, readable by its owner only. Any number of threads and processes may use it.

        store = IdempotencyStore("keys.db")
        store.prune(older_than=timedelta(days=30), keep=10_000_000)

    Raises IdempotencyStoreError.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __len__(self) -> int:
        """Return the number of keys."""
        with self._explained(), closing(self.connect()) as db:
            return int(db.execute("SELECT count(*) FROM keys").fetchone()[0])

    def prune(self, *, older_than: timedelta | None = None, keep: int | None = None) -> int:
        """Forget the keys that are older, and all but the `keep` newest; return how many.

        A row whose key was forgotten is written again when it comes again.
        """
        since = _text(datetime.now(UTC) - older_than) if older_than is not None else ""
        with self._explained(), closing(self.connect()) as db:
            return db.execute(PRUNE, [since, keep]).rowcount

    def connect(self) -> sqlite3.Connection:
        """Open the file, making it if it is missing."""
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        # Opened by one thread and used by another, perhaps, but never by two at once.
        db = sqlite3.connect(
            f"file:{quote(self.path)}", BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True
        )
        with suppress(sqlite3.OperationalError):  # another process is making it right now
            db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(TABLE)
        return db

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise IdempotencyStoreError(self.path, error) from error


class StoredKeys(AroundSink):
    """A sink whose idempotency keys are in a store.

    The store's transaction begins before the sink's and is committed after it. After a commit in doubt
    the same batch is begun again; where the sink then says that it is committed, its keys are entered.
    One writer is all that can write at a time, hence `max_writers`.
    """

    def __init__(self, sink: BatchSink, store: IdempotencyStore, target: str) -> None:
        super().__init__(sink)
        self._store, self._target_name = store, target
        self._db: sqlite3.Connection | None = None
        self._claimed: set[str] = set()  # by the latest attempt

    def close(self) -> None:
        """Disconnect from both; keys not committed are free again."""
        super().close()
        if self._db:
            self._db.close()
        self._db = None

    def begin(self, receipt: Mapping[str, object] | None = None) -> bool:
        """Open both transactions; wait for the store, which one writer has at a time."""
        self._begin_keys()
        if self._sink.begin(receipt):
            return True
        self._enter(sorted(self._claimed))
        self._commit_keys()
        return False

    def claim(self, keys: Sequence[str]) -> set[str]:
        """Enter keys and return those that were not there."""
        self._claimed = self._enter(sorted(keys))
        return set(self._claimed)

    def release(self, keys: Sequence[str]) -> None:
        """Take keys out again."""
        self._claimed.difference_update(keys)
        self._run(
            "DELETE FROM keys WHERE target = ? AND key IN (SELECT value FROM json_each(?))",
            [self._target_name, json.dumps(list(keys))],
        )

    def commit(self, rejected: Sequence[Sequence[int]] = (), rows: int | None = None) -> None:
        """Commit the rows, then their keys."""
        super().commit(rejected, rows)
        self._commit_keys()

    def rollback(self) -> None:
        """Drop both transactions."""
        super().rollback()
        if self._db and self._db.in_transaction:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error of the sink or of the store means."""
        return error.verdict if isinstance(error, IdempotencyStoreError) else self._sink.classify(error)

    def _begin_keys(self) -> None:
        try:
            self._db = self._db or self._store.connect()
            if not self._db.in_transaction:  # a batch may be begun twice, see `BatchSink.begin`
                self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise IdempotencyStoreError(self._store.path, error) from error

    def _enter(self, keys: Sequence[str]) -> set[str]:
        fresh = self._run(
            "INSERT INTO keys SELECT ?, value, ? FROM json_each(?) WHERE true ON CONFLICT DO NOTHING"
            " RETURNING key",
            [self._target_name, _text(datetime.now(UTC)), json.dumps(keys)],
        )
        return {key for (key,) in fresh}

    def _commit_keys(self) -> None:
        self._run("COMMIT", at_commit=True)

    def _run(
        self, statement: str, values: Sequence[object] = (), *, at_commit: bool = False
    ) -> list[tuple[str]]:
        try:
            return self._db.execute(statement, values).fetchall() if self._db else []
        except sqlite3.Error as error:
            raise IdempotencyStoreError(self._store.path, error, at_commit=at_commit) from error


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")  # of one length, so that texts sort by time
