"""Slow readers that share no code with the sources: what a file holds, as far as that can be said.

A reference returns its records, in order: the texts of a good one, None for a bad one; or None if it
cannot say.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import zlib
from collections.abc import Sequence
from typing import Any

from lxml import etree

Record = tuple[str | None, ...]
Records = list[Record | None]

GZIP_AND_ZSTD = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Unsure(Exception):  # noqa: N818 - no error, but no answer
    """The reference has no answer for this file."""


def plain(content: bytes) -> tuple[bytes, bool]:
    """Return the content of an archive up to its damage, and whether it is whole. Raises Unsure."""
    if not content.startswith(GZIP_AND_ZSTD):
        return content, True
    if not content.startswith(GZIP_AND_ZSTD[0]):
        raise Unsure
    out, rest = bytearray(), content
    while rest := rest.lstrip(b"\0"):
        member = zlib.decompressobj(31)
        for at in range(len(rest)):
            try:
                out += member.decompress(rest[at : at + 1])
            except zlib.error:
                return bytes(out), False
            if member.eof:
                break
        if not member.eof:
            return bytes(out), False
        rest = rest[at + 1 :]
    return bytes(out), True


def csv_records(content: bytes, *, whole: bool) -> tuple[list[str], Records, bool]:
    """Return the header, the records, and whether the text was read to its end."""
    if content.startswith(UTF_16):
        raise Unsure
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    if not whole and not text.endswith("\n"):  # the break cut through the last record
        raise Unsure
    csv.field_size_limit(1 << 30)
    # Not strict: a quote after a closing one is text for both; so what is left open has to be looked for.
    rows = csv.reader(io.StringIO(text, newline=""))
    found, ended = [row for row in rows if row], _quotes_close(text)
    if not found or not ended:
        raise Unsure
    head, *records = found
    return head, [_csv_record(record, len(head)) for record in records], whole


def _quotes_close(text: str) -> bool:
    """Say whether the last field ends: a further record would else become part of it."""
    *_, last = csv.reader(io.StringIO(f"{text}\n\u0001", newline=""))
    return last == ["\u0001"]


def _csv_record(record: list[str], width: int) -> Record | None:
    try:
        "".join(record).encode()
    except UnicodeEncodeError:
        return None
    return tuple(record) if len(record) == width else None


def jsonl_records(content: bytes, columns: Sequence[str], *, whole: bool) -> Records:
    """Return the records, their values as `as_text` gives them."""
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not whole:
        lines.pop()  # the break cut through it
    return [_json_record(line, columns) for line in lines if line.strip(b" \t\r\n")]


def _json_record(line: bytes, columns: Sequence[str]) -> Record | None:
    try:
        found = json.loads(
            line.strip(b" \t\r\n").decode(), object_pairs_hook=lambda pairs: pairs,
            parse_int=_Literal, parse_float=_Literal, parse_constant=_Literal,
        )  # fmt: skip
        if line.strip(b" \t\r\n")[:1] != b"{":
            return None
        names = [name for name, _ in found]
        if set(names) - set(columns) or len(set(names)) < len(names):
            return None
        record = tuple(as_text(dict(found).get(name)) for name in columns)
        json.dumps(found, ensure_ascii=False).encode()  # no half of a surrogate pair, however deep
    except (ValueError, RecursionError):
        return None
    return record


class _Literal(str):
    """A number as it was written."""


def as_text(value: Any) -> str | None:
    """Return a JSON value as a text column has it, nested ones in one normal form."""
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else "nested"


def xml_records(content: bytes, columns: Sequence[str], row: str) -> Records:
    """Return the records of a well-formed document, every one of which is flat. Raises Unsure."""
    if b"<!DOCTYPE" in content:
        raise Unsure
    try:
        root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.XMLSyntaxError, ValueError):
        raise Unsure from None
    records = [child for child in root if isinstance(child.tag, str) and _local(child.tag) == row]
    return [_xml_record(record, columns) for record in records]


def _xml_record(record: Any, columns: Sequence[str]) -> Record | None:
    values = [(_local(key), text) for key, text in record.attrib.items()]
    for child in record.iterchildren("*"):
        if len(child.xpath("*")) or child.attrib:
            return None
        values.append((_local(child.tag), child.xpath("string()")))
    if any(text.strip(" \t\r\n") for text in record.xpath("text()")):
        return None
    names = [name for name, _ in values]
    if len(set(names)) < len(names) or set(names) - set(columns):
        return None
    return tuple(dict(values).get(name) for name in columns)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
