"""Opening and closing, and servers that do not answer."""

from __future__ import annotations

import socket
from contextlib import closing
from urllib.parse import SplitResult, urlsplit

from adaptive.protocols import Sink
from adaptive.testing.checks.items import fails, ids, items, started
from adaptive.testing.checks.registry import check
from adaptive.testing.lab import Lab

WRONG = "not-the-password"


def elsewhere(lab: Lab, place: SplitResult) -> Sink:
    """Return a sink of the lab's kind for another URL."""
    found: Sink = type(lab.sink("items"))(place.geturl(), table="items")  # type: ignore[call-arg]
    return found


@check("append")
def closing_twice_is_fine(lab: Lab) -> None:
    """`close` and `rollback` raise nothing, open or not, and undo what can be undone."""
    lab.make_items()
    sink = started(lab)
    sink.begin()
    sink.write(items(1, 1))
    sink.close()
    sink.close()
    sink.rollback()
    assert ids(lab) == ([] if "transactional" in sink.capabilities else [1])


@check("append")
def a_closed_sink_can_be_opened_again(lab: Lab) -> None:
    """And opening what is open changes nothing."""
    lab.make_items()
    sink = lab.sink("items")
    sink.rollback()
    for number in range(2):
        with sink, closing(sink):
            sink.open()
            sink.begin()
            sink.write(items(number, number))
            sink.commit()
    assert ids(lab) == [0, 1]


@check("append")
def a_server_that_does_not_answer_is_tried_again(lab: Lab) -> None:
    """Nothing was applied, and it may pass; the password is not in the error."""
    place = urlsplit(lab.url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    account = place.netloc.rpartition("@")[0]
    sink = elsewhere(lab, place._replace(netloc=f"{account}@127.0.0.1:{port}".lstrip("@")))
    with closing(sink), fails(sink, "retry") as failure:
        sink.open()
    assert place.password is None or place.password not in "".join(failure)


@check("append")
def a_wrong_password_is_shown_to_nobody(lab: Lab) -> None:
    """Neither it nor the right one is in the error."""
    place = urlsplit(lab.url)
    assert place.password
    sink = elsewhere(lab, place._replace(netloc=place.netloc.replace(f":{place.password}@", f":{WRONG}@")))
    with closing(sink), fails(sink, "fatal", "retry") as failure:
        sink.open()
    assert not any(word in text for text in failure for word in (WRONG, place.password))
