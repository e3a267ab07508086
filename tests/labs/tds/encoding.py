"""Values of SQL Server's types on the wire.

They are held as SQLite stores them: int (bit, integers), float, bytes, and text for everything else.
A decimal is its digits with all decimals of its scale; moments are ISO with seven decimals, so that their
order as text is their order in time; one with an offset is in UTC with the offset behind it.
"""

from __future__ import annotations

import struct
from codecs import utf_16_le_decode
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any

from labs.tds.types import BYTES, FIXED, MAX, MONEY, TEXTS, WIDTHS, Type, numeric_width

Decoder = Callable[[bytes, int], tuple[Any, int]]  # (message, position) → (value, next position)
Encoder = Callable[[Any], bytes]
# Numbers of a fixed width, for struct.
FORMS = {"bit": "<B", "tinyint": "<B", "smallint": "<h", "int": "<i", "bigint": "<q", "real": "<f",
         "float": "<d"}  # fmt: skip


# --- values from the wire ---


@lru_cache(4096)
def decoder(kind: Type) -> Decoder:
    """Return what reads a value of a type."""
    name = kind.name
    if kind.size == MAX:
        return _long(_decode_bytes(kind)) if name in ("ntext", "text", "image") else _plp(_decode_bytes(kind))
    if name in TEXTS or name in BYTES:
        return _short(_decode_bytes(kind))
    if name in FORMS:
        return _number(FORMS[name])
    decode: Callable[[bytes], Any]
    if name == "decimal":
        decode = _decode_numeric(kind.scale)
    elif name == "uniqueidentifier":
        decode = _guid
    elif name in MONEY:
        decode = _decode_money
    else:
        decode = _decode_moment(kind)
    return _tiny(decode)


def _number(form: str) -> Decoder:
    unpack, width = struct.Struct(form).unpack_from, struct.calcsize(form)

    def read(message: bytes, at: int) -> tuple[Any, int]:
        return (unpack(message, at + 1)[0], at + 1 + width) if message[at] else (None, at + 1)

    return read


def _tiny(decode: Callable[[bytes], Any]) -> Decoder:
    def read(message: bytes, at: int) -> tuple[Any, int]:
        end = at + 1 + message[at]
        return (decode(message[at + 1 : end]), end) if message[at] else (None, end)

    return read


def _short(decode: Callable[[bytes], Any]) -> Decoder:
    def read(message: bytes, at: int) -> tuple[Any, int]:
        size = message[at] | message[at + 1] << 8
        at += 2
        return (None, at) if size == 0xFFFF else (decode(message[at : at + size]), at + size)

    return read


def _long(decode: Callable[[bytes], Any]) -> Decoder:
    def read(message: bytes, at: int) -> tuple[Any, int]:
        (size,) = struct.unpack_from("<i", message, at)
        at += 4
        return (None, at) if size < 0 else (decode(message[at : at + size]), at + size)

    return read


def _plp(decode: Callable[[bytes], Any]) -> Decoder:
    def read(message: bytes, at: int) -> tuple[Any, int]:
        total, at = message[at : at + 8], at + 8
        if total == b"\xff" * 8:
            return None, at
        pieces = []
        while size := int.from_bytes(message[at : at + 4], "little"):
            pieces.append(message[at + 4 : at + 4 + size])
            at += 4 + size
        return decode(b"".join(pieces)), at + 4

    return read


def _decode_bytes(kind: Type) -> Callable[[bytes], Any]:
    if kind.name in BYTES:
        return bytes
    if kind.name in ("varchar", "char", "text"):
        return lambda raw: raw.decode("cp1252")
    return lambda raw: utf_16_le_decode(raw, "surrogatepass")[0]  # a third of what raw.decode takes


def _decode_numeric(scale: int) -> Callable[[bytes], str]:
    unit = 10**scale

    def decode(raw: bytes) -> str:
        whole, part = divmod(int.from_bytes(raw[1:], "little"), unit)
        sign = "" if raw[0] else "-"
        return f"{sign}{whole}.{part:0{scale}}" if scale else f"{sign}{whole}"

    return decode


def _decode_money(raw: bytes) -> str:
    """Four decimals; the eight bytes of money have their higher half first."""
    number = int.from_bytes(raw[4:] + raw[:4] if len(raw) == 8 else raw, "little", signed=True)
    digits = str(abs(number)).rjust(5, "0")
    return f"{'-' if number < 0 else ''}{digits[:-4]}.{digits[-4:]}"


def _encode_money(width: int) -> Encoder:
    def encode(value: Any) -> bytes:
        raw = int(str(value).replace(".", "")).to_bytes(width, "little", signed=True)
        return raw[4:] + raw[:4] if width == 8 else raw

    return encode


def _guid(raw: bytes) -> str:
    a, b, c = struct.unpack_from("<IHH", raw)
    return f"{a:08X}-{b:04X}-{c:04X}-{raw[8:10].hex().upper()}-{raw[10:].hex().upper()}"


@lru_cache(4096)
def _day(raw: bytes) -> str:
    return date.fromordinal(int.from_bytes(raw, "little") + 1).isoformat()


def _clock(raw: bytes, scale: int) -> str:
    seconds, ticks = divmod(int.from_bytes(raw, "little") * 10 ** (7 - scale), 10_000_000)
    return f"{_second(seconds)}.{ticks:07}"


@lru_cache(86_400)
def _second(number: int) -> str:
    return f"{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}"


