"""Types that every value of an input satisfies, found from text columns."""

from __future__ import annotations

import pyarrow as pa


class Inference:
    """Narrows down the types of text columns, batch by batch."""

    def __init__(self) -> None:
        self._schema: pa.Schema | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in the next batch of text columns; all batches have the same columns."""
        self._schema = self._schema or batch.schema

    def schema(self) -> pa.Schema:
        """Return the columns with types that hold every value added so far."""
        return pa.schema([pa.field(name, pa.string()) for name in (self._schema or pa.schema([])).names])
