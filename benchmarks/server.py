"""A private PostgreSQL for the benchmark, on a free port of 127.0.0.1, thrown away afterwards."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

# Durable as by default; enough memory and WAL that no checkpoint falls into a single load.
SETTINGS = {"fsync": "on", "shared_buffers": "1GB", "max_wal_size": "8GB", "autovacuum": "off"}
START_SECONDS = 30


@contextmanager
def postgres(cache: Path, binaries: Path) -> Iterator[str]:
    """Start a server whose programs are in `binaries` and yield its database's URL; remove it afterwards.

    As root it runs as an unprivileged user, below /var/tmp, since that user may not reach `cache`.
    """
    account = _account()
    parent = Path("/var/tmp") if account else cache  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="adaptive-bench-", dir=parent) as folder:
        if account:
            os.chown(folder, account.pw_uid, account.pw_gid)
        with _running(binaries, Path(folder), account.pw_name if account else None) as url:
            yield url


@contextmanager
def _running(binaries: Path, folder: Path, user: str | None) -> Iterator[str]:
    at = ["-D", str(folder / "pg")]
    initdb = [str(binaries / "initdb"), *at, "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C"]
    subprocess.run(initdb, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
    port = _free_port()
    settings = {**SETTINGS, "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
    flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        command = [str(binaries / "postgres"), *at, *flags]
        server = subprocess.Popen(command, user=user, cwd=folder, stdout=log, stderr=log)
    try:
        url = f"postgresql://bench@127.0.0.1:{port}/postgres"
        _wait_until_ready(server, url, folder / "log")
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # PostgreSQL's "fast" shutdown
        server.wait()


def _account() -> pwd.struct_passwd | None:
    """Return whom to run as: None for the caller; PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}")
