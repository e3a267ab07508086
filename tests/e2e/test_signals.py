"""Signals at any moment: exit code 130, and the same command completes the load; what was flushed stays."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals
from typing import Any

import pytest
from labs import Lab

from adaptive import Pipeline
from adaptive.commands import interruptions
from adaptive.errors import InterruptedLoadError
from adaptive.flow import Flow
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
    """A table without a key: a row that comes twice is there twice."""
    lab.execute("CREATE TABLE t (id BIGINT, note TEXT)")
    return lab


def command(lab: Lab, source: str = "t.csv", *more: str) -> list[str]:
    options = ["--to", lab.url, "--table", "t", "--batch", "100", "--queue-size", "400", *more]
    return [sys.executable, "-m", "adaptive", "load", source, *options]


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
        if attempt.exit_code == -number or "init_import_site" in attempt.output:
            continue  # the interpreter's own end: the command had not begun
        assert attempt.exit_code == 130, attempt
        assert not attempt.output or "the same command resumes the load" in attempt.output, attempt
    assert ids(table) == list(range(ROWS))


def swallowed() -> None:
    """Be interrupted amid an import that makes an error of its own of whatever happens."""
    with interruptions([]):
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception as error:
            raise ImportError("no wrapper available") from error


def test_a_library_that_makes_another_error_of_an_interruption_does_not_hide_it() -> None:
    with pytest.raises(InterruptedLoadError, match="the same command resumes"):
        swallowed()


@pytest.mark.parametrize("number", SIGNALS, ids=str)
def test_a_load_of_standard_input_resumes_with_its_name_and_the_same_stream(
    number: Signals, table: Lab, options: dict[str, Any], adaptive: Command
) -> None:
    stream = [*command(table, "-"), "--format", "csv", "--load-id", "stream"]
    codes = []
    for share in (0.1, 2.0):
        with (adaptive.folder / "t.csv").open("rb") as file, Run(stream, stdin=file, **options) as running:
            moment = running.wait_until(lambda _, share=share: len(table.rows("t")) >= share * ROWS)
            if moment:
                running.send(number)
            codes.append(running.wait())
    assert codes in ([130, 0], [0, 0])  # a fast machine may be through before the signal comes
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


class AlarmError(BaseException):
    """What the handler of a signal raises, as Ctrl-C raises KeyboardInterrupt."""


@contextmanager
def alarm(seconds: float) -> Iterator[list[bool]]:
    """Raise AlarmError in the block after a time, wherever it is then; yield what then holds something."""
    rung: list[bool] = []

    def ring(*_: object) -> None:
        rung.append(True)
        raise AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def put_until(seconds: float, lab: Lab, first: int) -> tuple[int, BaseException | None]:
    """Put records until the alarm rings; return how many were taken, and what came out of the block."""
    put = 0
    try:
        with Pipeline(lab.url, table="items") as pipeline, alarm(seconds) as rung:
            while not rung:  # Python swallows what is raised in a callback of a weak reference
                pipeline.put({"item_id": first + put, "name": "x", "amount": 1})
                put += 1
    except (AlarmError, InterruptedLoadError) as error:
        return put, error
    return put, None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_amid_put_loses_no_record_without_a_word(lab: Lab) -> None:
    lab.make_items()
    moments = random.Random(4)
    for first in range(0, 20_000_000, 1_000_000):
        put, error = put_until(moments.uniform(0.0005, 0.03), lab, first)
        written = sorted(row["item_id"] - first for row in lab.rows("items") if row["item_id"] >= first)
        if not isinstance(error, InterruptedLoadError):
            assert put <= len(written) <= put + 1  # of the last one nobody knows whether it was taken
        assert written == sorted(set(written))


def test_records_that_a_signal_has_left_in_doubt_are_reported_by_flush(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise AlarmError

    lab.make_items()
    with Pipeline(lab.url, table="items") as pipeline:
        with monkeypatch.context() as patch:
            patch.setattr(Flow, "offer", interrupted)
            pipeline._buffer.append({"item_id": 1, "name": "x", "amount": 1})
            with pytest.raises(AlarmError):
                pipeline.flush()
        pipeline.put({"item_id": 2, "name": "x", "amount": 1})
        with pytest.raises(InterruptedLoadError, match="1 may be missing"):
            pipeline.flush()
    assert [row["item_id"] for row in lab.rows("items")] == [2]
