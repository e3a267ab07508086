"""`python -m fuzz [--cases N] [--seed N] [--format F]… [--minutes N]`: exits 1 if a case failed.

Cases run in a process of their own, which a crash or a hang may take down: the file is kept, and the next
process goes on after it.
"""

from __future__ import annotations

import argparse
import faulthandler
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from fuzz.cases import Case, check, mutated
from fuzz.drawn import LINES, files

FORMATS = ("csv", "jsonl", "parquet", "xml")
WATCHDOG = 30.0  # seconds: a case takes 0.03 s; on a busy machine a hundred times that is no hang yet
FAILURES = Path("fuzz-failures")
MOST = 20  # failures, after which a run ends: they mostly have one cause


def main() -> int:
    """Run what the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", action="append", choices=FORMATS)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop starting cases after this time")
    parser.add_argument("--work", nargs=3, metavar=("KIND", "FIRST", "LAST"), help=argparse.SUPPRESS)
    said = parser.parse_args()
    formats = said.format or list(FORMATS)
    until = time.time() + 60 * said.minutes
    if said.work:
        kind, first, last = said.work
        work(kind, formats[0], said.seed, range(int(first), int(last)), until)
        return 0
    FAILURES.mkdir(exist_ok=True)
    done, failed = 0, 0
    for format_ in formats:
        cases = said.cases // len(formats)
        for kind in ("drawn", "mutated") if format_ in LINES else ("mutated",):
            share = cases // 4 if kind == "drawn" else cases - (cases // 4 if format_ in LINES else 0)
            ran, bad = _supervise(kind, format_, said.seed, share, until)
            print(f"{format_} {kind}: {ran:,} cases, {bad} failed", flush=True)
            done, failed = done + ran, failed + bad
    print(f"{done:,} cases, {failed} failed{f'; see {FAILURES}/' if failed else ''}")
    return int(failed > 0)


def _supervise(kind: str, format_: str, seed: int, cases: int, until: float) -> tuple[int, int]:
    """Run cases in processes, a new one after each crash; return how many ran and failed."""
    first, failed = 0, 0
    while first < cases and failed < MOST and time.time() < until:
        (FAILURES / "reached").write_text(str(first))
        (FAILURES / "current").touch()
        minutes = str((until - time.time()) / 60)
        command = [sys.executable, "-m", "fuzz", "--seed", str(seed), "--format", format_,
                   "--minutes", minutes, "--work", kind, str(first), str(cases)]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout, end="")
        failed += done.stdout.count("FAILED")
        reached = int((FAILURES / "reached").read_text())
        if done.returncode == 0:
            return reached, failed
        failed += 1
        kept = (FAILURES / "current").rename(FAILURES / f"{format_}-{kind}-{seed}-{reached - 1}.{format_}")
        print(f"FAILED {kept}: the process ended with {done.returncode} (a crash, or more than {WATCHDOG} s)")
        if kind == "drawn":
            return reached, failed
        first = reached
    return first, failed


def work(kind: str, format_: str, seed: int, numbers: range, until: float) -> None:
    """Run cases in this process, and print those that fail."""
    with tempfile.TemporaryDirectory(prefix="adaptive-fuzz-") as folder:
        if kind == "drawn":
            _drawn(format_, seed, numbers, Path(folder), until)
            return
        failed = 0
        for number in numbers:
            if time.time() > until or failed >= MOST:
                break
            failed += _tried(mutated(format_, seed, number), f"{kind}-{seed}-{number}", number, Path(folder))


def _tried(case: Case, name: str, number: int, folder: Path) -> int:
    try:
        _watched(case, number, folder)
    except Exception as error:
        kept = FAILURES / f"{case.format}-{name}.{case.format}"
        kept.write_bytes(case.content)
        print(f"FAILED {kept} (piece {case.piece}): {type(error).__name__}: {str(error)[:500]}", flush=True)
        if not isinstance(error, AssertionError):
            print(*traceback.format_exception(error)[-4:], sep="")
        return 1
    return 0


def _watched(case: Case, number: int, folder: Path) -> None:
    (FAILURES / "current").write_bytes(case.content)
    (FAILURES / "reached").write_text(str(number + 1))
    faulthandler.dump_traceback_later(WATCHDOG, exit=True)
    check(case, folder)
    faulthandler.cancel_dump_traceback_later()


def _drawn(format_: str, seed: int, numbers: range, folder: Path, until: float) -> None:
    """Let hypothesis draw the files, and make one that fails as small as it can."""
    import hypothesis
    from hypothesis import strategies as st

    seen, last = 0, Case(format_, b"")

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=len(numbers),
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(files(format_), st.sampled_from((7, 50, 333)))
    def attempt(content: bytes, piece: int) -> None:
        nonlocal seen, last
        hypothesis.assume(time.time() < until)
        last = Case(format_, content, piece=piece)
        seen += 1
        _watched(last, seen - 1, folder)

    try:
        attempt()
    except Exception:
        _tried(last, f"drawn-{seed}", seen, folder)


if __name__ == "__main__":
    sys.exit(main())
