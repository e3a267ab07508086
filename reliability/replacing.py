"""Loads that replace a table, killed at every step: the old rows or the new ones, never a mixture."""

from __future__ import annotations

from pathlib import Path

from adaptive import orders
from adaptive.testing.processes import Moment, run
from reliability.databases import LEDGER, Totals
from reliability.trial import ATTEMPTS, Trial

OLD_SHARE = 10  # the old rows are a tenth of the new ones


def prove(trial: Trial) -> None:
    """Kill loads with `--mode replace` `times` times, half of them while rows are written or swapped in."""
    old_file = trial.folder / "old.csv"
    orders.write(old_file, trial.rows // OLD_SHARE, trial.seed + 1)
    moment = trial.moments()
    while trial.figures["strikes"] < trial.times:
        _replace(trial, old_file, moment)
        trial.progress(f"{trial.figures['strikes']} kills, {len(trial.trouble)} troubles")


def _replace(trial: Trial, old_file: Path, moment: Moment) -> None:
    load = trial.new_load(*trial.batch(), "--mode", "replace")
    before = trial.command(load.table, "--create", file=old_file)
    trial.expect(trial.run(before), 0, what="the load of the old rows")
    old = trial.database.totals(load.table)
    for _ in range(ATTEMPTS):
        left = trial.figures["strikes"] < trial.times
        attempt = run(load.command, moment if left else None, **trial.options)
        if attempt.signal is None or attempt.exit_code >= 0:
            trial.expect(attempt, 0, what=f"after {trial.figures['strikes']} kills")
            break
        trial.figures["strikes"] += 1
        trial.figures[_place(trial, load.table, old)] += 1
    trial.settle(load, f"after {trial.figures['strikes']} kills")
    if strays := trial.database.tables() - LEDGER - {load.table}:
        trial.note(f"staging tables are left: {strays}")


def _place(trial: Trial, table: str, old: Totals) -> str:
    """Return at which step a run was killed, by what is committed; note rows that are neither old nor new."""
    with trial.database.peek() as database:
        found = database.totals(table)
        staging = database.tables() - LEDGER - {table}
        staged = sum(database.rows(name) for name in staging)
    if found not in (old, trial.expected):
        trial.figures["mixtures"] += 1
        trial.note(f"neither the old rows nor the new ones: {found}")
    if found == trial.expected:
        return "killed after the swap (new rows)"
    if not staging:
        return "killed before prepare (old rows)"
    if staged < trial.rows:
        return "killed while staging (old rows)" if staged else "killed after prepare (old rows)"
    return "killed when all was staged, or in the swap (old rows)"
