"""How an input is to be read; what is not said is found out from the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Dialect:
    """Everything the user may say about the form of an input.

    `format` is a word of `sources.FORMATS` or None for the file's suffix; `null` is a further text
    that stands for NULL; `columns` names the columns of a file without a header; `types` gives the
    Arrow type of some columns; `timezone` is that of timestamps without one (default UTC);
    `mapping` is the path of an XML mapping.
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
