"""Types of JSON columns: of those values the beginning shows, or of all values of an input."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from adaptive.inference import Inference
from adaptive.sources.json_blocks import braced, read_objects, split_lines
from adaptive.sources.json_records import Members, Number, members
from adaptive.types import MAX_PRECISION

INT64 = range(-(2**63), 2**63)


class Kind:
    """What the values of one column have in common, as far as they were seen."""

    def __init__(self) -> None:
        self.words: set[str] = set()  # of text, bool, number, nested
        self.whole = 1  # most digits before the point
        self.scale = 0
        self.long = False  # an integer beyond 64 bits
        self.point = False  # a number with a point or an exponent

    def add(self, value: object) -> None:
        """Take in a decoded value."""
        if isinstance(value, Number):
            self._add_number(value)
        elif isinstance(value, bool):
            self.words.add("bool")
        elif isinstance(value, str):
            self.words.add("text")
        elif isinstance(value, Members | list):
            self.words.add("nested")

    def _add_number(self, literal: Number) -> None:
        digits = literal.removeprefix("-")
        try:
            number = Decimal(literal) if len(digits) < 5000 else Decimal("NaN")
        except ArithmeticError:  # an exponent beyond 10 ** 18
            number = Decimal("NaN")
        if not number.is_finite():
            self.words.add("text")
            return
        self.words.add("number")
        self.point |= not digits.isdigit()
        self.long |= digits.isdigit() and int(number) not in INT64
        self.widen(number)

    def widen(self, number: Decimal) -> None:
        """Make room for a number."""
        exponent = number.as_tuple().exponent
        self.scale = max(self.scale, -exponent if isinstance(exponent, int) else 0)
        self.whole = max(self.whole, number.adjusted() + 1 if number else 1)

    @property
    def type(self) -> pa.DataType:
        """Return the narrowest type that holds all values; a decimal for numbers with a point."""
        if "nested" in self.words:
            return pa.json_()
        if self.words == {"bool"}:
            return pa.bool_()
        if self.words != {"number"} or self.whole + self.scale > MAX_PRECISION:
            return pa.string()
        if self.point or self.long:
            return pa.decimal128(self.whole + self.scale, self.scale)
        return pa.int64()


class Kinds:
    """The columns of an input in order of appearance, and what their values have in common."""

    def __init__(self) -> None:
        self._columns: dict[str, Kind] = {}
        self._texts: dict[str, Inference] = {}

    @property
    def names(self) -> list[str]:
        """Return the names of the columns."""
        return list(self._columns)

    def add(self, block: bytes) -> None:
        """Take in a block of whole lines; lines that are no object are passed over."""
        batch = self._batch(block)
        if batch is None:
            self._add_lines(block)
        else:
            self._add_batch(batch)

    def _batch(self, block: bytes) -> pa.RecordBatch | None:
        """Return the block if it fits the columns found so far: ten times as fast as line by line."""
        text = braced(block)
        types = {name: kind.type for name, kind in self._columns.items()}
        if text is None or not types or pa.json_() in types.values():
            return None
        wide = {name: _widest(type_) for name, type_ in types.items()}
        try:
            return read_objects(text, pa.schema(wide))
        except pa.ArrowInvalid:
            return None

    def _add_batch(self, batch: pa.RecordBatch) -> None:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pat.is_decimal(column.type):
                for number in (pc.min(column).as_py(), pc.max(column).as_py()):
                    self._columns[name].widen(number or Decimal(0))
            elif pat.is_string(column.type) and column.null_count < len(column):
                self._columns[name].words.add("text")
                self._add_text(name, column)

    def _add_lines(self, block: bytes) -> None:
        texts: dict[str, list[str]] = {}
        for line in split_lines(block, 1):
            try:
                record = members(line.text)
            except ValueError:
                continue
            for name, value in record:
                if not (_is_text(name) and (type(value) is not str or _is_text(value))):
                    continue  # half a surrogate pair: the record becomes a reject
                self._columns.setdefault(name, Kind()).add(value)
                if type(value) is str:
                    texts.setdefault(name, []).append(value)
        for name, values in texts.items():
            self._add_text(name, pa.array(values, pa.string()))

    def _add_text(self, name: str, column: pa.Array[Any]) -> None:
        batch = pa.RecordBatch.from_arrays([column], [name])
        self._texts.setdefault(name, Inference()).add(batch)

    def schema(self, declared: Mapping[str, pa.DataType]) -> pa.Schema:
        """Return the columns with the declared types, else with types that hold all values."""
        return pa.schema({name: declared.get(name) or self._type(name) for name in self._columns})

    def _type(self, name: str) -> pa.DataType:
        kind = self._columns[name]
        if kind.words != {"text"} or name not in self._texts:
            return kind.type
        found = self._texts[name].schema().field(0).type
        return found if pat.is_temporal(found) else pa.string()  # "007" in quotes is meant as text


def _is_text(value: str) -> bool:
    """Say whether a text is one in UTF-8, too."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _widest(type_: pa.DataType) -> pa.DataType:
    return pa.decimal256(MAX_PRECISION, type_.scale) if pat.is_decimal(type_) else type_
