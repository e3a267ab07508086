"""A PostgreSQL for tests: the one the environment names, else a private one on a free port.

Found in this order: `ADAPTIVE_TEST_POSTGRESQL_URL`, then a container if those are wanted, then `initdb` in
PATH or where Debian puts it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from labs import containers

VARIABLE = "ADAPTIVE_TEST_POSTGRESQL_URL"
ADVICE = f"lab postgres: none found; set {VARIABLE}, or install it (apt-get install postgresql)"


def binaries() -> Path | None:
    """Return the directory of `initdb` and `pg_ctl`, the newest version first."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in installed), key=lambda path: int(path.parent.name), default=None)


@contextmanager
def server() -> Iterator[str | None]:
    """Yield the URL of a superuser with a password, or None where there is no PostgreSQL."""
    directory = binaries()
    if url := os.environ.get(VARIABLE):
        yield url
    elif containers.wanted():
        with containers.container("postgres", lambda url: psycopg.connect(url).close()) as url:
            yield url
    elif directory is None:
        yield None
    else:
        with tempfile.TemporaryDirectory(prefix="adaptive-pg-") as folder:
            yield from _private(directory, Path(folder))


@contextmanager
def database(url: str) -> Iterator[str]:
    """Yield the URL of a new, empty database; drop it afterwards."""
    name = f"adaptive_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as link:
        link.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(url, autocommit=True) as link:
            link.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _private(directory: Path, folder: Path) -> Iterator[str]:
    """Run a server on 127.0.0.1 until the end; fsync is off, since nothing here outlives a crash."""
    password, port, files = secrets.token_hex(8), _free_port(), folder / "data"
    secret = folder / "password"
    secret.write_text(password)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        shutil.chown(secret, "postgres")
    _run(directory / "initdb", "-D", files, "-U", "adaptive", "-A", "scram-sha-256", f"--pwfile={secret}",
         "-N", "-E", "UTF8", "--locale=C.UTF-8", folder=folder)  # fmt: skip
    options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories= -c fsync=off"
    control = (directory / "pg_ctl", "-D", files, "-w")
    _run(*control, "-l", folder / "log", "-o", options, "start", folder=folder)
    try:
        yield f"postgresql://adaptive:{password}@127.0.0.1:{port}/postgres"
    finally:
        _run(*control, "-m", "immediate", "stop", folder=folder)


def _run(*command: str | Path, folder: Path) -> None:
    """Run a program of the server, which refuses to be root."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_user, *map(str, command)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
