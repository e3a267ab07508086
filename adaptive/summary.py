"""What the command says at the end of a load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from adaptive.metrics import Snapshot
from adaptive.result import LoadResult
from adaptive.urls import shown

SHOWN = 5  # rejects named in the summary; the dead letter file has them all


def summary(result: LoadResult, target: str) -> str:
    """Return the summary of a load into `target` (a URL without password, and a table)."""
    return "\n".join([f"{_source(result)} → {shown(target)}", *_lines(result)])


def _source(result: LoadResult) -> str:
    return shown(result.source.rpartition("/")[2] or result.source)


def _lines(result: LoadResult) -> Iterator[str]:
    if result.already:
        yield f"  already loaded on {result.already}: nothing was written; --again loads it again"
        return
    yield from (f"  {_source(part)}: {shown(str(part))}" for part in result.parts)
    rate = f", {result.written / result.seconds:,.0f} rows/s" if result.written and result.seconds else ""
    verb = "written" if result.dry_run is None else "would write"
    yield _line(verb, result.written, f"rows in {result.seconds:.2f} s{rate}")
    if result.resumed:
        yield _line("resumed", result.resumed, "records were settled by an earlier run")
    if result.duplicates:
        yield _line("there already", result.duplicates, "rows left as they are")
    if result.rejected_count:
        kept = f"records, kept in {shown(result.dead_letters or 'their files')}"
        text = kept if result.dry_run is None else "records, at least: constraints are not tried"
        yield _line("rejected", result.rejected_count, text)
        yield from (f"    {shown(str(letter))}" for letter in islice(result.rejected, SHOWN))
    if result.metrics and result.written:
        yield from _figures(result.metrics)


def _figures(metrics: Snapshot) -> Iterator[str]:
    writers = max([1, *(decision.writers for decision in metrics.decisions)])
    by = f"{writers} writer{'s' if writers > 1 else ''}"
    yield _line(
        "batches", sum(metrics.batch_sizes.values()), f"of up to {max(metrics.batch_sizes):,} rows, by {by}"
    )
    p95 = f"{metrics.p95_latency_ms:,.0f} ms p95"
    yield _line("latency", round(metrics.p50_latency_ms), f"ms p50, {p95}, from read to durable")
    if metrics.retry_count:
        yield _line("retried", metrics.retry_count, "times")


def _line(name: str, number: int, text: str) -> str:
    return f"  {name:<13}{number:>12,} {text}"


def loads_table(loads: Sequence[Mapping[str, Any]]) -> str:
    """Return the loads of a ledger, one a line."""
    if not loads:
        return "no loads"
    heads = ("load", "target", "mode", "state", "rows", "rejected", "started", "source")
    lines = [heads, *(_cells(row) for row in loads)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    started = row["started_at"].astimezone().strftime("%Y-%m-%d %H:%M:%S") if row["started_at"] else ""
    counts = (f"{row[name]:,}" if row[name] is not None else "" for name in ("rows", "rejected"))
    cells = (row["load"], row["target"], row["mode"], row["state"], *counts, started, row["source"])
    return tuple(map(shown, cells))
