"""The server: databases in a folder, a listening socket, a thread for each client, and faults on request."""

from __future__ import annotations

import glob
import itertools
import re
import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from labs.tds.catalogue import install
from labs.tds.connection import Connection
from labs.tds.errors import SqlError
from labs.tds.locks import Locks
from labs.tds.session import Session

USER, PASSWORD = "sa", "Stand-in-1"


@dataclass
class Database:
    """One database: a SQLite file, its locks, and the counters of its identity columns."""

    name: str
    path: Path
    locks: Locks = field(default_factory=Locks)
    identities: dict[int, int] = field(default_factory=dict)


class Fault(NamedTuple):
    """An error number to raise, or None to cut the connection, before a statement or after it."""

    number: int | None
    where: re.Pattern[str]
    after: bool


class CutError(OSError):
    """The server cuts the connection, as a test asked for."""


class Server:
    """A stand-in for SQL Server on 127.0.0.1; `port` 0 takes a free one."""

    def __init__(self, folder: Path, *, port: int = 0, user: str = USER, password: str = PASSWORD) -> None:
        self._folder, self.user, self.logins = folder, user, {user: password}
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._databases: dict[str, Database] = {}
        self._threads: dict[Connection, threading.Thread] = {}
        self._guard = threading.RLock()
        self._faults: list[Fault] = []
        self._numbers = itertools.count(1)
        self._databases_of(folder)

    # --- databases ---

    def _databases_of(self, folder: Path) -> None:
        for name in {"master", *(path.stem for path in folder.glob("*.db"))}:
            self.create(name)

    def create(self, name: str) -> str:
        """Make a database, if it is not there, and return its URL."""
        with self._guard:
            if name.lower() not in self._databases:
                path = self._folder / f"{name}.db"
                new = not path.exists()
                with closing(sqlite3.connect(path)) as db:
                    db.execute("PRAGMA journal_mode = WAL")
                    if new:
                        install(db)
                        db.commit()
                self._databases[name.lower()] = Database(name, path)
        return self.url_of(name)

    def url_of(self, database: str) -> str:
        """Return the URL of a database."""
        place = f"{self.user}:{self.logins[self.user]}@127.0.0.1:{self.port}/{quote(database)}"
        return f"mssql://{place}?TrustServerCertificate=yes&Encrypt=no"

    def exists(self, name: str) -> bool:
        """Return whether there is such a database."""
        return name.lower() in self._databases

    def drop(self, name: str) -> None:
        """Drop a database that nobody uses."""
        if any(database == name for _, database in self.sessions()):
            raise SqlError(3702, f'Cannot drop database "{name}" because it is currently in use.')
        with self._guard:
            del self._databases[name.lower()]
        for path in self._folder.glob(f"{glob.escape(name)}.db*"):
            path.unlink()

    @property
    def url(self) -> str:
        """The URL of the database `master`."""
        return self.url_of("master")

    def session(self, user: str, password: str, database: str, look: Callable[[], None]) -> Session:
        """Log a client in. Raises SqlError 18456 or 4060."""
        if self.logins.get(user) != password:
            raise SqlError(18456, name=user)
        if (found := self._databases.get((database or "master").lower())) is None:
            raise SqlError(4060, name=database)
        session = Session(self, found, user, look, 50 + self.next_number())
        if session.user_name() is None:
            session.close()
            raise SqlError(4060, name=database)
        return session

    def next_number(self) -> int:
        """Return a number that was not used before."""
        return next(self._numbers)

    # --- faults ---

    def fail_next(self, number: int | None, where: str = "", *, after: bool = False) -> None:
        """Let the next statement that `where` is found in fail; with None, cut its connection.

        `after` lets it happen first: so the client does not learn of a commit that took place.
        """
        self._faults.append(Fault(number, re.compile(where, re.IGNORECASE), after))

    def about_to(self, text: str) -> None:
        """Raise the fault that waits for a statement."""
        self._fault(text, after=False)

    def did(self, text: str) -> None:
        """Raise the fault that waits for a statement's end."""
        self._fault(text, after=True)

    def _fault(self, text: str, *, after: bool) -> None:
        with self._guard:
            fault = next((f for f in self._faults if f.after == after and f.where.search(text)), None)
            if fault is None:
                return
            self._faults.remove(fault)
        if fault.number is None:
            raise CutError
        raise SqlError(fault.number, process=51)

    def drop_connections(self, database: str | None = None, *, spare: object = None) -> None:
        """Cut the connections of a database, or all, and wait until their transactions are rolled back."""
        with self._guard:
            cut = [
                (connection, thread)
                for connection, thread in self._threads.items()
                if connection.session is not spare and database in (None, _database(connection))
            ]
        for connection, _ in cut:
            connection.cut()
        for _, thread in cut:
            thread.join()

    def sessions(self) -> list[tuple[int, str]]:
        """Return number and database of each session."""
        with self._guard:
            return [(c.session.number, c.session.database) for c in self._threads if c.session]

    def kill(self, number: int) -> None:
        """Cut the connection of a session, and wait until its transaction is rolled back."""
        with self._guard:
            found = [(c, t) for c, t in self._threads.items() if c.session and c.session.number == number]
        for connection, thread in found:
            connection.cut()
            thread.join()

    # --- serving ---

    def start(self) -> None:
        """Serve in threads of this process."""
        threading.Thread(target=self._accept, name="tds", daemon=True).start()

    def stop(self) -> None:
        """Cut everything and end."""
        with self._guard:
            self._listener.close()
        self.drop_connections()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(link, self)
            thread = threading.Thread(target=self._serve, args=[connection], name="tds client", daemon=True)
            with self._guard:
                self._threads[connection] = thread
                thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        finally:
            with self._guard:
                del self._threads[connection]


def _database(connection: Connection) -> str | None:
    return connection.session.database if connection.session else None
