from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from labs import Lab, open_lab

from adaptive import orders


@dataclass
class Command:
    """Runs `adaptive` in a folder of its own, as a user would."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "adaptive", *arguments],
            cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self.environment, **options,
        )  # fmt: skip

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "adaptive", *arguments],
            cwd=self.folder, capture_output=True, input=stdin, env=self.environment, check=False, timeout=120,
        )  # fmt: skip
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    def letters(self) -> list[dict[str, Any]]:
        """Return the dead letters of the only dead letter file, without its header."""
        [file] = self.folder.glob("*.rejected.jsonl")
        return [json.loads(line) for line in file.read_text().splitlines()[1:]]


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str


@pytest.fixture
def adaptive(tmp_path: Path) -> Command:
    """The command, in an empty folder and without settings from outside."""
    folder = tmp_path / "work"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ADAPTIVE_")}
    return Command(folder, environment)


@pytest.fixture(params=["sqlite", "postgres"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """An empty database of the two kinds that the command is tried with in every way."""
    with open_lab(request, tmp_path) as found:
        yield found


@pytest.fixture
def orders_table(lab: Lab) -> str:
    """The DDL of a table for market orders, made in the lab."""
    lab.execute(
        "CREATE TABLE orders (order_id BIGINT PRIMARY KEY, symbol TEXT NOT NULL, side TEXT, "
        "quantity INTEGER, price NUMERIC(13,4), order_type TEXT, trader_id INTEGER, venue TEXT, "
        f"placed_at {'TIMESTAMPTZ' if lab.name == 'postgres' else 'TEXT'}, note TEXT)"
    )
    return "orders"


@pytest.fixture
def order_file(adaptive: Command) -> Any:
    """Return a function that writes a file of orders and returns its name."""

    def write(name: str, count: int = 3_000) -> str:
        orders.write(adaptive.folder / name, count)
        return name

    return write
