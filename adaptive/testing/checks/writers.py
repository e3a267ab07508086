"""Several writers side by side."""

from __future__ import annotations

import threading
from contextlib import closing

from adaptive.testing.checks.items import ids, items, started
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load, a_receipt


@check("append")
def several_writers_commit_side_by_side(lab: Lab) -> None:
    """Writers of one load wait for each other at the most; every batch is there once."""
    lab.make_items()
    load = a_load()
    started(lab, load).close()
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            with closing(started(lab)) as sink:
                for batch in range(5):
                    first = 1_000 * writer + 100 * batch
                    assert sink.begin(a_receipt(load, f"{writer} {batch}", first, first + 99))
                    assert sink.write(items(first, first + 99)) == []
                    sink.commit()
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert not failures, failures
    assert ids(lab) == [1_000 * writer + row for writer in range(3) for row in range(500)]
    with closing(started(lab)) as sink:
        assert sum(rows for _, rows, _ in sink.receipts("load")) == 1_500