@lru_cache(2048)
def _offset(raw: bytes) -> str:
    (minutes,) = struct.unpack("<h", raw)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def _decode_moment(kind: Type) -> Callable[[bytes], str]:
    scale, width = kind.scale, WIDTHS[kind.scale]
    if kind.name == "date":
        return _day
    if kind.name == "time":
        return lambda raw: _clock(raw, scale)
    if kind.name == "datetime2":
        return lambda raw: f"{_day(raw[width:])} {_clock(raw[:width], scale)}"
    if kind.name in ("datetime", "smalldatetime"):
        return _datetime
    return lambda raw: f"{_day(raw[width:-2])} {_clock(raw[:width], scale)}{_offset(raw[-2:])}"


def _datetime(raw: bytes) -> str:
    days, ticks = struct.unpack("<iI" if len(raw) == 8 else "<HH", raw)
    milliseconds = round(ticks * 10 / 3) if len(raw) == 8 else ticks * 60_000
    day = date.fromordinal(days + date(1900, 1, 1).toordinal())
    return f"{day.isoformat()} {_clock(milliseconds.to_bytes(4, 'little'), 3)}"


# --- values to the wire ---


@lru_cache(4096)
def encoder(kind: Type) -> Encoder:
    """Return what writes a value of a type as it stands in a row."""
    name = kind.name
    if kind.size == MAX:
        return _write_plp(_encode_bytes(kind))
    if name in TEXTS or name in BYTES:
        encode = _encode_bytes(kind)
        return lambda value: b"\xff\xff" if value is None else _counted("<H", encode(value))
    if name in FORMS:
        return _write_tiny(struct.Struct(FORMS[name]).pack)
    if name == "sql_variant":
        return _variant
    if name == "decimal":
        return _write_tiny(_encode_numeric(kind))
    if name == "uniqueidentifier":
        return _write_tiny(_encode_guid)
    if name in MONEY:
        return _write_tiny(_encode_money(FIXED[name][1]))
    return _write_tiny(_encode_moment(kind))


def _variant(value: int | None) -> bytes:
    """Write an integer with its type; a sql_variant may hold others, but no function here returns one."""
    return struct.pack("<i", 0) if value is None else struct.pack("<iBBi", 6, FIXED["int"][0], 0, value)


def _counted(form: str, raw: bytes) -> bytes:
    return struct.pack(form, len(raw)) + raw


def _write_tiny(encode: Encoder) -> Encoder:
    return lambda value: b"\0" if value is None else _counted("B", encode(value))


def _write_plp(encode: Encoder) -> Encoder:
    def write(value: Any) -> bytes:
        if value is None:
            return b"\xff" * 8
        raw = encode(value)
        return struct.pack("<Q", len(raw)) + (_counted("<I", raw) if raw else b"") + b"\0\0\0\0"

    return write


def _encode_bytes(kind: Type) -> Encoder:
    if kind.name in BYTES:
        return bytes
    encoding = "cp1252" if kind.name in ("varchar", "char") else "utf-16-le"
    return lambda value: str(value).encode(
        encoding, "surrogatepass" if encoding == "utf-16-le" else "replace"
    )


def _encode_numeric(kind: Type) -> Encoder:
    width = numeric_width(kind.precision) - 1

    def encode(value: Any) -> bytes:
        whole, _, part = str(value).partition(".")
        number = int(whole.lstrip("-") + part.ljust(kind.scale, "0"))
        return bytes([not whole.startswith("-")]) + number.to_bytes(width, "little")

    return encode


def _encode_guid(value: str) -> bytes:
    a, b, c, d, e = value.split("-")
    return struct.pack("<IHH", int(a, 16), int(b, 16), int(c, 16)) + bytes.fromhex(d + e)


def _encode_clock(text: str, scale: int) -> bytes:
    seconds = int(text[:2]) * 3600 + int(text[3:5]) * 60 + int(text[6:8])
    count: int = (seconds * 10_000_000 + int(text[9:16])) // 10 ** (7 - scale)
    return count.to_bytes(WIDTHS[scale], "little")


def _encode_day(text: str) -> bytes:
    return (date.fromisoformat(text).toordinal() - 1).to_bytes(3, "little")


def _encode_moment(kind: Type) -> Encoder:
    scale = kind.scale
    if kind.name == "date":
        return _encode_day
    if kind.name == "time":
        return lambda value: _encode_clock(value, scale)
    if kind.name == "datetime2":
        return lambda value: _encode_clock(value[11:], scale) + _encode_day(value[:10])
    if kind.name == "datetime":
        return _encode_datetime
    if kind.name == "smalldatetime":
        return _encode_smalldatetime

    def encode(value: str) -> bytes:
        minutes = int(value[28:30]) * 60 + int(value[31:33])
        offset = struct.pack("<h", -minutes if value[27] == "-" else minutes)
        return _encode_clock(value[11:27], scale) + _encode_day(value[:10]) + offset

    return encode


def _encode_datetime(value: str) -> bytes:
    days = date.fromisoformat(value[:10]).toordinal() - date(1900, 1, 1).toordinal()
    milliseconds = int.from_bytes(_encode_clock(value[11:], 3), "little")
    return struct.pack("<iI", days, round(milliseconds * 3 / 10))


def _encode_smalldatetime(value: str) -> bytes:
    days = date.fromisoformat(value[:10]).toordinal() - date(1900, 1, 1).toordinal()
    return struct.pack("<HH", days, int(value[11:13]) * 60 + int(value[14:16]))
