"""The ways to load orders that are compared: `adaptive` and its peers, as commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.inputs import Input

ADAPTIVE = str(Path(sys.executable).parent / "adaptive")


class Place(NamedTuple):
    """Where a contender reads and writes; `scratch` is an empty folder."""

    file: Path
    url: str
    rows: int
    scratch: Path
    peer_python: Path

    @property
    def metrics(self) -> Path:
        """Return where `adaptive load` leaves its metrics."""
        return self.scratch / "metrics.json"


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a case. `terminal` gives it one, so that it draws its progress."""

    name: str
    command: Callable[[Place], list[str]]
    input: Input | None = None
    terminal: bool = False
    loses_nulls: bool = False


def adaptive(name: str, source: Input, *flags: str) -> Contender:
    """Return `adaptive load` as people run it: ledger, checks and progress on."""

    def command(at: Place) -> list[str]:
        files = ["--metrics-json", str(at.metrics), "--dead-letters", str(at.scratch / "rejected.jsonl")]
        return [ADAPTIVE, "load", str(at.file), "--to", at.url, "--table", "orders", *files, *flags]

    return Contender(name, command, source, terminal=True)


def peer(name: str, source: Input) -> Contender:
    """Return a peer of `benchmarks.peers`."""

    def command(at: Place) -> list[str]:
        return [str(at.peer_python), "-m", "benchmarks.peers", name, str(at.file), at.url]

    return Contender(name, command, source)


def from_dicts(name: str) -> Contender:
    """Return a way of `benchmarks.dicts`."""

    def command(at: Place) -> list[str]:
        return [sys.executable, "-m", "benchmarks.dicts", name, str(at.rows), at.url]

    return Contender(name, command, Input())


def from_rows(way: str, source: Input, name: str = "") -> Contender:
    """Return a way of `benchmarks.rows`, by its own name if none is given."""

    def command(at: Place) -> list[str]:
        some = json.dumps(asdict(source))
        return [sys.executable, "-m", "benchmarks.rows", way, str(at.rows), at.url, some]

    return Contender(name or way, command, source)


def psql(source: Input) -> Contender:
    r"""Return psql's \copy."""

    def command(at: Place) -> list[str]:
        return ["psql", "-X", "-q", at.url, "-c", f"\\copy orders FROM '{at.file}' WITH (FORMAT csv, HEADER)"]

    return Contender("psql", command, source)


def sqlite_import(source: Input) -> Contender:
    """Return the sqlite3 command's .import, which stores an absent note as empty text."""

    def command(at: Place) -> list[str]:
        return ["sqlite3", at.url.removeprefix("sqlite:///"), f".import --csv --skip 1 '{at.file}' orders"]

    return Contender("import", command, source, loses_nulls=True)


def command(name: str, *words: str) -> Contender:
    """Return a command that loads nothing."""
    return Contender(name, lambda _: list(words))
