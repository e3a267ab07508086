"""A session's transaction: how deep, whether doomed, and the lock and the savepoints under it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from labs.tds.errors import SqlError
from labs.tds.locks import Locks
from labs.tds.objects import quote

WRITE = "write"  # the lock that stands for all of SQL Server's: SQLite has one writer


class Transaction:
    """The transaction of one connection to SQLite.

    SQLite's own begins with the first write. Until then each statement reads what is committed, as
    READ COMMITTED does. `told` is called with ("began", "committed" or "rolled back") for the client.
    """

    def __init__(self, db: sqlite3.Connection, locks: Locks, look: Callable[[], None]) -> None:
        self._db, self._locks, self._look = db, locks, look
        self.depth = 0  # @@TRANCOUNT
        self.doomed = False
        self.timeout: float | None = None  # seconds; SET LOCK_TIMEOUT
        self.told: Callable[[str], None] = lambda _: None

    def begin(self) -> None:
        """BEGIN TRANSACTION."""
        self.depth += 1
        if self.depth == 1:
            self.told("began")

    def commit(self) -> None:
        """COMMIT TRANSACTION. Raises SqlError 3902 and 3930."""
        if not self.depth:
            raise SqlError(3902)
        if self.doomed:
            raise SqlError(3930)
        self.depth -= 1
        if not self.depth:
            self._end("COMMIT")
            self.told("committed")

    def rollback(self) -> None:
        """Undo everything."""
        began, self.depth, self.doomed = self.depth > 0, 0, False
        self._end("ROLLBACK")
        if began:
            self.told("rolled back")

    def save(self, name: str) -> None:
        """SAVE TRANSACTION."""
        if not self.depth:
            raise SqlError(628, "Cannot issue SAVE TRANSACTION when there is no active transaction.")
        self.lock()
        self._db.execute(f"SAVEPOINT {quote(name)}")

    def rollback_to(self, name: str) -> None:
        """ROLLBACK TRANSACTION name. Raises SqlError 3903, 3931 and 6401."""
        if not self.depth:
            raise SqlError(3903)
        if self.doomed:
            raise SqlError(3931)
        try:
            self._db.execute(f"ROLLBACK TO {quote(name)}")
        except sqlite3.OperationalError:
            raise SqlError(6401, name=name) from None

    def lock(self, *, checked: bool = True) -> None:
        """Take the lock that writes need, until the transaction ends. Raises SqlError 1205, 1222, 3930.

        Whether checks and foreign keys hold is up to the first write: SQLite takes no later word.
        """
        if self.doomed:
            raise SqlError(3930)
        self._locks.acquire(WRITE, self, self.timeout, self._look)
        if not self._db.in_transaction:
            self._db.execute(f"PRAGMA ignore_check_constraints = {not checked}")
            self._db.execute(f"PRAGMA foreign_keys = {checked}")
            self._db.execute("BEGIN IMMEDIATE")

    def change(self, write: Callable[[], int], *, keep: bool = False, checked: bool = True) -> int:
        """Write all or nothing (with `keep` what succeeded), here or in a transaction of its own."""
        self.lock(checked=checked)
        self._db.execute("SAVEPOINT _statement")
        try:
            return write()
        except BaseException:
            if not keep:
                self._db.execute("ROLLBACK TO _statement")
            raise
        finally:
            self._db.execute("RELEASE _statement")
            if not self.depth:
                self._end("COMMIT")

    def _end(self, word: str) -> None:
        if self._db.in_transaction:
            self._db.execute(word)
        self._locks.release_all(self)

    # --- application locks ---

    def get_lock(self, resource: str, milliseconds: int) -> int:
        """Return what sp_getapplock does; the lock lasts until the transaction ends."""
        if not self.depth:
            return -999
        free = self._locks.free(f"application {resource}", self)
        try:
            self._locks.acquire(
                f"application {resource}", self, None if milliseconds < 0 else milliseconds / 1000, self._look
            )
        except SqlError as error:
            return -1 if error.number == 1222 else -3
        return 0 if free else 1
