"""What errors mean."""

from __future__ import annotations

from contextlib import closing

from adaptive.testing.checks.items import ids, items, started
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab, a_load, a_receipt


@check("append")
def a_lost_connection_is_in_doubt_and_the_batch_can_be_begun_again(lab: Lab) -> None:
    """Whatever is cut, the same batch goes in exactly once after connecting anew."""
    lab.make_items()
    load = a_load()
    with closing(started(lab, load)) as sink:
        assert sink.begin(a_receipt(load, "one", 0, 2))
        sink.write(items(1, 3))
        lab.break_links()
        try:
            sink.commit()
        except Exception as error:
            assert sink.classify(error) == "in_doubt"
            sink.rollback()
            sink.close()
            sink.open()
            if sink.begin(a_receipt(load, "one", 0, 2)):
                sink.write(items(1, 3))
                sink.commit()
        assert sink.receipts("load") == [([[0, 0, 2]], 3, [])]
    assert ids(lab) == [1, 2, 3]
