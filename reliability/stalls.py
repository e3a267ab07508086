"""Processes and connections that stop without ending, while a second run takes their load over."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from signal import SIGCONT, SIGSTOP

from adaptive.testing import FaultProxy, Stall
from adaptive.testing.processes import Attempt, Run
from reliability.trial import Load, Trial

# The second run gets so long beside a stopped process: PostgreSQL ends an idle transaction after 60 s. Where
# the second run waits for the first, that one is woken earlier.
PATIENCE_SECONDS, WAITING_SECONDS = 75.0, 10.0
# After so long we end a half-open connection. A server's keepalives do it later (within about 60 s), and
# not at all here: our proxy's machine answers them.
KEEPALIVE_SECONDS = 3.0
LOCKED = "locked"  # what SQLite says of a lock that a stopped process holds


def prove(trial: Trial) -> None:
    """Stop processes (SIGSTOP) and, where there are any, connections; `times` times each."""
    seconds, feeding = trial.clean_seconds()
    for turn in range(trial.times):
        _stop(trial, trial.random.uniform(seconds - feeding, seconds))
        trial.progress(f"{turn + 1} stopped processes, {len(trial.trouble)} troubles")
    if trial.database.commit:
        connections(trial)


def connections(trial: Trial) -> None:
    """Leave `times` connections half-open, at random bytes of what goes up."""
    with trial.proxy() as proxy:
        for turn in range(trial.times):
            _stall(trial, proxy)
            trial.progress(f"{turn + 1} half-open connections, {len(trial.trouble)} troubles")


def _stop(trial: Trial, moment: float) -> None:
    load = trial.new_load(*trial.batch())
    with Run(load.command, **trial.options) as stopped:
        if not stopped.wait_until(lambda look: look.seconds >= moment):
            trial.figures["ended before it was stopped"] += 1
        stopped.send(SIGSTOP)
        trial.figures["strikes"] += 1
        patience = WAITING_SECONDS if trial.database.waits else PATIENCE_SECONDS
        waited = take_over(trial, load, stopped, lambda: stopped.send(SIGCONT), patience)
        if waited and not trial.database.waits:
            trial.note(f"beside a stopped process the second run still waits after {patience:g} s")
    trial.settle(load, "a stopped process")


def _stall(trial: Trial, proxy: FaultProxy) -> None:
    load = trial.new_load(*trial.batch(), url=proxy.through(trial.database.url))
    direct = [trial.database.url if part == load.url else part for part in load.command]
    proxy.arm(Stall(trial.random.randrange(trial.file.stat().st_size // 2), "up", over="all"))
    with Run(load.command, **trial.options) as stalled:
        stalled.wait_until(lambda _: bool(proxy.fired))
        trial.figures["strikes"] += bool(proxy.fired)
        take_over(trial, Load(load.table, load.url, direct), stalled, proxy.cut, KEEPALIVE_SECONDS)
    trial.settle(load, "a half-open connection")


def take_over(trial: Trial, load: Load, first: Run, wake: Callable[[], None], patience: float) -> bool:
    """Run a load beside its first run, then wake that one; return whether the second had to wait for it.

    Once the second run has ended well, the first one may change nothing.
    """
    with Run(load.command, **trial.options) as second:
        waits = not _ended(second, patience)
        ended = not waits and second.wait() == 0
        before = trial.database.totals(load.table) if ended else None
        wake()
        code, output = first.wait(), first.output
        beside = Attempt(second.wait(), second.output, None, None)
    trial.figures["the second run ended only after the first was woken or cut"] += waits
    if beside.exit_code and LOCKED in beside.output:  # only its process can end a transaction of SQLite
        trial.figures["stopped in a transaction: the second run gave up"] += 1
    else:
        trial.expect(beside, *((0, 1) if waits else (0,)), what="the second run")
    _judge(trial, code, output)
    if before and before != trial.database.totals(load.table):
        trial.note(f"the first run changed {before} after it was taken over")
    trial.expect(trial.complete(load), 0, what="repeated after both")
    return waits


def _ended(run: Run, seconds: float) -> bool:
    try:
        run.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _judge(trial: Trial, code: int, output: str) -> None:
    """Count how a run ended that had been stopped or stalled."""
    if code == 0:
        trial.figures["the first run found the load done, or had been first"] += 1
    elif code == 1 and "taken over" in output:
        trial.figures["the first run ended: taken over"] += 1
    else:
        trial.note(f"the first run ended with exit code {code}: {output.strip()[-600:]}")
