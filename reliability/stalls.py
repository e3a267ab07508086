"""Processes and connections that stop without ending, while a second run takes their load over."""

from __future__ import annotations

from signal import SIGCONT, SIGSTOP

from adaptive.testing import FaultProxy, Stall
from adaptive.testing.processes import Attempt, Run, at_random
from reliability.trial import Load, Trial

KEEPALIVE_SECONDS = 2.0  # after which we end a connection, as a server's keepalives do later
LOCKED = "locked"  # what SQLite says of a lock that a stopped process holds


def prove(trial: Trial) -> None:
    """Stop processes (SIGSTOP) and, where there are any, connections; `times` times each."""
    seconds, _ = trial.clean_seconds()
    for turn in range(trial.times):
        _stop(trial, seconds, turn)
        trial.progress(f"{turn + 1} stopped processes, {len(trial.trouble)} troubles")
    if trial.database.commit:
        with trial.proxy() as proxy:
            for turn in range(trial.times):
                _stall(trial, proxy, turn)
                trial.progress(f"{turn + 1} half-open connections, {len(trial.trouble)} troubles")


def _stop(trial: Trial, seconds: float, turn: int) -> None:
    load = trial.new_load(*trial.batch())
    with Run(load.command, **trial.options) as stopped:
        if not stopped.wait_until(at_random(trial.random.randrange(2**32), seconds)):
            trial.figures["ended before it was stopped"] += 1
        stopped.send(SIGSTOP)
        trial.figures["strikes"] += 1
        second = trial.run(load.command)
        _wake(trial, load, stopped, second, turn)
    trial.settle(load, f"stopped process {turn + 1}")


def _wake(trial: Trial, load: Load, stopped: Run, second: Attempt, turn: int) -> None:
    """Let a stopped process go on; it may change nothing once the second run has ended well."""
    before = trial.database.totals(load.table) if second.exit_code == 0 else None
    stopped.send(SIGCONT)
    code, output = stopped.wait(), stopped.output
    if before is None and LOCKED in second.output:  # nobody can end a transaction of SQLite but its process
        trial.figures["stopped in a transaction: the second run gave up, the first one went on"] += 1
        trial.expect(trial.complete(load), 0, what="repeated after both")
        return
    trial.expect(second, 0, what=f"the second run, beside stopped process {turn + 1}")
    _judge(trial, code, output)
    if before != trial.database.totals(load.table):
        trial.note(f"stopped process {turn + 1} changed {before} after it was taken over")


def _stall(trial: Trial, proxy: FaultProxy, turn: int) -> None:
    load = trial.new_load(*trial.batch(), url=proxy.through(trial.database.url))
    direct = [trial.database.url if part == load.url else part for part in load.command]
    proxy.arm(Stall(trial.random.randrange(_size(trial)), "up", over="all"))
    with Run(load.command, **trial.options) as stalled:
        stalled.wait_until(lambda _: bool(proxy.fired))
        trial.figures["strikes"] += bool(proxy.fired)
        with Run(direct, **trial.options) as second:
            if not trial.database.lets_go:
                second.wait_until(lambda look: look.seconds > KEEPALIVE_SECONDS)
                proxy.cut()
            ended = Attempt(second.wait(), second.output, None, None)
        trial.expect(ended, 0, 1, what=f"the second run, beside half-open connection {turn + 1}")
        before = trial.database.totals(load.table)
        proxy.cut()
        _judge(trial, stalled.wait(), stalled.output)
    if ended.exit_code == 0 and before != trial.database.totals(load.table):
        trial.note(f"half-open connection {turn + 1} changed {before} after it was taken over")
    trial.expect(trial.complete(load), 0, what="repeated after both")
    trial.settle(load, f"half-open connection {turn + 1}")


def _size(trial: Trial) -> int:
    """Return a number of bytes that a load surely sends."""
    return trial.file.stat().st_size // 2


def _judge(trial: Trial, code: int, output: str) -> None:
    """Count how a run ended that had been stopped or stalled."""
    if code == 0:
        trial.figures["woke up and found the load done, or had been first"] += 1
    elif code == 1 and "taken over" in output:
        trial.figures["woke up and ended: taken over"] += 1
    else:
        trial.note(f"woke up and ended with exit code {code}: {output.strip()[-600:]}")
