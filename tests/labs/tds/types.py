"""SQL Server's types: how they are named, described on the wire, and how their values are encoded.

Values are held as SQLite stores them: int (bit, integers), float, bytes, and text for everything else.
A decimal is its digits with all decimals of its scale; moments are ISO with seven decimals, so that their
order as text is their order in time; one with an offset is in UTC with the offset behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

Decoder = Callable[[bytes, int], tuple[Any, int]]  # (message, position) → (value, next position)
Encoder = Callable[[Any], bytes]

MAX = -1
COLLATION = bytes.fromhex("09 04 d0 00 34")  # SQL_Latin1_General_CP1_CI_AS
# name: (id in sys.types, bytes, digits)
FIXED = {
    "tinyint": (48, 1, 3), "smallint": (52, 2, 5), "int": (56, 4, 10), "bigint": (127, 8, 19),
    "bit": (104, 1, 1), "real": (59, 4, 24), "float": (62, 8, 53), "date": (40, 3, 10),
    "datetime": (61, 8, 23), "smalldatetime": (58, 4, 16), "money": (60, 8, 19), "smallmoney": (122, 4, 10),
    "uniqueidentifier": (36, 16, 0),
}  # fmt: skip
SIZED = {"varchar": 167, "char": 175, "nvarchar": 231, "nchar": 239, "varbinary": 165, "binary": 173,
         "ntext": 99, "text": 35, "image": 34}  # fmt: skip
SCALED = {"time": 41, "datetime2": 42, "datetimeoffset": 43}
# By the code of a type that takes NULL; its size in bytes says which of them it is.
NULLABLE = {0x26: ("tinyint", "smallint", "int", "bigint"), 0x6D: ("real", "float"), 0x68: ("bit",),
            0x6F: ("smalldatetime", "datetime"), 0x6E: ("smallmoney", "money"), 0x24: ("uniqueidentifier",)}  # fmt: skip
MONEY = {"money", "smallmoney"}
INTEGERS = {"bit", "tinyint", "smallint", "int", "bigint"}
TEXTS = {"varchar", "char", "nvarchar", "nchar", "ntext", "text"}
BYTES = {"varbinary", "binary", "image"}
WIDTHS = (3, 3, 3, 4, 4, 5, 5, 5)  # bytes of a time by its scale
NUMERIC_WIDTHS = ((9, 5), (19, 9), (28, 13), (38, 17))


class Type(NamedTuple):
    """A type: `size` in characters or bytes, or MAX."""

    name: str
    size: int = 0
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        if self.name in SIZED and self.size:
            return f"{self.name}({'max' if self.size == MAX else self.size})"
        if self.name == "decimal":
            return f"decimal({self.precision},{self.scale})"
        return f"{self.name}({self.scale})" if self.name in SCALED else self.name

    @property
    def id(self) -> int:
        """The number in sys.types."""
        if self.name in FIXED:
            return FIXED[self.name][0]
        return 106 if self.name == "decimal" else (SIZED | SCALED)[self.name]

    @property
    def max_length(self) -> int:
        """The length in bytes as sys.columns tells it."""
        if self.name in FIXED:
            return FIXED[self.name][1]
        if self.name == "decimal":
            return _numeric_width(self.precision)
        if self.name in SCALED:
            return WIDTHS[self.scale] + {"time": 0, "datetime2": 3, "datetimeoffset": 5}[self.name]
        return self.size * 2 if self.name in ("nvarchar", "nchar") and self.size != MAX else self.size

    @property
    def digits(self) -> int:
        """The precision as sys.columns tells it."""
        if self.name in FIXED:
            return FIXED[self.name][2]
        if self.name in SCALED:
            return (
                {"time": 8, "datetime2": 19, "datetimeoffset": 26}[self.name] + self.scale + bool(self.scale)
            )
        return self.precision


def type_of(value: Any) -> Type:
    """Return the type of a value that no catalogue knows."""
    if value is None or isinstance(value, int):
        return Type("int") if value is None or -(2**31) <= value < 2**31 else Type("bigint")
    if isinstance(value, float):
        return Type("float")
    name, most = ("nvarchar", 4000) if isinstance(value, str) else ("varbinary", 8000)
    return Type(name, most if len(value) <= most else MAX)


# --- descriptions on the wire ---


def type_info(kind: Type) -> bytes:
    """Return TYPE_INFO."""
    name = kind.name
    if name == "date":
        return b"\x28"
    if name in FIXED:
        return bytes([next(code for code, names in NULLABLE.items() if name in names), FIXED[name][1]])
    if name == "decimal":
        return bytes([0x6C, _numeric_width(kind.precision), kind.precision, kind.scale])
    if name in SCALED:
        return bytes([SCALED[name], kind.scale])
    length = 0xFFFF if kind.size == MAX else max(kind.max_length, 1)
    return struct.pack("<BH", kind.id, length) + (COLLATION if name in TEXTS else b"")


def read_type(message: bytes, at: int) -> tuple[Type, int]:
    """Read TYPE_INFO; return the type and the next position."""
    code, size = message[at], message[at + 1]
    if code in NULLABLE:
        return next(Type(name) for name in NULLABLE[code] if FIXED[name][1] == size), at + 2
    if code == 0x28:
        return Type("date"), at + 1
    if code in (0x6A, 0x6C):
        return Type("decimal", 0, message[at + 2], message[at + 3]), at + 4
    if code in SCALED.values():
        return Type(next(name for name, of in SCALED.items() if of == code), 0, 0, size), at + 2
    name = next((name for name, of in SIZED.items() if of == code), None)
    if name is None:
        raise ValueError(f"the stand-in does not know the type 0x{code:02X} of a parameter")
    if name in ("ntext", "text", "image"):
        return Type(name, MAX), at + (5 if name == "image" else 10)
    (length,) = struct.unpack_from("<H", message, at + 1)
    size = MAX if length == 0xFFFF else length // 2 if name in ("nvarchar", "nchar") else length
    return Type(name, size), at + (8 if name in TEXTS else 3)


# --- values from the wire ---


@lru_cache(4096)
def decoder(kind: Type) -> Decoder:
    """Return what reads a value of a type."""
    name = kind.name
    if kind.size == MAX:
        return _long(_decode_bytes(kind)) if name in ("ntext", "text", "image") else _plp(_decode_bytes(kind))
    if name in TEXTS or name in BYTES:
        return _short(_decode_bytes(kind))
    decode: Callable[[bytes], Any]
    if name in INTEGERS:
        signed = name not in ("bit", "tinyint")
        decode = lambda raw: int.from_bytes(raw, "little", signed=signed)  # noqa: E731
    elif name in ("real", "float"):
        form = "<f" if name == "real" else "<d"
        decode = lambda raw: struct.unpack(form, raw)[0]  # noqa: E731
    elif name == "decimal":
        decode = _decode_numeric(kind.scale)
    elif name == "uniqueidentifier":
        decode = _guid
    elif name in MONEY:
        decode = _decode_money
    else:
        decode = _decode_moment(kind)
    return _tiny(decode)


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
    encoding = "cp1252" if kind.name in ("varchar", "char", "text") else "utf-16-le"
    return lambda raw: raw.decode(encoding, "surrogatepass" if encoding == "utf-16-le" else "strict")


def _decode_numeric(scale: int) -> Callable[[bytes], str]:
    def decode(raw: bytes) -> str:
        digits = str(int.from_bytes(raw[1:], "little"))
        sign = "" if raw[0] else "-"
        if not scale:
            return sign + digits
        digits = digits.rjust(scale + 1, "0")
        return f"{sign}{digits[:-scale]}.{digits[-scale:]}"

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
    ticks = int.from_bytes(raw, "little") * 10 ** (7 - scale)
    seconds, ticks = divmod(ticks, 10_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ticks:07}"


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

    def decode(raw: bytes) -> str:
        (minutes,) = struct.unpack("<h", raw[width + 3 :])
        offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
        return f"{_day(raw[width : width + 3])} {_clock(raw[:width], scale)}{offset}"

    return decode


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
    if name in INTEGERS:
        width, signed = FIXED[name][1], name not in ("bit", "tinyint")
        return _write_tiny(lambda value: int(value).to_bytes(width, "little", signed=signed))
    if name in ("real", "float"):
        form = "<f" if name == "real" else "<d"
        return _write_tiny(lambda value: struct.pack(form, value))
    if name == "decimal":
        return _write_tiny(_encode_numeric(kind))
    if name == "uniqueidentifier":
        return _write_tiny(_encode_guid)
    if name in MONEY:
        return _write_tiny(_encode_money(FIXED[name][1]))
    return _write_tiny(_encode_moment(kind))


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
    width = _numeric_width(kind.precision) - 1

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
    count = (seconds * 10_000_000 + int(text[9:16])) // 10 ** (7 - scale)
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


def _numeric_width(precision: int) -> int:
    return next(width for digits, width in NUMERIC_WIDTHS if precision <= digits)
