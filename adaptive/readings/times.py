"""Readings of dates, times of day and timestamps."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, tzinfo
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from adaptive.errors import UsageError
from adaptive.readings.reading import Cast, Reading, attempt, not_a, out_of_range, shown

_LOCAL = pa.timestamp("us")
_NULL = pa.scalar(None, pa.string())

_FIRST_DAY = (date.min - date(1970, 1, 1)).days
_LAST_DAY = (date.max - date(1970, 1, 1)).days
_TICKS_PER_DAY = {unit: 86_400 * 1_000**power for power, unit in enumerate(("s", "ms", "us", "ns"))}

# The sure patterns leave out February 29 and years at the edges of the calendar, which an offset
# may carry over it; these are read one by one.
_DAY = (
    r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
_SURE_DATE = rf"[1-8][0-9]{{3}}-{_DAY}"
_SURE_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?"
_SURE_LOCAL = rf"{_SURE_DATE}[T ]{_SURE_TIME}"
_ZERO_OFFSET = r"(?:Z|[+-]00(?::?00)?)"
_OFFSET = r"(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
_HAS_OFFSET = rf"[T ].*{_OFFSET}$"

_CLOCK = re.compile(r"([01][0-9]|2[0-3])(?::([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]+))?)?)?")
_MOMENT = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})(?:[Tt ](.*?) ?({_OFFSET}|z)?)?")


def within_calendar(values: pa.Array) -> pa.Array:
    """Return dates or timestamps, if all are in the years 1 to 9999, which ISO and Python can write.

    Raises ValueError if one is not.
    """
    days = pat.is_date32(values.type)
    ticks = 1 if days else _TICKS_PER_DAY[values.type.unit]
    found = pc.min_max(values.view(pa.int32() if days else pa.int64()))
    low, high = found["min"].as_py(), found["max"].as_py()
    if low is not None and not _FIRST_DAY * ticks <= low <= high < (_LAST_DAY + 1) * ticks:
        raise ValueError("not in the years 1 to 9999")
    return values


def day() -> Reading:
    """Return the reading of dates; a timestamp at midnight is one, too."""
    type_ = pa.date32()

    def canonical(text: str) -> str:
        moment = _moment(type_, text)
        if moment != datetime.combine(moment.date(), datetime.min.time()):
            raise not_a(type_, text)
        return moment.date().isoformat()

    def cast(text: pa.Array) -> pa.Array:
        return within_calendar(pc.cast(text, type_))

    return Reading(cast, f"^{_SURE_DATE}$", canonical, cast)


def time_of_day() -> Reading:
    """Return the reading of times of day."""
    type_ = pa.time64("us")

    def cast(text: pa.Array) -> pa.Array:  # Arrow has no cast from text to time
        return pc.cast(pc.cast(pc.binary_join_element_wise("1970-01-01", text, "T"), _LOCAL), type_)

    return Reading(cast, f"^{_SURE_TIME}$", lambda text: _clock(type_, text, text), cast)


def local(type_: pa.DataType) -> Reading:
    """Return the reading of timestamps without zone: an offset other than zero would be lost."""

    def without_offset(text: pa.Array) -> pa.Array:
        return pc.cast(text, type_)

    def with_offset(text: pa.Array) -> pa.Array:
        values = pc.cast(text, pa.timestamp("us", "UTC"))
        if pc.all(pc.match_substring_regex(text, f"{_ZERO_OFFSET}$")).as_py() is False:
            raise ValueError("an offset would be lost")
        return pc.cast(values, type_)

    def canonical(text: str) -> str:
        moment = _moment(type_, text)
        if moment.utcoffset():
            raise ValueError(f"{shown(text)} has an offset, which a column without time zone would lose")
        return moment.replace(tzinfo=None).isoformat()

    sure = f"^{_SURE_LOCAL}{_ZERO_OFFSET}?$"
    return Reading(_either(with_offset, without_offset), sure, canonical, _each(with_offset, without_offset))


def zoned(type_: pa.DataType, timezone: str) -> Reading:
    """Return the reading of timestamps with zone; those without an offset are in `timezone`.

    Raises UsageError if there is no such time zone.
    """
    zone = _zone(timezone)

    def with_offset(text: pa.Array) -> pa.Array:
        return pc.cast(text, type_)

    def without_offset(text: pa.Array) -> pa.Array:
        return pc.cast(in_zone(pc.cast(text, _LOCAL), timezone), type_)

    def canonical(text: str) -> str:
        moment = _moment(type_, text)
        if not moment.tzinfo:
            moment = moment.replace(tzinfo=zone)
            if moment.utcoffset() != moment.replace(fold=1).utcoffset():
                raise ValueError(f"{shown(text)} happens twice or never in {timezone}: the clocks change")
        try:
            return moment.astimezone(UTC).isoformat()
        except OverflowError:
            raise out_of_range(type_, text) from None

    sure = f"^{_SURE_LOCAL}{_OFFSET}{'?' if zone is UTC else ''}$"  # elsewhere the clocks change
    return Reading(_either(with_offset, without_offset), sure, canonical, _each(with_offset, without_offset))


def in_zone(values: pa.Array, timezone: str) -> pa.Array:
    """Return timestamps without zone as those of a zone.

    Raises ArrowInvalid if one happens twice or never there.
    """
    if timezone == "UTC":  # needs no time zone database, and costs nothing
        return pc.cast(values, pa.timestamp(values.type.unit, "UTC"))
    return pc.assume_timezone(values, timezone)


def _zone(timezone: str) -> tzinfo:
    try:
        return UTC if timezone == "UTC" else ZoneInfo(timezone)
    except (OSError, ValueError, LookupError):
        raise UsageError(f"unknown time zone {timezone!r}; use a name such as Europe/Berlin") from None


def _either(with_offset: Cast, without_offset: Cast) -> Cast:
    """Return a cast of texts that all have an offset, or all have none."""

    def cast(text: pa.Array) -> pa.Array:
        with suppress(ValueError):
            return within_calendar(attempt(with_offset, text))
        return within_calendar(attempt(without_offset, text))

    return cast


def _each(with_offset: Cast, without_offset: Cast) -> Cast:
    """Return a cast of texts with and without offset."""

    def cast(text: pa.Array) -> pa.Array:
        has_offset = pc.match_substring_regex(text, _HAS_OFFSET)
        return pc.coalesce(
            with_offset(pc.if_else(has_offset, text, _NULL)),
            without_offset(pc.if_else(has_offset, _NULL, text)),
        )

    return cast


def _moment(type_: pa.DataType, text: str) -> datetime:
    """Return the timestamp in a text, with a zone if it has an offset."""
    if not (match := _MOMENT.fullmatch(text)):
        raise not_a(type_, text)
    day, clock, offset = match.groups()
    time = "00:00:00" if clock is None else _clock(type_, clock, text)
    try:
        return datetime.fromisoformat(f"{day}T{time}{(offset or '').upper()}")
    except ValueError:
        raise not_a(type_, text) from None


def _clock(type_: pa.DataType, clock: str, text: str) -> str:
    """Return a time of day as `hh:mm:ss.ffffff`; `text` is the whole value, for the reason."""
    if not (match := _CLOCK.fullmatch(clock)):
        raise not_a(type_, text)
    hour, minute, second, fraction = match.groups("00")
    if fraction[6:].strip("0"):
        raise ValueError(f"{shown(text)} has more than 6 digits after the second")
    return f"{hour}:{minute}:{second}.{fraction[:6]:0<6}"
