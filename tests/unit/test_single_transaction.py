from __future__ import annotations

from typing import cast

import pytest

from adaptive.errors import AdaptiveError, InterruptedLoadError, SinkError
from adaptive.protocols import BatchSink, Verdict
from adaptive.single_transaction import SingleTransaction


class FailingSink:
    """A sink whose commit raises an error, which it calls `verdict`."""

    max_rows = max_bytes = None

    def __init__(self, error: Exception, verdict: Verdict) -> None:
        self.error, self.verdict = error, verdict

    def begin(self, _: object) -> bool:
        return True

    def commit(self, *_: object) -> None:
        raise self.error

    def classify(self, _: BaseException) -> Verdict:
        return self.verdict


@pytest.mark.parametrize(
    ("error", "verdict", "in_doubt", "raised"),
    [
        (RuntimeError("connection lost"), "in_doubt", True, SinkError),
        (RuntimeError("a constraint"), "reject", False, SinkError),
        (InterruptedLoadError("by a signal"), "fatal", True, InterruptedLoadError),
    ],
)
def test_a_commit_that_fails_says_whether_it_is_in_doubt(
    error: Exception, verdict: Verdict, in_doubt: bool, raised: type[AdaptiveError]
) -> None:
    single = SingleTransaction(cast("BatchSink", FailingSink(error, verdict)))
    single.begin()
    with pytest.raises(raised, match=str(error)):
        single.end()
    assert single.in_doubt == in_doubt


def test_a_load_without_rows_commits_nothing() -> None:
    single = SingleTransaction(cast("BatchSink", FailingSink(RuntimeError("never"), "fatal")))
    single.end()
    assert not single.in_doubt
