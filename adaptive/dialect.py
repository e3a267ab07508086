"""How an input is to be read; what is not said is found out from the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from adaptive.errors import UsageError

# A record of 64 MB is four times the largest that MongoDB takes; reading one takes 0.3 GB of memory. Longer
# ones are nearly always a quote or an element left open. Arrow's texts end at 2 GB, so the bound does before.
MAX_RECORD, HIGHEST_MAX_RECORD = 64, 1024
# Text of records shrinks to a tenth or a thirtieth, to a hundredth where columns repeat; bombs reach 1,000
# with gzip, far more with Zstandard.
MAX_RATIO = 200


@dataclass(frozen=True, slots=True)
class Dialect:
    """Everything the user may say about the form of an input.

    `format` is a word of `sources.FORMATS` or None for the file's suffix; `null` is a further text
    that stands for NULL; `columns` names the columns of a file without a header; `types` gives the
    Arrow type of some columns; `timezone` is that of timestamps without one (default UTC);
    `mapping` is the path of an XML mapping.

    Two bounds stop a load that would otherwise fill memory or the database, and change nothing about the
    records: `max_record` is the size of one record in MB, `max_ratio` how many times larger than the file
    its decompressed content may be, beyond the first 64 MB.

    Raises UsageError for a bound that makes no sense.
    """

    format: str | None = None
    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    null: str | None = None
    columns: tuple[str, ...] = ()
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    timezone: str = "UTC"
    mapping: str | None = None
    max_record: int = MAX_RECORD
    max_ratio: int = MAX_RATIO

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not 1 <= self.max_record <= HIGHEST_MAX_RECORD:
            raise UsageError(f"max-record has to be 1 to {HIGHEST_MAX_RECORD} (MB), not {self.max_record}")
        if self.max_ratio < 1:
            raise UsageError(f"max-ratio has to be at least 1, not {self.max_ratio}")

    @property
    def record_bytes(self) -> int:
        """Return `max_record` in bytes."""
        return self.max_record << 20
