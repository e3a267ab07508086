"""Starts the server in a process of its own and speaks to it there.

Not in the test's process: pyodbc holds Python's lock while the driver asks the server how a parameter is
typed, and a thread that needs the lock to answer would wait for ever.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import labs


class Served:
    """A running server; `url` is that of the database `master`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = self._line()

    def create(self, database: str) -> str:
        """Make a database, and return its URL."""
        url: str = self._call("create", database)
        return url

    def fail_next(self, number: int | None, where: str = "", *, after: bool = False) -> None:
        """Let the next statement that the pattern `where` is found in fail; None cuts its connection.

        `after` lets the statement happen first: so the client does not learn of a commit that took place.
        """
        self._call("fail_next", number, where, after=after)

    def drop_connections(self, database: str | None = None) -> None:
        """Cut the connections of a database, or all, and wait until their transactions are rolled back."""
        self._call("drop_connections", database)

    def _call(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps([method, arguments, keywords]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("the stand-in for SQL Server ended; its error output says why")
        return line.strip()


@contextmanager
def serving(folder: Path | None = None) -> Iterator[Served]:
    """Run a server; its databases are in `folder`, or in a temporary one."""
    with tempfile.TemporaryDirectory(prefix="adaptive-tds-") as temporary:
        process = subprocess.Popen(
            [sys.executable, "-m", "labs.tds", str(folder or temporary)],
            cwd=Path(labs.__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            yield Served(process)
