"""Starts the server in a process of its own: so it takes no time from the client's interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import labs.mongo_wire


@contextmanager
def serving() -> Iterator[str]:
    """Yield the URL of a new server, which is empty."""
    command = [sys.executable, "-m", labs.mongo_wire.__name__]
    folder = labs.mongo_wire.__path__[0].removesuffix("labs/mongo_wire")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        if not (url := process.stdout.readline().strip()):
            raise RuntimeError("the stand-in for MongoDB ended; its error output says why")
        yield url
