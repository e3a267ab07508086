"""Commands that are killed, stopped and repeated: real processes, seen from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adaptive.testing.processes import (
    Look,
    Run,
    after_output,
    at_random,
    limited_file_size,
    repeat,
    run,
    when,
)

SLEEPER = [sys.executable, "-uc", "import time; print('ready'); time.sleep(600)"]
READY = after_output(len("ready\n"))


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-uc", code, *map(str, arguments)]


def counting(path: Path, end: int) -> list[str]:
    """Return a command that adds a line to a file at each run, and ends well at run `end`, else sleeps."""
    code = (
        "import sys, time; file = open(sys.argv[1], 'a+'); file.write('x\\n'); file.flush(); file.seek(0)\n"
        "print('ready'); time.sleep(0 if len(file.readlines()) >= int(sys.argv[2]) else 600)"
    )
    return python(code, path, end)


def test_a_command_that_is_left_alone_reports_its_end() -> None:
    attempt = run(python("import sys; print('out'); sys.stderr.write('err'); sys.exit(3)"))
    assert (attempt.exit_code, attempt.output, attempt.signal) == (3, "out\nerr", None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_is_killed_when_it_has_written_something(number: signal.Signals) -> None:
    attempt = run(SLEEPER, READY, number)
    assert (attempt.exit_code, attempt.output, attempt.signal) == (-number, "ready\n", number)
    assert attempt.moment
    assert attempt.moment.written == 6


def test_a_command_is_killed_when_something_else_is_observed(tmp_path: Path) -> None:
    made = tmp_path / "made"
    code = "import sys, time, pathlib; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
    assert run(python(code, made), when(made.exists)).exit_code == -signal.SIGKILL


def test_a_command_that_ends_before_the_moment_is_not_killed() -> None:
    attempt = run(python("print('short')"), after_output(1_000))
    assert (attempt.exit_code, attempt.signal, attempt.moment) == (0, None, None)


def test_a_moment_that_does_not_come_is_an_error_and_nothing_goes_on_running() -> None:
    with Run(SLEEPER) as running, pytest.raises(TimeoutError, match="within 0 s"):
        running.wait_until(after_output(1_000), timeout=0)
    assert running.wait() == -signal.SIGKILL


def test_a_stopped_command_does_nothing_until_it_is_continued() -> None:
    with Run(SLEEPER) as running:
        running.wait_until(READY)
        running.send(signal.SIGSTOP)
        running.send(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.1)
        running.send(signal.SIGCONT)
        assert running.wait() == -signal.SIGTERM


def test_a_command_is_repeated_until_it_ends_well(tmp_path: Path) -> None:
    report = repeat(counting(tmp_path / "runs", 4), READY, kills=3)
    assert [attempt.exit_code for attempt in report.attempts] == [-signal.SIGKILL] * 3 + [0]
    assert (report.kills, report.exit_code) == (3, 0)


def test_repeating_ends_after_so_many_attempts() -> None:
    report = repeat(python("raise SystemExit(1)"), attempts=3)
    assert [attempt.exit_code for attempt in report.attempts] == [1, 1, 1]
    assert repeat(python("raise SystemExit(1)"), allowed=(0, 1)).exit_code == 1


def test_random_moments_differ_from_run_to_run_and_repeat_with_their_seed() -> None:
    def moments(seed: int) -> list[int]:
        moment = at_random(seed, 1.0)
        looks = [Look(step / 1_000, 0) for step in range(1_002)]
        return [next(step for step, look in enumerate(looks) if moment(look)) for _ in range(5)]

    assert moments(1) == moments(1) != moments(2)
    assert len(set(moments(1))) == 5


def test_a_limited_file_size_makes_writes_fail_as_a_full_disk_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    code = (
        "import sys, os, errno\n"
        "try:\n"
        "    with open(sys.argv[1], 'wb', buffering=0) as file:\n"
        "        while True: file.write(bytes(1_000))\n"
        "except OSError as error:\n"
        "    sys.exit(error.errno == errno.EFBIG and 9)"
    )
    attempt = run(python(code, path), preexec_fn=limited_file_size(10_500))
    assert attempt.exit_code == 9, attempt.output
    assert path.stat().st_size == 10_500
