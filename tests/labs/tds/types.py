"""SQL Server's types: how they are named, and described on the wire (TYPE_INFO)."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

MAX = -1
COLLATION = bytes.fromhex("09 04 d0 00 34")  # SQL_Latin1_General_CP1_CI_AS
# By name: the id in sys.types, the bytes, the digits.
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
            0x6F: ("smalldatetime", "datetime"), 0x6E: ("smallmoney", "money"),
            0x24: ("uniqueidentifier",)}  # fmt: skip
BIT = 0x32  # that is never NULL
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
            return numeric_width(self.precision)
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


def type_info(kind: Type, *, nullable: bool = True) -> bytes:
    """Return TYPE_INFO; where NULL cannot be, many types have a code without a length."""
    name = kind.name
    if name == "date":
        return b"\x28"
    if name == "sql_variant":
        return struct.pack("<Bi", 98, 8009)
    if name in FIXED and not nullable and name != "uniqueidentifier":
        return bytes([BIT if name == "bit" else FIXED[name][0]])
    if name in FIXED:
        return bytes([next(code for code, names in NULLABLE.items() if name in names), FIXED[name][1]])
    if name == "decimal":
        return bytes([0x6C, numeric_width(kind.precision), kind.precision, kind.scale])
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


def numeric_width(precision: int) -> int:
    """Return the bytes of a decimal: sign and digits."""
    return next(width for digits, width in NUMERIC_WIDTHS if precision <= digits)
