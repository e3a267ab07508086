"""Bad rows: each costs itself, few further writes, and can be found in the file by its dead letter."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import adaptive
from adaptive import orders
from adaptive.sinks import sink_class
from reliability.trial import Trial

TYPES = "order_id=int64,quantity=int32,trader_id=int32,placed_at=timestamptz"
_COMMA = re.compile(r",(?![^(]*\))")  # not that of decimal(18,4)
ONE_IN = 100_000  # rows, one of them bad
PLACES = 5  # where that one stands, drawn
FURTHER_WRITES = 25  # that the one may cost


# What makes a row bad; the second argument is the row before it.
KINDS: dict[str, Callable[[list[str], list[str]], list[str]]] = {
    "no integer": lambda row, _: [*row[:3], "many", *row[4:]],
    "a field too many": lambda row, _: [*row, "more"],
    "repeated key": lambda row, before: [before[0], *row[1:]],
    "violated check": lambda row, _: [*row[:3], "-1", *row[4:]],
}


def prove(trial: Trial) -> None:
    """Load a file with `times` bad rows; then, on a single batch, count the writes for one bad row."""
    kinds = list(KINDS) if trial.database.make("probe") else list(KINDS)[:-1]
    _many(trial, kinds)
    for kind in kinds[2:]:  # found by the database; the others are by the parser
        _one(trial, kind)


def _many(trial: Trial, kinds: list[str]) -> None:
    file = trial.folder / "poison.csv"
    bad = sorted(trial.random.sample(range(2, trial.rows + 1), trial.times))  # the first one repeats no key
    expected = spoil(trial.file, file, dict(zip(bad, cycle(kinds), strict=False)))
    options = ["--key", "order_id", "--writers", "1", "--dead-letters", str(trial.folder / "letters.jsonl")]
    load = trial.new_load(*options, *trial.batch(), file=file)
    load.command[load.command.index("--types") + 1] += f",{TYPES}"
    trial.database.make(load.table)
    attempt = trial.run(load.command)
    trial.expect(attempt, 3 if bad else 0, what="a load with bad rows")
    letters = [json.loads(line) for line in (trial.folder / "letters.jsonl").read_text().splitlines()[1:]]
    trial.figures.update({"strikes": len(bad), "dead letters": len(letters)})
    _compare(trial, file, expected, letters)
    found, good = trial.database.keys(load.table), _keys(trial.file, set(expected))
    trial.figures["loads"] += 1
    trial.figures["rows counted"] += (rows := trial.database.rows(load.table))
    trial.figures["lost"] += len(good - found)
    trial.figures["duplicated"] += rows - len(found)
    if found != good or rows != len(good):
        trial.note(f"{len(good - found)} good rows are missing, {rows - len(good)} are too many")


def spoil(clean: Path, file: Path, bad: dict[int, str]) -> dict[int, tuple[int, list[str]]]:
    """Write the orders with bad rows by record number; return of each the line it begins in, and the row."""
    made: dict[int, tuple[int, list[str]]] = {}
    line, before = 2, [""]
    with clean.open(newline="") as source, file.open("w", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        rows = csv.reader(source)
        writer.writerow(next(rows))
        for number, row in enumerate(rows, start=1):
            if number in bad:
                made[number] = line, (spoiled := KINDS[bad[number]](row, before))
                writer.writerow(spoiled)
            else:
                writer.writerow(row)
                before = row
            line += 1 + sum(field.count("\n") for field in row)
    return made


def _compare(
    trial: Trial, file: Path, expected: dict[int, tuple[int, list[str]]], letters: list[dict[str, Any]]
) -> None:
    """Check that each letter leads to its row: by record number, and by line where it names one."""
    numbers = Counter(letter["position"]["record"] for letter in letters)
    if numbers != Counter(list(expected)):
        missing, others = set(expected) - set(numbers), set(numbers) - set(expected)
        trial.note(f"dead letters: records {missing} have none, {others} should have none: {numbers}")
    for letter in letters:
        place = letter["position"]
        line, row = expected.get(place["record"], (0, []))
        named = place.get("line")
        trial.figures["dead letters that name the line"] += named is not None
        if row and (place["file"] != str(file) or named not in (None, line)):
            trial.note(f"the letter of record {place['record']} says {place}, it stands in line {line}")
        held = letter.get("raw") or str(letter["row"]["order_id"])
        if row and not held.startswith(row[0]):
            trial.note(f"the letter of record {place['record']} holds {held}, not {row}")


def _keys(file: Path, without: set[int]) -> set[int]:
    with file.open(newline="") as source:
        rows = enumerate(islice(csv.reader(source), 1, None), start=1)
        return {int(row[0]) for number, row in rows if number not in without}


def _one(trial: Trial, kind: str) -> None:
    """Count the writes of a single batch with one bad row at drawn places, against those without."""
    clean, spoiled, rows = trial.folder / "clean.csv", trial.folder / "one.csv", min(ONE_IN, trial.rows)
    orders.write(clean, rows, trial.seed)
    usual = _writes(trial, clean, rows)
    for _ in range(PLACES):
        spoil(clean, spoiled, {trial.random.randrange(2, rows + 1): kind})
        further = _writes(trial, spoiled, rows) - usual
        most = f"most further writes for one {kind} in {rows:,} rows"
        trial.figures[most] = max(trial.figures[most], further)
        if further > FURTHER_WRITES:
            trial.note(f"one {kind} in {rows:,} rows cost {further} further writes")


def _writes(trial: Trial, file: Path, rows: int) -> int:
    """Load a file as one batch in this program; return how often the sink was to write."""
    table = trial.new_load().table
    words = _COMMA.split(f"{trial.database.types},{TYPES}")
    trial.database.make(table)
    with _counted(sink_class(trial.database.url)) as writes:
        adaptive.load(
            str(file), trial.database.url, table=table, create=True, key="order_id", batch=rows,
            types=dict(word.split("=") for word in words), queue_size=4 * rows, writers=1,
            dead_letters=str(trial.folder / f"{table}.jsonl"),
        )  # fmt: skip
    trial.database.drop(table)
    return writes.total()


@contextmanager
def _counted(sink: Any) -> Iterator[Counter[str]]:
    """Count the calls of a sink's `write` and `write_arrow` from outside."""
    writes, inside = Counter[str](), [False]
    own = {name: getattr(sink, name) for name in ("write", "write_arrow")}

    def counting(name: str) -> Callable[..., Any]:
        def write(*arguments: Any, **keywords: Any) -> Any:
            if inside[0]:
                return own[name](*arguments, **keywords)
            writes[name] += 1
            inside[0] = True
            try:
                return own[name](*arguments, **keywords)
            finally:
                inside[0] = False

        return write

    for name in own:
        setattr(sink, name, counting(name))
    try:
        yield writes
    finally:
        for name, method in own.items():
            setattr(sink, name, method)
