"""Parses a source in several threads and yields its chunks in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from adaptive.errors import AdaptiveError, InterruptedLoadError, SourceError
from adaptive.isolation import first_line
from adaptive.metrics import Metrics
from adaptive.protocols import Source
from adaptive.rows import Chunk, Field

T = TypeVar("T")


def chunks(
    source: Source, split: int, fields: Sequence[Field], workers: int, metrics: Metrics
) -> Iterator[Chunk]:
    """Yield a source's chunks in source order, each at its place in the split.

    Reading is serial, in the caller's thread; parsing runs up to `workers` pieces ahead. Raises
    SourceError after everything before the break has been yielded, whatever the break is: a damaged
    file, memory that does not suffice, an error of the program that produces the records.
    """
    ended = [time.monotonic()] * workers  # when each parser ended its last piece, in no order

    def parse(raw: Any, accepted: float) -> Chunk:
        started = time.monotonic()
        metrics.spent("parser", "idle", started - ended.pop())
        chunk = source.parse(raw, fields)
        ended.append(now := time.monotonic())
        metrics.spent("parser", "busy", now - started)
        return replace(chunk, accepted=accepted)

    ordinal = 0
    with ThreadPoolExecutor(workers, thread_name_prefix="parser") as pool:
        raws = timed(source.read(), metrics)
        parsed = (pool.submit(parse, raw, time.monotonic()) for raw in raws)
        try:
            for future in ahead(parsed, workers):
                before = time.monotonic()
                chunk = future.result()
                metrics.spent("reader", "idle", time.monotonic() - before)
                if chunk.count:
                    yield chunk.moved(split, ordinal)
                ordinal += chunk.count
        except AdaptiveError:
            raise
        except Exception as error:
            reason = ": ".join(dict.fromkeys((type(error).__name__, first_line(error))))
            raise SourceError(f"{source.name}: not readable after record {ordinal:,}: {reason}") from error


def timed(raws: Iterator[T], metrics: Metrics) -> Iterator[T]:
    """Yield what is read, noting the time that reading takes."""
    started = time.monotonic()
    for raw in raws:
        metrics.spent("reader", "busy", time.monotonic() - started)
        yield raw
        started = time.monotonic()


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """Yield items in order, each one after `depth` further ones have been taken.

    Raises an error like `items`, but after yielding what came before it; only an interruption waits for
    nothing.
    """
    waiting: deque[T] = deque()
    try:
        for item in items:
            waiting.append(item)
            if len(waiting) > depth:
                yield waiting.popleft()
    except InterruptedLoadError:
        raise
    except Exception:
        yield from waiting
        raise
    yield from waiting
