"""One case: what has to hold for any file, however damaged."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from lxml import etree

import adaptive
from adaptive.errors import AdaptiveError
from adaptive.result import LoadResult
from fuzz import references
from fuzz.mutations import compressed, damaged
from fuzz.reading import Found, Row, read
from fuzz.references import Records, Unsure
from fuzz.seeds import seeds

WHOLE = 1 << 20
MARKUP = frozenset(b"<>&\"'")
ARCHIVES = 8  # one case in so many is an archive
INFERRED = 4  # one in so many is read with inferred types, too
PIECES = (20, 100, 500, 500, 2000)  # bytes, or rows of Parquet; smaller ones take most of the time
LOADS = 200  # one in so many goes through a whole load


class Case(NamedTuple):
    """A file to try, and the real one that it was made from."""

    format: str
    content: bytes
    original: bytes = b""
    piece: int = 50
    infer: bool = True
    load: bool = False


def mutated(format_: str, seed: int, number: int) -> Case:
    """Return case `number` of a run: the same for the same seed."""
    random = Random(f"{seed} {format_} {number}")
    originals = seeds(format_)
    original = random.choice(originals)
    content = damaged(original, random, random.choice(originals))
    if number % ARCHIVES == 0 and format_ != "parquet":
        content, original = compressed(random.choice((original, content)), random), b""
    infer, load = number % INFERRED == 0, number % LOADS == 0
    return Case(format_, content, original, random.choice(PIECES), infer, load)


def check(case: Case, folder: Path) -> None:
    """Raise AssertionError, or what no source should raise, if a file is not read as it has to be."""
    path = folder / f"case.{case.format}"
    path.write_bytes(case.content)
    found = read(str(path), case.format, WHOLE, 1)
    _check_same(case.format, found, read(str(path), case.format, case.piece, 3))
    if not found.refused:
        _check_reference(case, found)
        _check_neighbours(case, found, folder)
        typed = read(str(path), case.format, WHOLE, 2, infer=True) if case.infer else None
        if typed:
            _check_inferred(case, found, typed)
        if typed and case.load:
            _check_load(path, typed, folder)


def _check_same(format_: str, found: Found, other: Found) -> None:
    """Check that piece sizes and parsers make no difference; how much a damaged page takes along may vary."""
    if format_ == "parquet" and found.error and other.error:
        both = found.rows.keys() & other.rows.keys()
        assert [found.rows[n] for n in both] == [other.rows[n] for n in both], "pieces change the rows"
    else:
        if "broken off" in found.error + other.error:  # how much was read ahead decides what is said first
            other = replace(other, error=found.error if other.error else "")
        assert found == other, f"pieces or parsers make a difference:\n{found}\n{other}"


def _check_reference(case: Case, found: Found) -> None:
    with suppress(Unsure):
        expected = _expected(case, found)
        assert len(expected) == found.count, f"{len(expected)} records are present, found: {found}"
        for ordinal, record in enumerate(expected):
            if record is None:
                assert ordinal in found.rejects, f"record {ordinal} is bad, but found: {found}"
            else:
                row = found.rows.get(ordinal)
                assert row is not None, f"record {ordinal} is good, but {found.rejects[ordinal]}"
                assert _comparable(case.format, row) == _comparable(case.format, record), (
                    f"{row} for {record}"
                )


def _expected(case: Case, found: Found) -> Records:
    if case.format == "parquet":
        return _parquet_records(case.content, found)
    content, whole = references.plain(case.content)
    if case.format == "csv":
        head, records, whole = references.csv_records(content, whole=whole)
        assert head == found.columns
    elif case.format == "jsonl":
        records = references.jsonl_records(content, found.columns, whole=whole)
    elif not whole:
        raise Unsure
    else:
        records = references.xml_records(content, found.columns, _row_name(content, found))
    assert bool(found.error) == (not whole), f"an error, or none: {found.error}"
    return records


def _parquet_records(content: bytes, found: Found) -> Records:
    try:
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        assert found.error, "a damaged file was read without a word"
        raise Unsure from None
    if found.error or found.rejects:
        raise Unsure
    return [tuple(row.values()) for row in table.to_pylist()]


def _row_name(content: bytes, found: Found) -> str:
    try:
        root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.XMLSyntaxError, ValueError):
        raise Unsure from None
    names = Counter(str(child.tag).rpartition("}")[2] for child in root.iterchildren("*"))
    name = names.most_common(1)[0][0]
    if name in found.columns:
        raise Unsure
    return name


def _comparable(format_: str, row: Sequence[object]) -> Row:
    """Return a row as both readers have it: the csv module knows no NULL, nested JSON has many forms."""
    if format_ == "csv":
        return tuple(value or "" for value in row)
    if format_ == "jsonl":
        return tuple("nested" if str(value)[:1] in ("[", "{") else value for value in row)
    return tuple(row)


@cache
def _undamaged(format_: str, original: bytes, folder: Path) -> Found:
    path = folder / f"original.{format_}"
    path.write_bytes(original)
    return read(str(path), format_, WHOLE, 1)


def _check_neighbours(case: Case, found: Found, folder: Path) -> None:
    """Check that XML records before the damage are as they were, and those after it if it holds no markup.

    The other formats' references say all that about damaged files, too.
    """
    if case.format != "xml" or case.original != seeds("xml")[0]:
        return
    before = _common(case.original, case.content)
    rest, new = case.original[before:], case.content[before:]
    after = _common(rest[::-1], new[::-1])
    same = _undamaged("xml", case.original, folder)
    if found.columns != same.columns:
        return
    first = case.original[:before].count(b"</order>")
    assert [found.rows.get(n) for n in range(first)] == [same.rows[n] for n in range(first)], (
        "one before it changed"
    )
    if not MARKUP & {*rest[: len(rest) - after], *new[: len(new) - after]}:
        last = case.original[len(case.original) - after :].count(b"<order ")
        kept, were = ([rows[n] for n in sorted(rows)] for rows in (found.rows, same.rows))
        assert kept[len(kept) - last :] == were[len(were) - last :], "one after it changed"


def _common(one: bytes, other: bytes) -> int:
    """Return how many bytes are the same at the beginning of both."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return sum(1 for _ in same)


