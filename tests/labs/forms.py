"""What the databases have in common in how they hold values."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any


def in_json(value: Any) -> Any:
    """Return what JSON says for a value inside a list or struct; decimals are text: no reader rounds it."""
    if isinstance(value, dict):
        return {name: in_json(one) for name, one in value.items()}
    if isinstance(value, list):
        return [in_json(one) for one in value]
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value


def without_nul(value: str) -> str:
    """Return a text. Raises ValueError if it holds NUL, which not every database takes."""
    if "\0" in value:
        raise ValueError("NUL")
    return value


def finite(value: float) -> float:
    """Return a number. Raises ValueError for NaN and infinity."""
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("no number")
    return value
