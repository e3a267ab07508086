"""Parses blocks of CSV into text columns, and tells which of their records are broken.

Arrow reads block by block what its streaming reader reads in one go: that is faster (0.45 against 0.66 s of
CPU for 1,000,000 orders), runs in several threads, and numbers broken records exactly. The streaming
reader also stops at a record longer than its blocks, and takes the rest of a file for one field after
a quote that is never closed.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import pyarrow as pa
import pyarrow.csv
from pyarrow.csv import InvalidRow

from adaptive.dialect import Dialect
from adaptive.rows import Reject
from adaptive.sources.csv_records import Block, Grammar, line_ends
from adaptive.sources.encoding import is_utf8, readable


class BlockParser:
    """Makes text columns of the records of a file whose columns are `names`."""

    def __init__(self, dialect: Dialect, grammar: Grammar, names: Sequence[str]) -> None:
        self._dialect = dialect
        self._grammar = grammar
        self._names = names

    def columns(self, block: Block, columns: Sequence[str]) -> tuple[pa.RecordBatch, list[Reject]]:
        """Return some columns of the good records, and the broken records in order, ordinals from 0.

        Broken are records that are not UTF-8 (code "encoding") and those with too few or too many
        fields (code "fields").
        """
        if not block.text.endswith(b"\n"):
            # Else Arrow takes an empty last field for quoted like the field before it, and not for NULL.
            block = block._replace(text=block.text + b"\n")
        text, undecodable = block.text, dict[int, str]()
        if not is_utf8(text):
            text, undecodable = self._decodable(text)
        batch, invalid = self._parsed(text, columns)
        if not invalid and not undecodable:
            return batch, []
        count = batch.num_rows + len(invalid) + len(undecodable)
        rejects = self._rejects(invalid, undecodable, count)
        lines = self._lines(block, count, [reject.ordinal for reject in rejects])
        return batch, [replace(reject, line=line) for reject, line in zip(rejects, lines, strict=True)]

    def _parsed(self, text: bytes, columns: Sequence[str]) -> tuple[pa.RecordBatch, list[InvalidRow]]:
        """Return the records that have the right number of fields, and what Arrow says about the others."""
        if text.startswith(codecs.BOM_UTF8):
            text = (
                b"\n" + text
            )  # Arrow would drop this mark, here text of a record, and a record of nothing else
        invalid: list[InvalidRow] = []

        def skip(row: InvalidRow) -> Literal["skip"]:
            invalid.append(row)
            return "skip"

        table = pyarrow.csv.read_csv(
            pa.BufferReader(text or b"\n"),
            # One thread and one block: only so does Arrow number broken records, from the block's start.
            pyarrow.csv.ReadOptions(use_threads=False, block_size=len(text) + 2, column_names=self._names),
            pyarrow.csv.ParseOptions(
                delimiter=self._dialect.delimiter,
                quote_char=self._dialect.quote or False,
                newlines_in_values=True,
                invalid_row_handler=skip,
            ),
            pyarrow.csv.ConvertOptions(
                check_utf8=False,  # that is done
                column_types=dict.fromkeys(columns, pa.string()),
                include_columns=list(dict.fromkeys(columns)),
                null_values=["", self._dialect.null or ""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema), invalid

    def _decodable(self, text: bytes) -> tuple[bytes, dict[int, str]]:
        """Return the text without the records that are not UTF-8, and these by their ordinals."""
        kept, undecodable = [], {}
        for ordinal, match in enumerate(self._grammar.records(text)):
            record = match[1]
            try:
                record.decode()
                kept.append(record + b"\n")
            except UnicodeDecodeError:
                undecodable[ordinal] = readable(record)
        return b"".join(kept), undecodable

    def _rejects(self, invalid: list[InvalidRow], undecodable: dict[int, str], count: int) -> list[Reject]:
        ordinals = [ordinal for ordinal in range(count) if ordinal not in undecodable]
        reason = f"not readable as {self._dialect.encoding}"
        rejects = [Reject(ordinal, "encoding", reason, raw=raw) for ordinal, raw in undecodable.items()]
        for row in invalid:  # Arrow numbers records from 1
            reason = f"expected {row.expected_columns} fields, found {row.actual_columns}"
            rejects.append(Reject(ordinals[row.number - 1], "fields", reason, raw=row.text))
        return sorted(rejects, key=lambda reject: reject.ordinal)

    def _lines(self, block: Block, count: int, ordinals: Sequence[int]) -> Iterator[int]:
        """Yield the numbers of the lines that some of the `count` records of a block begin with."""
        if line_ends(block.text) == count:  # neither blank lines nor line ends in fields
            yield from (block.line + ordinal for ordinal in ordinals)
            return
        starts = [match.start(1) for match in self._grammar.records(block.text)]
        line, seen = block.line, 0
        for ordinal in ordinals:
            line += line_ends(block.text[seen : starts[ordinal]])
            seen = starts[ordinal]
            yield line