def _check_inferred(case: Case, found: Found, typed: Found) -> None:
    if case.format == "parquet" and found.error:  # a damaged page takes the rows of its piece along
        return
    if typed.refused:
        assert found.refused or case.format != "csv", f"refused with inferred types only: {typed.refused}"
        return
    assert typed.count == found.count, f"{found.count} records, with inferred types {typed.count}"
    if case.format == "parquet" or b"1e" in case.content:  # damaged values; JSON columns take no 1e999
        return
    assert not [code for code, _ in typed.rejects.values() if code == "value"], (
        "an inferred type does not hold"
    )


def _check_load(path: Path, typed: Found, folder: Path) -> None:
    """Check that what a load says is what is in the table and among the dead letters."""
    database, letters = folder / "load.db", folder / "load.rejected.jsonl"
    for file in (database, letters):
        file.unlink(missing_ok=True)
    result: LoadResult | None
    try:
        result = adaptive.load(
            path, f"sqlite:///{database}", table="t", create=True, dead_letters=str(letters)
        )
        ended = True
    except AdaptiveError as error:
        result, ended = error.result, False
    if result is None:
        return
    with closing(sqlite3.connect(database)) as link:
        [(rows,)] = link.execute("SELECT count(*) FROM t")
    lines = letters.read_bytes().split(b"\n")[1:-1] if letters.exists() else []
    dead = {json.loads(line)["position"]["record"] for line in lines}
    assert (rows, len(dead)) == (result.written, result.rejected_count), "the result is not what was done"
    assert not ended or rows + len(dead) == typed.count, (
        f"{typed.count} records, {rows} rows, {len(dead)} rejected"
    )
