"""Readings of truth values, bytes, UUIDs and JSON."""

from __future__ import annotations

import re
from uuid import UUID

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from adaptive.readings.reading import Reading, not_a, shown

_TRUE = pa.array(["true", "t", "yes", "y", "on", "1"])
_FALSE = pa.array(["false", "f", "no", "n", "off", "0"])
_HYPHENATED = "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_UUID = re.compile(r"(\{)?[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}(?(1)\})")
_NO_UUID = pa.scalar("0" * 32)


def truth() -> Reading:
    """Return the reading of bool."""

    def cast(text: pa.Array) -> pa.Array:
        lower = pc.ascii_lower(text)
        true = pc.is_in(lower, _TRUE)
        known = pc.or_(pc.or_(true, pc.is_in(lower, _FALSE)), pc.is_null(text))
        if pc.all(known).as_py() is False:
            raise ValueError("neither true nor false")
        return pc.if_else(pc.is_valid(text), true, pa.scalar(None, pa.bool_()))

    def canonical(text: str) -> str:
        raise not_a(pa.bool_(), text)

    words = "|".join([*_TRUE.to_pylist(), *_FALSE.to_pylist()])
    return Reading(cast, f"^(?i:{words})$", canonical, cast)


def octets() -> Reading:
    """Return the reading of binary: hexadecimal after a leading backslash and x, otherwise UTF-8."""

    def octets_of(text: str) -> bytes:
        return bytes.fromhex(text[2:]) if text.startswith("\\x") else text.encode()

    def cast(text: pa.Array) -> pa.Array:
        if not pc.any(pc.starts_with(text, "\\x")).as_py():
            return pc.cast(text, pa.binary())
        return pa.array(
            [None if value is None else octets_of(value) for value in text.to_pylist()], pa.binary()
        )

    def canonical(text: str) -> str:
        try:
            octets_of(text)
        except ValueError:
            raise ValueError(f"{shown(text)} is not hexadecimal after the \\x") from None
        return text

    return Reading(cast, r"^(?:[^\\]|\\[^x]|\\?$)", canonical, cast, trim=False)


def uuid() -> Reading:
    """Return the reading of UUIDs."""

    def cast(text: pa.Array) -> pa.Array:
        if pc.all(pc.match_substring_regex(text, _HYPHENATED)).as_py() is False:
            raise ValueError("not all hyphenated")
        digits = pc.fill_null(pc.replace_substring(text, "-", ""), _NO_UUID)
        content = pa.py_buffer(bytes.fromhex("".join(digits.to_pylist())))
        storage = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(text), [None, content])
        storage = pc.if_else(pc.is_valid(text), storage, pa.scalar(None, pa.binary(16)))
        return pa.ExtensionArray.from_storage(pa.uuid(), storage)

    def canonical(text: str) -> str:
        if not _UUID.fullmatch(text):
            raise not_a(pa.uuid(), text)
        return str(UUID(text))

    return Reading(cast, _HYPHENATED, canonical, cast)


def json() -> Reading:
    """Return the reading of JSON: valid text, kept as it is.

    Arrow cannot check it, so that each value is parsed, about 1 µs for a short one.
    """

    def cast(text: pa.Array) -> pa.Array:
        for value in text.drop_null().to_pylist():
            orjson.loads(value)
        return pa.ExtensionArray.from_storage(pa.json_(), text)

    def canonical(text: str) -> str:
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{shown(text)} is not JSON: {error}") from None
        return text

    return Reading(cast, r"[^\s\S]", canonical, cast, trim=False)  # the pattern of nothing
