"""Sinks by URL scheme, imported only when used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from adaptive.errors import UsageError
from adaptive.protocols import Sink

SINKS = {
    "sqlite": "adaptive.sinks.sqlite:SqliteSink",
    "postgresql": "adaptive.sinks.postgres:PostgresSink",
    "postgres": "adaptive.sinks.postgres:PostgresSink",
    "mongodb": "adaptive.sinks.mongodb:MongodbSink",
    "mongodb+srv": "adaptive.sinks.mongodb:MongodbSink",
    "mssql": "adaptive.sinks.sqlserver:SqlserverSink",
    "mssql+pyodbc": "adaptive.sinks.sqlserver:SqlserverSink",
}

EXTRA = "install this package with its extra: postgres, mongodb or sqlserver, as in pip install '.[postgres]'"


def sink_class(url: str) -> Callable[..., Sink]:
    """Return the sink class for a database URL.

    Raises UsageError if the scheme is unknown or its driver is not installed.
    """
    scheme = url.partition("://")[0].lower()
    if "://" not in url or scheme not in SINKS:
        known = ", ".join(f"{name}://" for name in SINKS)
        raise UsageError(f"no sink for this URL; it has to start with one of {known}")
    module, _, name = SINKS[scheme].partition(":")
    try:
        found: Callable[..., Sink] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise UsageError(f"{scheme}:// needs {error.name}, which is not installed: {EXTRA}") from error
    return found
