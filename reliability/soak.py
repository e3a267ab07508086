"""Loads for a long time, at full rate, with faults at random: nothing is lost, nothing stays behind."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from adaptive.testing import Cut, Delay, FaultProxy
from adaptive.testing.faults import Planned
from adaptive.testing.processes import run
from reliability.databases import LEDGER
from reliability.trial import Load, Trial

LOCAL_FAULTS = ("none", "kill")  # what can happen where there is no connection and no server
FAULTS = (*LOCAL_FAULTS, "cut", "cut", "cuts", "delay", "restart")
DELAY_SECONDS = 0.002  # before each segment of 64 kB or less: a line of some 30 MB/s
# What a process may grow by from the second quarter of the soak to the last: its memory wanders by about
# a tenth from load to load, as batches and what the allocators keep differ.
GROWTH = 1.15
SETTLED_SECONDS = 90  # a server ends what a killed client left open within that time


def prove(trial: Trial) -> None:
    """Load for `times` minutes, then look what is left: in the process, the server and the folders."""
    load_for(trial, 60 * trial.times)


def load_for(trial: Trial, duration: float) -> None:
    """Load for so many seconds, then look what is left."""
    (seconds, _), samples = trial.clean_seconds(), []
    end = time.monotonic() + duration
    with _way(trial) as (url, proxy), _worker(trial, url) as worker:
        while time.monotonic() < end:
            fault = trial.random.choice(FAULTS if proxy else LOCAL_FAULTS)
            load = trial.new_load()
            samples.append(_load(trial, worker, load, proxy, fault, seconds))
            trial.settle(load, f"load {len(samples)} with {fault}")
            trial.progress(f"load {len(samples)} with {fault}: {samples[-1]}, {len(trial.trouble)} troubles")
        last = _end(worker)
    _look_at_growth(trial, samples, last)
    _sweep(trial)
    _look_for_remains(trial)


@contextmanager
def _way(trial: Trial) -> Iterator[tuple[str, FaultProxy | None]]:
    """Yield the URL that leads to the database, through a proxy where there is a connection."""
    if not trial.database.commit:
        yield trial.database.url, None
        return
    with trial.proxy() as proxy:
        yield proxy.through(trial.database.url), proxy


@contextmanager
def _worker(trial: Trial, url: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "reliability.worker", str(trial.file), url, trial.database.types]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, **trial.options) as worker:
        yield worker
    if worker.returncode:
        trial.note(f"the worker ended with exit code {worker.returncode}")


def _end(worker: subprocess.Popen[str]) -> dict[str, int]:
    """End the worker; return what it still held."""
    cast("IO[str]", worker.stdin).close()
    last: dict[str, int] = json.loads(cast("IO[str]", worker.stdout).readline())
    return last


def _load(
    trial: Trial,
    worker: subprocess.Popen[str],
    load: Load,
    proxy: FaultProxy | None,
    fault: str,
    seconds: float,
) -> dict[str, Any]:
    """Have the worker load a table with a fault under way; return what the worker holds afterwards."""
    told, answers = cast("IO[str]", worker.stdin), cast("IO[str]", worker.stdout)
    if proxy:
        proxy.arm(*_plan(trial, fault))
    beside = threading.Thread(target=_strike, args=[trial, load, fault, trial.random.uniform(0, seconds)])
    told.write(f"{load.table}\n")
    told.flush()
    beside.start()
    answer = answers.readline()
    beside.join()
    if not answer:
        raise RuntimeError(f"the worker ended: {worker.wait()}")
    held: dict[str, Any] = json.loads(answer)
    trial.figures[f"loads with {fault}"] += 1
    trial.figures["strikes"] += len(proxy.fired) if proxy else 0
    trial.figures["errors that a repetition mended"] += len(held["errors"])
    if not held["done"]:
        trial.note(f"a load with {fault} was not done: {held['errors'][-1]}")
    return held


def _plan(trial: Trial, fault: str) -> list[Planned]:
    size = trial.file.stat().st_size
    if fault == "delay":
        return [Delay(DELAY_SECONDS)]
    cuts = {"cut": 1, "cuts": 5}.get(fault, 0)
    return [Cut(trial.random.randrange(size), over="all") for _ in range(cuts)]


def _strike(trial: Trial, load: Load, fault: str, moment: float) -> None:
    """Do what does not happen on the connection: another process is killed, the server crashes."""
    if fault == "kill":
        attempt = run(load.command, lambda look: look.seconds >= moment, **trial.options)
        trial.figures["strikes"] += attempt.signal is not None
    elif fault == "restart":
        time.sleep(moment)
        trial.figures["strikes"] += (restarted := trial.database.restart())
        trial.figures["restarts of the server"] += restarted


def _look_at_growth(trial: Trial, samples: list[dict[str, Any]], last: dict[str, int]) -> None:
    for what in ("threads", "files"):
        least = min(one[what] for one in samples)
        trial.figures[f"{what} after the last load"] = last[what]
        if last[what] > least:
            trial.note(f"the process held {least} {what} once, and {last[what]} in the end")
    quarter = len(samples) // 4
    if not quarter:
        return
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    before, after = (statistics.median(one["memory"] for one in some) for some in (early, late))
    slope, _ = statistics.linear_regression(range(len(samples)), [one["memory"] for one in samples])
    trial.figures["memory, second quarter, MB"] = round(before / 1e6)
    trial.figures["memory, last quarter, MB"] = round(after / 1e6)
    trial.figures["memory, slope, kB a load"] = round(slope / 1e3)
    if after > GROWTH * before:
        trial.note(f"memory grew from {before / 1e6:.0f} to {after / 1e6:.0f} MB")


def _sweep(trial: Trial) -> None:
    """Have a load remove the staging files of killed ones, which it does once they are a minute old."""
    for folder in trial.temporary.iterdir():
        os.utime(folder, (0, 0))
    load = trial.new_load()
    trial.expect(trial.run(load.command), 0, what="the last load")
    trial.settle(load, "the last load")


def _look_for_remains(trial: Trial) -> None:
    deadline = time.monotonic() + SETTLED_SECONDS
    while trial.database.sessions() and time.monotonic() < deadline:
        time.sleep(0.5)
    remains = {
        "connections": trial.database.sessions(),
        "tables beside the ledger": len(trial.database.tables() - LEDGER),
        "temporary files": len(list(trial.temporary.iterdir())),
        "dead letter files": len(list(trial.folder.glob("*.jsonl"))),
    }
    for what, number in remains.items():
        trial.figures[f"{what} left"] = number
        if number:
            trial.note(f"{number} {what} are left: {trial.database.tables()}, {[*trial.temporary.iterdir()]}")
