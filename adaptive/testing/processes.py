"""Run a command and kill it, again and again, to test that it resumes.

report = repeat([sys.executable, "-m", "adaptive", "load", "orders.csv", "--to", url], at=at_random(1, 2.0))
assert report.exit_code == 0, report
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from signal import Signals
from typing import IO, Any, TypeAlias

POLL_SECONDS = 0.005  # between two looks at a process: fine against the second that a small load takes
PATIENCE_SECONDS = 120.0  # for one run of the command; one that takes longer hangs


@dataclass(frozen=True)
class Look:
    """What can be seen of a running command: seconds since it began, bytes it has written to its output."""

    seconds: float
    written: int


Moment: TypeAlias = Callable[[Look], bool]


@dataclass(frozen=True)
class Attempt:
    """One run of a command: its exit code (negative: the signal), output, and the signal we sent and when."""

    exit_code: int
    output: str
    signal: Signals | None
    moment: Look | None


@dataclass(frozen=True)
class Report:
    """All runs of a command, in order."""

    attempts: tuple[Attempt, ...]

    @property
    def exit_code(self) -> int:
        """Return how the last run ended."""
        return self.attempts[-1].exit_code

    @property
    def kills(self) -> int:
        """Return how many runs were signalled."""
        return sum(attempt.signal is not None for attempt in self.attempts)


def at_random(seed: int, seconds: float) -> Moment:
    """Return a moment for each run, drawn evenly from its first `seconds`; a seed repeats the series."""
    source = random.Random(seed)  # noqa: S311 - a test has to be repeatable
    due = seconds

    def reached(look: Look) -> bool:
        nonlocal due
        if look.seconds == 0:
            due = source.uniform(0, seconds)
        return look.seconds >= due

    return reached


def after_output(size: int) -> Moment:
    """Return the moment at which a run has written `size` bytes to its output or its errors."""
    return lambda look: look.written >= size


def when(observed: Callable[[], bool]) -> Moment:
    """Return the moment at which something else is observed, such as rows in a table."""
    return lambda _: observed()


class Run:
    """A running command. Its output goes to a file: it never waits for somebody to read it.

    `options` are those of `subprocess.Popen`. Leaving the `with` block kills what still runs.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._started = time.monotonic()
        streams = {"stdin": subprocess.DEVNULL, "stdout": self._output, "stderr": subprocess.STDOUT}
        self._process = subprocess.Popen(command, **{**streams, **options})  # noqa: S603

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()

    @property
    def look(self) -> Look:
        """Return what can be seen now."""
        return Look(time.monotonic() - self._started, os.fstat(self._output.fileno()).st_size)

    @property
    def output(self) -> str:
        """Return what was written so far, to the output and the errors."""
        return os.pread(self._output.fileno(), self.look.written, 0).decode(errors="replace")

    def send(self, number: Signals) -> None:
        """Send a signal, such as SIGKILL, SIGTERM or SIGCONT; after SIGSTOP wait until it has stopped.

        A command that has ended gets none.
        """
        self._process.send_signal(number)
        if number == signal.SIGSTOP and self._process.returncode is None:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def wait(self, timeout: float = PATIENCE_SECONDS) -> int:
        """Wait for the end and return the exit code. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout)

    def wait_until(self, moment: Moment, timeout: float = PATIENCE_SECONDS) -> Look | None:
        """Wait for a moment and return what was seen then, or None if the command ended before.

        Raises TimeoutError.
        """
        look = Look(0, 0)
        while not moment(look):
            if self._process.poll() is not None:
                return None
            if look.seconds > timeout:
                raise TimeoutError(f"the moment has not come within {timeout} s; output: {self.output}")
            time.sleep(POLL_SECONDS)
            look = self.look
        return look


def run(
    command: Sequence[str], at: Moment | None = None, number: Signals = signal.SIGKILL, **options: Any
) -> Attempt:
    """Run a command once, signal it at a moment if one is given, and wait for its end."""
    with Run(command, **options) as running:
        moment = running.wait_until(at) if at else None
        if moment:
            running.send(number)
        exit_code = running.wait()
        return Attempt(exit_code, running.output, number if moment else None, moment)


def repeat(
    command: Sequence[str],
    at: Moment | None = None,
    number: Signals = signal.SIGKILL,
    *,
    kills: int = 10,
    allowed: Collection[int] = (0,),
    attempts: int = 20,
    **options: Any,
) -> Report:
    """Run a command until it ends with an allowed exit code, signalling the first `kills` runs.

    It stops after `attempts` runs, too; then the report's `exit_code` is not an allowed one.
    """
    done: list[Attempt] = []
    while len(done) < attempts and not (done and done[-1].exit_code in allowed):
        done.append(run(command, at if len(done) < kills else None, number, **options))
    return Report(tuple(done))


def limited_file_size(size: int) -> Callable[[], None]:
    """Return a `preexec_fn` under which writing beyond `size` bytes of any file fails with EFBIG.

    It stands for a full disk, which an ordinary user cannot make. Both end a write with an OSError (or
    SQLite's "disk I/O error", where a full disk says "database or disk is full").
    """

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # it would kill the process instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit
