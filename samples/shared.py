"""What the samples share: their command line, and feeding a live pipeline."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from dotenv import load_dotenv

import adaptive


def run(main: Callable[[argparse.Namespace], None], text: str | None, *, to: str, variable: str = "") -> None:
    """Call `main` with what the command line says (`file`, `to`, `orders`), and say in a line what stops it.

    `to` is the default URL, as docker-compose.yml starts the database; its {} is the environment's variable
    of that name, which may also stand in the file .env.
    """
    load_dotenv(".env")
    default = to.format(quote(os.environ.get(variable, ""), safe=""))
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="csv, jsonl, parquet or xml; without it orders are generated")
    parser.add_argument("--to", metavar="URL", default=default, help=f"default: {to.format(f'${variable}')}")
    parser.add_argument("--orders", metavar="N", type=int, default=100_000, help="default: 100,000")
    try:
        main(parser.parse_args())
    except adaptive.AdaptiveError as error:
        sys.exit(str(error))


def feed(pipeline: adaptive.Pipeline, records: Iterable[Mapping[str, Any]]) -> None:
    """Put records one by one, as they come, and say how they were written."""
    for record in records:
        pipeline.put(record)  # waits only while the queue is full
    pipeline.flush()  # all of them are durable now
    metrics = pipeline.metrics()
    sizes = ", ".join(f"{count} of {size:,}" for size, count in metrics.batch_sizes.items())
    print(
        f"live: {metrics.success_count:,} of {metrics.enqueue_count:,} written,"
        f" p95 latency {metrics.p95_latency_ms:.1f} ms, batches: {sizes}"
    )
