"""Loads very many records into a database: adaptive batches, exactly once, nothing to tune."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from adaptive.errors import (
    AdaptiveError,
    InterruptedLoadError,
    QueueFull,
    RefusedError,
    SinkError,
    SourceError,
    TakenOverError,
    TooManyRejectsError,
    UsageError,
)

if TYPE_CHECKING:
    from adaptive.config import Settings
    from adaptive.idempotency_store import IdempotencyStore
    from adaptive.loader import load
    from adaptive.pipeline import Pipeline
    from adaptive.result import LoadResult

__version__ = "0.1.0"
__all__ = [
    "load", "Pipeline", "Settings", "IdempotencyStore", "LoadResult", "AdaptiveError", "UsageError",
    "RefusedError", "SourceError", "SinkError", "TakenOverError", "QueueFull", "TooManyRejectsError",
    "InterruptedLoadError",
]  # fmt: skip

logging.getLogger("adaptive").addHandler(logging.NullHandler())  # silent until a program wants to hear it

_LAZY = {
    "load": "adaptive.loader", "Pipeline": "adaptive.pipeline", "Settings": "adaptive.config",
    "IdempotencyStore": "adaptive.idempotency_store", "LoadResult": "adaptive.result",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the larger parts when they are first used: `adaptive --help` needs none of them."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
