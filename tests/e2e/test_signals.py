"""Signals at any moment: exit code 130, and the same command completes the load; what was flushed stays."""

from __future__ import annotations

import signal
import sys
from signal import Signals
from typing import Any

import pytest
from labs import Lab

from adaptive.testing.processes import Look, Moment, Run, repeat
from e2e.conftest import Command

ROWS = 10_000
SIGNALS = [signal.SIGINT, signal.SIGTERM]
STEPS = 6  # signals, spread over the time that a load takes


@pytest.fixture
def options(adaptive: Command) -> dict[str, Any]:
    """The options of a process that runs the command, and a file of records in its folder."""
    lines = "".join(f"{number},{'y' * 20}\n" for number in range(ROWS))
    (adaptive.folder / "t.csv").write_text("id,note\n" + lines)
    return {"cwd": adaptive.folder, "env": adaptive.environment}


@pytest.fixture
def table(lab: Lab) -> Lab:
    lab.execute(
        "CREATE TABLE t (id BIGINT, note TEXT)"
    )  # without a key: a row that comes twice is there twice
    return lab


def command(lab: Lab, source: str = "t.csv", *more: str) -> list[str]:
    arguments = [
        "load",
        source,
        "--to",
        lab.url,
        "--table",
        "t",
        "--batch",
        "100",
        "--queue-size",
        "400",
        *more,
    ]
    return [sys.executable, "-m", "adaptive", *arguments]


def steps(seconds: float) -> Moment:
    """Return the moments of the runs: each a step later than the last, over the time of a whole load."""
    due = 0.0

    def reached(look: Look) -> bool:
        nonlocal due
        if look.seconds == 0:
            due += seconds / STEPS
        return look.seconds >= due

    return reached


def seconds_of(command: list[str], table: Lab, options: dict[str, Any]) -> float:
    """Return how long the command takes that nobody disturbs, and empty the table."""
    with Run([*command, "--again"], **options) as undisturbed:
        assert undisturbed.wait() == 0, undisturbed.output
        taken = undisturbed.look.seconds
    for name in ("t", "_adaptive_loads", "_adaptive_splits", "_adaptive_ledger"):
        table.execute(f"DELETE FROM {name}")
    return taken


def ids(lab: Lab) -> list[int]:
    return sorted(row["id"] for row in lab.rows("t"))


@pytest.mark.parametrize("number", SIGNALS, ids=str)
def test_a_load_of_a_file_that_is_interrupted_again_and_again_completes(
    number: Signals, table: Lab, options: dict[str, Any]
) -> None:
    seconds = seconds_of(command(table), table, options)
    report = repeat(command(table), steps(seconds), number, kills=STEPS, **options)
    assert report.exit_code == 0, report
    for attempt in report.attempts[:-1]:
        # Before the command has begun, the interpreter ends as the signal has it.
        assert attempt.exit_code in (130, -number), attempt
        resumable = "the same command resumes the load" in attempt.output
        assert resumable or not attempt.output or attempt.exit_code == -number, attempt
    assert ids(table) == list(range(ROWS))


@pytest.mark.parametrize("number", SIGNALS, ids=str)
def test_a_load_of_standard_input_resumes_with_its_name_and_the_same_stream(
    number: Signals, table: Lab, options: dict[str, Any], adaptive: Command
) -> None:
    stream = [*command(table, "-"), "--format", "csv", "--load-id", "stream"]
    codes = []
    for share in (0.4, 2.0):
        with (adaptive.folder / "t.csv").open("rb") as file, Run(stream, stdin=file, **options) as running:
            moment = running.wait_until(lambda _, share=share: len(table.rows("t")) >= share * ROWS)
            if moment:
                running.send(number)
            codes.append(running.wait())
    assert codes == [130, 0]
    assert ids(table) == list(range(ROWS))


PROGRAM = """
import sys
import adaptive

with adaptive.Pipeline(sys.argv[1], table="t") as pipeline:
    for number in range(1_000_000_000):
        pipeline.put({"id": number, "note": "x"})
        if number % 1_000 == 999:
            pipeline.flush()
            print(number + 1, flush=True)
"""


def test_a_program_that_is_killed_has_what_it_flushed(table: Lab, options: dict[str, Any]) -> None:
    with Run([sys.executable, "-c", PROGRAM, table.url], **options) as running:
        running.wait_until(lambda look: look.written > 20)
        running.send(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
        flushed = int(running.output.split()[-1])
    found = ids(table)
    assert found == list(range(len(found)))
    assert flushed <= len(found)
