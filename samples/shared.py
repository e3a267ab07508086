"""What the samples share: their command line, and a line about a live load."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from urllib.parse import quote

from dotenv import load_dotenv

from adaptive.errors import AdaptiveError
from adaptive.metrics import Snapshot


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
    except AdaptiveError as error:
        sys.exit(str(error))


def told(metrics: Snapshot) -> str:
    """Return the metrics of a pipeline in a line."""
    sizes = ", ".join(f"{count} of {size:,}" for size, count in metrics.batch_sizes.items())
    return (
        f"{metrics.success_count:,} of {metrics.enqueue_count:,} written,"
        f" p95 latency {metrics.p95_latency_ms:.1f} ms, batches: {sizes}"
    )
