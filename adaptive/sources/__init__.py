"""Sources by format, imported only when used."""

from __future__ import annotations

from importlib import import_module
from pathlib import PurePath

from adaptive.dialect import Dialect
from adaptive.errors import UsageError
from adaptive.protocols import Source

FORMATS = {
    "csv": "adaptive.sources.csv:CsvSource",
    "jsonl": "adaptive.sources.jsonl:JsonlSource",
    "parquet": "adaptive.sources.parquet:ParquetSource",
    "xml": "adaptive.sources.xml:XmlSource",
}
SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet", ".pq": "parquet", ".xml": "xml",
}  # fmt: skip
COMPRESSIONS = (".gz", ".zst")


def format_of(path: str, dialect: Dialect) -> str:
    """Return the format of an input, by the dialect or by its suffix.

    Raises UsageError if neither says it.
    """
    name = PurePath(path.removesuffix(".gz").removesuffix(".zst"))
    found = dialect.format or SUFFIXES.get(name.suffix.lower())
    if found not in FORMATS:
        raise UsageError(f"{path}: say its format with --format ({', '.join(FORMATS)})")
    return found


def open_source(path: str, dialect: Dialect) -> Source:
    """Return the source for a path, "-" being standard input.

    Raises UsageError if the format is unknown or an option does not fit it.
    """
    module, _, name = FORMATS[format_of(path, dialect)].partition(":")
    source: Source = getattr(import_module(module), name)(path, dialect)
    return source
