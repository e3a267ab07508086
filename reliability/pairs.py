"""Two processes on the same load at once, with batches of different sizes."""

from __future__ import annotations

import time

from adaptive.testing.processes import Run
from reliability.trial import BATCHES, Load, Trial


def prove(trial: Trial) -> None:
    """Run two processes at once, `times` times; the second begins somewhere in the first one's time."""
    seconds, _ = trial.clean_seconds()
    for turn in range(trial.times):
        first, second = trial.random.sample(BATCHES, 2)
        load = trial.new_load()
        _race(trial, load, (first, second), trial.random.uniform(0, seconds))
        trial.settle(load, f"pair {turn + 1} ({first} and {second})")
        trial.progress(f"{turn + 1} pairs, {len(trial.trouble)} troubles")


def _race(trial: Trial, load: Load, batches: tuple[str, str], offset: float) -> None:
    commands = [[*load.command, "--batch", batch] for batch in batches]
    with Run(commands[0], **trial.options) as one:
        time.sleep(offset)
        with Run(commands[1], **trial.options) as other:
            found = [(run.wait(), run.output) for run in (one, other)]
    ends = sorted(_end(*each) for each in found)
    trial.figures["strikes"] += 1
    trial.figures[f"pairs: {ends[0]} and {ends[1]}"] += 1
    if ends not in (["complete", "taken over"], ["complete", "found it done"]):
        trial.note(f"a pair with batches {batches}, {offset:.2f} s apart, ended {found}")


def _end(code: int, output: str) -> str:
    if code == 0:
        return "found it done" if "already loaded" in output else "complete"
    return "taken over" if code == 1 and "taken over" in output else f"exit code {code}"
