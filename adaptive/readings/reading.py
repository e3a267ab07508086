"""What the readings of all types share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa

from adaptive.types import type_word

Cast = Callable[[pa.Array], pa.Array]

_HEAD = 32
_SHOWN = 60  # characters of a value in a reason: enough to find it, short enough for one line


class Reading(NamedTuple):
    """How text becomes one type.

    `check_cast` converts an array of strings and raises ValueError (ArrowInvalid is one) if any
    value is bad, or looks like one that Arrow misreads. `sure` is a pattern (RE2) of texts that are
    certainly good; `canonical` returns a text of the same meaning in a form that needs no check, or
    raises ValueError with the reason. `cast` converts texts that are one or the other; `trim` says
    that blanks around a text mean nothing.
    """

    check_cast: Cast
    sure: str
    canonical: Callable[[str], str]
    cast: Cast
    trim: bool = True


def attempt(cast: Cast, text: pa.Array) -> pa.Array:
    """Return `cast(text)`, having tried it on a few values first.

    Arrow formats an error for every value that fails, 1.3 µs each: 1.3 s for a column of 1,000,000
    timestamps with offset cast to one without. The first values show what such a column is.

    Raises ValueError if a value is bad.
    """
    cast(text[:_HEAD])
    return cast(text)


def shown(text: str) -> str:
    """Return a value as it appears in a reason: quoted, escaped, shortened."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def not_a(type_: pa.DataType, text: str) -> ValueError:
    """Return the error for a text that cannot be read as a type at all."""
    word = type_word(type_)
    return ValueError(f"{shown(text)} is not {'an' if word[0] in 'aiu' and word != 'uuid' else 'a'} {word}")


def out_of_range(type_: pa.DataType, text: str) -> ValueError:
    """Return the error for a text whose value a type cannot hold."""
    return ValueError(f"{shown(text)} is out of range for {type_word(type_)}")
