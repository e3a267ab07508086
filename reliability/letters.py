"""Bad rows in loads that are killed, mended, and replayed by commands that are killed: each goes in once."""

from __future__ import annotations

import csv
import json
import sys
from itertools import cycle
from pathlib import Path

from adaptive.testing.processes import Attempt, Moment, at_random, run
from reliability.poison import KINDS, TYPES, spoil
from reliability.trial import ATTEMPTS, Load, Trial

BAD_SHARE = 20  # one row in so many is bad: every batch has some
FOUND_BY_PARSERS = 2  # of the kinds; the others need a table with a key and a check
REJECTED, DONE = 3, 0  # exit codes


def prove(trial: Trial) -> None:
    """Kill loads of a file with bad rows and replays of their mended letters, `times` times in all."""
    kinds = list(KINDS) if trial.database.make("probe") else list(KINDS)[:FOUND_BY_PARSERS]
    file = trial.folder / "spoilt.csv"
    bad = sorted(trial.random.sample(range(2, trial.rows + 1), trial.rows // BAD_SHARE))
    spoil(trial.file, file, dict(zip(bad, cycle(kinds), strict=False)))
    loading = trial.moments()
    while trial.figures["strikes"] < trial.times:
        letters = trial.folder / f"{trial.figures['loads']}.rejected.jsonl"
        # One writer: of two rows with one key, in two batches, the one that is committed first would stay.
        load = trial.new_load(*trial.batch(), "--writers", "1", "--dead-letters", str(letters), file=file)
        load.command[load.command.index("--types") + 1] += f",{TYPES}"
        trial.database.make(load.table)
        _kill_until(
            trial, load.command, loading, REJECTED, most=trial.times // 2, what="killed while loading"
        )
        _check(trial, letters, set(bad))
        _mend(trial, letters)
        _replay(trial, load, letters)
        trial.settle(load, f"after {trial.figures['strikes']} kills")
        trial.progress(f"{trial.figures['strikes']} kills, {len(trial.trouble)} troubles")


def _replay(trial: Trial, load: Load, letters: Path) -> None:
    """Replay the mended letters, killed now and then, and twice more when they are all in."""
    target = ["--to", load.url, "--table", load.table]
    command = [sys.executable, "-m", "adaptive", "replay", str(letters), *target]
    whole = trial.figures["milliseconds of a load"] / 1000
    _kill_until(trial, command, at_random(trial.random.randrange(2**32), whole), DONE,
                most=trial.times, what="killed while replaying")  # fmt: skip
    for _ in range(2):
        trial.expect(trial.run(command), DONE, what="a further replay")


def _kill_until(trial: Trial, command: list[str], at: Moment, code: int, *, most: int, what: str) -> Attempt:
    """Repeat a command until it ends as it should, killing it while there are kills left for it."""
    for _ in range(ATTEMPTS):
        left = trial.figures[what] < most and trial.figures["strikes"] < trial.times
        attempt = run(command, at if left else None, **trial.options)
        if attempt.signal is None or attempt.exit_code >= 0:
            break
        trial.figures["strikes"] += 1
        trial.figures[what] += 1
    if "already loaded" not in attempt.output:  # else the last kill came after the end of the load
        trial.expect(attempt, code, what=f"after {trial.figures[what]} times {what}")
    return attempt


def _check(trial: Trial, file: Path, bad: set[int]) -> None:
    """Check that just the bad rows have letters; an attempt that died may have left a second one."""
    records = [json.loads(line)["position"]["record"] for line in file.read_text().splitlines()[1:]]
    trial.figures["dead letters"] += len(records)
    trial.figures["dead letters of attempts that died"] += len(records) - len(set(records))
    if set(records) != bad:
        trial.note(f"records {bad - set(records)} have no letter, {set(records) - bad} should have none")


def _mend(trial: Trial, file: Path) -> None:
    """Put into each letter what its record should have been, as a person would."""
    with trial.file.open(newline="") as source:
        rows = list(csv.DictReader(source))
    header, *letters = file.read_text().splitlines()
    mended = [header]
    for letter in map(json.loads, letters):
        good = rows[letter["position"]["record"] - 1]
        letter.pop("raw", None)
        letter["row"] = {name: text or None for name, text in good.items()}
        mended.append(json.dumps(letter, ensure_ascii=False))
    file.write_text("\n".join(mended) + "\n")
