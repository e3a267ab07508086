"""kill -9 at random moments of loads that are repeated until they are complete."""

from __future__ import annotations

from adaptive.testing.processes import run
from reliability.trial import ATTEMPTS, Load, Trial


def prove(trial: Trial) -> None:
    """Kill loads `times` times; half of the moments fall while rows are written."""
    moment = trial.moments()
    while trial.figures["strikes"] < trial.times:
        load = trial.new_load(*trial.batch())
        for _ in range(ATTEMPTS):
            left = trial.figures["strikes"] < trial.times
            attempt = run(load.command, moment if left else None, **trial.options)
            if attempt.signal is None or attempt.exit_code >= 0:  # it ended while the signal was on its way
                trial.expect(attempt, 0, what=f"after {trial.figures['strikes']} kills")
                break
            trial.figures["strikes"] += 1
            trial.figures[_place(trial, load)] += 1
        else:
            trial.note(f"a load is not complete after {ATTEMPTS} runs")
        trial.settle(load, f"after {trial.figures['strikes']} kills")
        trial.progress(f"{trial.figures['strikes']} kills, {len(trial.trouble)} troubles")
    trial.figures["temporary files left"] = len(list(trial.temporary.iterdir()))


def _place(trial: Trial, load: Load) -> str:
    """Return where in its load a run was killed, by what is committed."""
    with trial.database.peek() as database:
        rows = database.rows(load.table)
    if rows == trial.rows:
        return "killed after the last batch's commit"
    return "killed between commits" if rows else "killed before the first commit"
