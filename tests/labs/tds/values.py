"""Values from one type to another, with the rules and the errors of SQL Server."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from labs.tds.errors import SqlError
from labs.tds.types import BYTES, FIXED, INTEGERS, MONEY, SCALED, TEXTS, Type, type_of

Convert = Callable[[Any], Any]

RANGES = {"tinyint": (0, 255), "smallint": (-(2**15), 2**15 - 1), "int": (-(2**31), 2**31 - 1),
          "bigint": (-(2**63), 2**63 - 1)}  # fmt: skip
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)\s*")
WHOLE = re.compile(r"\s*[+-]?\d+\s*")
GUID = re.compile(r"\{?([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\}?")
DATE = r"(?P<day>\d{4}-\d\d-\d\d|\d{8})"
TIME = r"(?P<time>\d\d:\d\d(?::\d\d(?:\.\d{1,7})?)?)"
MOMENT = re.compile(rf"\s*(?:{DATE}(?:[T ]{TIME})?|(?:(?P<alone>){TIME.replace('time', 'only')}))"
                    r"\s*(?P<offset>Z|[+-]\d\d:\d\d)?\s*")  # fmt: skip
# In how many seconds they count, first and last day.
OLD = {"datetime": (Decimal(1) / 300, date(1753, 1, 1), date(9999, 12, 31)),
       "smalldatetime": (Decimal(60), date(1900, 1, 1), date(2079, 6, 6))}  # fmt: skip
ALIASES = {"numeric": "decimal", "dec": "decimal", "integer": "int", "doubleprecision": "float"}
EXACT = Context(prec=77, rounding=ROUND_HALF_UP)
NUMERIC = "numeric"  # what the server calls decimal in its texts


@lru_cache(4096)
def converter(source: Type | None, target: Type, *, cut: bool) -> Convert | None:
    """Return what makes values of `source` values of `target`; None if nothing has to be done.

    A `source` of None is unknown. `cut` says that a text may be cut (CAST), otherwise it is an error 8152.
    """
    if source == target and target.name not in ("real", "float"):
        return None
    return lambda value: None if value is None else convert(value, source or type_of(value), target, cut=cut)


def convert(value: Any, source: Type, target: Type, *, cut: bool = False) -> Any:
    """Return a value as the target holds it. Raises SqlError."""
    name = target.name
    if name in TEXTS:
        return _text(value, source, target, cut)
    if name in BYTES:
        return _bytes(value, source, target, cut)
    for names, rule in RULES:
        if name in names:
            return rule(value, source, target)
    return _moment(value, source, target)


def _bit(value: Any, source: Type, _: Type) -> int:
    if source.name not in TEXTS:
        return int(float(value) != 0)
    word = value.strip().lower()
    if word not in ("true", "false") and not WHOLE.fullmatch(word):
        raise SqlError(245, source=source.name, value=value, type="bit")
    return int(word == "true" or (word != "false" and int(word) != 0))


def _integer(value: Any, source: Type, target: Type) -> int:
    name = target.name
    low, high = RANGES[name]
    if source.name in TEXTS:
        if not WHOLE.fullmatch(value):
            number = 8114 if name == "bigint" else 245
            raise SqlError(number, source=source.name, value=value, type=name)
        if not low <= int(value) <= high:
            raise SqlError(8115 if name == "bigint" else 248, source=source.name, value=value, type=name)
        return int(value)
    if source.name in SCALED or source.name == "date":
        raise SqlError(206, f"Operand type clash: {source.name} is incompatible with {name}")
    whole = int(Decimal(value)) if isinstance(value, str) else int(value)
    if not low <= whole <= high:
        small = name in ("tinyint", "smallint")
        raise SqlError(220 if small else 8115, type=name, value=whole, source="expression")
    return whole


def _float(value: Any, source: Type, target: Type) -> float:
    name = target.name
    try:
        number = float(value)
    except ValueError:
        raise SqlError(8114, source=source.name, type=name) from None
    if not math.isfinite(number):
        raise SqlError(
            8023,
            "The incoming tabular data stream (TDS) remote procedure call (RPC) protocol stream is "
            f'incorrect. Parameter 3 (""): The supplied value is not a valid instance of data type {name}.',
        )
    if name == "real" and abs(number) > 3.4028235e38:
        raise SqlError(8115, source="expression", type="real")
    return number


def _decimal(value: Any, source: Type, target: Type) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    if source.name in TEXTS and not NUMBER.fullmatch(text):
        raise SqlError(8114, source=source.name, type=NUMERIC)
    try:
        number = EXACT.quantize(Decimal(text.strip()), Decimal(1).scaleb(-target.scale))
    except InvalidOperation:
        raise SqlError(8115, source=source.name, type=NUMERIC) from None
    if number.adjusted() >= target.precision - target.scale and number:
        raise SqlError(8115, source=NUMERIC if source.name == "decimal" else source.name, type=NUMERIC)
    return format(number or abs(number), "f")


def _money(value: Any, source: Type, target: Type) -> str:
    text = _decimal(value, source, Type("decimal", 0, 38, 4))
    low, high = RANGES["bigint" if target.name == "money" else "int"]
    if not low <= int(text.replace(".", "")) <= high:
        raise SqlError(8115, source=source.name, type=target.name)
    return text


def _text(value: Any, source: Type, target: Type, cut: bool) -> str:
    text = _words(value, source)
    if target.name in ("varchar", "char"):
        text = text.encode("cp1252", "replace").decode("cp1252")
    if 0 <= target.size < _length(text, target):
        if not cut and len(text.rstrip(" ")) > target.size:
            raise SqlError(8152, value=text[: target.size])
        text = text[: target.size]
    return filled(text, target)


def filled(text: str, target: Type) -> str:
    """Return a text with the spaces that one of a fixed length is stored with."""
    return text + " " * (target.size - _length(text, target)) if target.name in ("char", "nchar") else text


def _length(text: str, target: Type) -> int:
    narrow = target.name in ("varchar", "char") or text.isascii()
    return len(text) if narrow else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _words(value: Any, source: Type) -> str:
    if source.name == "datetimeoffset":
        moment = datetime.fromisoformat(value[:26] + "+00:00")
        return _local(moment, value).isoformat(sep=" ")
    if source.name in ("time", "datetime2", *OLD):
        scale = {"datetime": 3, "smalldatetime": 0}.get(source.name, source.scale)
        return str(value)[: len(value) - 7 + scale].rstrip(".")
    if isinstance(value, bytes):
        return value.decode("cp1252", "replace")
    return str(value)


def _bytes(value: Any, source: Type, target: Type, cut: bool) -> bytes:
    if not isinstance(value, bytes):
        raise SqlError(257, source=source.name, type=target.name)
    if 0 <= target.size < len(value) and not cut:
        raise SqlError(8152, value="0x" + value[: target.size].hex())
    raw = value if target.size < 0 else value[: target.size]
    return raw.ljust(target.size, b"\0") if target.name == "binary" else raw


def _guid(value: Any, *_: Type) -> str:
    if not isinstance(value, str) or not (found := GUID.fullmatch(value)):
        raise SqlError(8169)
    return found[1].upper()


def _moment(value: Any, source: Type, target: Type) -> str:
    if source.name in INTEGERS or source.name in ("decimal", "float", "real") or isinstance(value, bytes):
        raise SqlError(206, f"Operand type clash: {source.name} is incompatible with {target.name}")
    day, clock, offset = _taken_apart(value, source)
    if target.name in OLD:
        return _old(day, clock, source, target.name)
    if target.name != "date" and clock[9 + target.scale :].strip("0"):
        day, clock = _rounded(day, clock, target.scale)
    if target.name == "date":
        return day
    if target.name == "time":
        return clock
    return f"{day} {clock}" if target.name != "datetimeoffset" else _with_offset(day, clock, offset)


def _old(day: str, clock: str, source: Type, name: str) -> str:
    """datetime counts in 1/300 s, smalldatetime in minutes; both know fewer years."""
    step, *limits = OLD[name]
    seconds = (datetime.fromisoformat(f"{day} {clock[:8]}") - datetime(1900, 1, 1)).total_seconds()
    steps = math.floor((Decimal(int(seconds)) + Decimal(f"0.{clock[9:]}")) / step + Decimal("0.5"))
    whole, rest = divmod(steps * step, 1)
    moment = datetime(1900, 1, 1) + timedelta(seconds=int(whole))
    if not limits[0] <= moment.date() <= limits[1]:
        raise SqlError(242, f"The conversion of a {source.name} data type to a {name} data type resulted in "
                       "an out-of-range value.")  # fmt: skip
    milliseconds = round(float(rest) * 1000)
    return f"{moment.date().isoformat()} {moment:%H:%M:%S}.{milliseconds:03}0000"


def _taken_apart(value: str, source: Type) -> tuple[str, str, str]:
    """Return day, time and offset, in local time."""
    midnight = "00:00:00.0000000"
    if source.name == "date":
        return value, midnight, "+00:00"
    if source.name == "time":
        return "1900-01-01", value, "+00:00"
    if source.name in ("datetime2", *OLD):
        return value[:10], value[11:], "+00:00"
    if source.name == "datetimeoffset":
        local = _local(datetime.fromisoformat(value[:26] + "+00:00"), value)
        return f"{local:%Y-%m-%d}".rjust(10, "0"), f"{local:%H:%M:%S}{value[19:27]}", value[27:]
    found = MOMENT.fullmatch(value)
    try:
        assert found
        day = date.fromisoformat(found["day"] or "1900-01-01").isoformat()
        clock = found["time"] or found["only"] or midnight
        clock = (clock + midnight[len(clock) :])[:16] if len(clock) < 9 else clock.ljust(16, "0")
        datetime.fromisoformat(f"{day} {clock[:15]}")
    except (AssertionError, ValueError):
        raise SqlError(241) from None
    return day, clock, (found["offset"] or "Z").replace("Z", "+00:00")


def _rounded(day: str, clock: str, scale: int) -> tuple[str, str]:
    ticks = int(clock[9:16]) / 10 ** (7 - scale)
    kept = math.floor(ticks + 0.5)
    if kept < 10**scale:
        return day, f"{clock[:9]}{str(kept).rjust(scale, '0') if scale else ''}".ljust(16, "0")
    later = datetime.fromisoformat(f"{day} {clock[:8]}") + timedelta(seconds=1)
    return later.date().isoformat(), f"{later:%H:%M:%S}.0000000"


def _local(moment: datetime, value: str) -> datetime:
    minutes = int(value[28:30]) * 60 + int(value[31:33])
    return moment.astimezone(timezone(timedelta(minutes=-minutes if value[27] == "-" else minutes)))


def _with_offset(day: str, clock: str, offset: str) -> str:
    moment = datetime.fromisoformat(f"{day} {clock[:8]}{offset}").astimezone(UTC)
    return f"{moment.date().isoformat()} {moment:%H:%M:%S}{clock[8:]}{offset}"


RULES: tuple[tuple[set[str], Callable[[Any, Type, Type], Any]], ...] = (
    ({"bit"}, _bit), (INTEGERS, _integer), ({"real", "float"}, _float), (MONEY, _money),
    ({"decimal"}, _decimal), ({"uniqueidentifier"}, _guid),
)  # fmt: skip


def compare_decimals(left: str, right: str) -> int:
    """Order two numbers in text; what is no number comes last."""
    try:
        a, b = Decimal(left), Decimal(right)
    except InvalidOperation:
        return (left > right) - (left < right)
    return (a > b) - (a < b)


def compare_texts(left: str, right: str) -> int:
    """Order two texts without case and trailing spaces, as the server's default collation does."""
    a, b = left.rstrip(" ").casefold(), right.rstrip(" ").casefold()
    return (a > b) - (a < b)


def compare_offsets(left: str, right: str) -> int:
    """Order two moments by their time in UTC, whatever their offsets."""
    return (left[:27] > right[:27]) - (left[:27] < right[:27])


@lru_cache(4096)
def type_from_text(text: str) -> Type:
    """Return the type that T-SQL writes as `text`. Raises SqlError 2715."""
    name, _, inner = text.lower().replace(" ", "").partition("(")
    sizes = [size for size in inner.rstrip(")").split(",") if size]
    name = ALIASES.get(name, name)
    first = None if not sizes else -1 if sizes[0] == "max" else int(sizes[0])
    if name == "sysname":
        return Type("nvarchar", 128)
    if name == "float" and first is not None and first <= 24:
        return Type("real")
    if name in FIXED or name == "sql_variant":
        return Type(name)
    if name == "decimal":
        return Type(name, 0, first or 18, int(sizes[1]) if len(sizes) > 1 else 0)
    if name in SCALED:
        return Type(name, 0, 0, 7 if first is None else first)
    if name in TEXTS or name in BYTES:
        return Type(name, 1 if first is None else first)
    raise SqlError(2715, f"Column, parameter, or variable: Cannot find data type {text}.")
