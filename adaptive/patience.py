"""Trying again: the one rule for batches, and for what comes before the first row and after the last."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import tenacity

from adaptive.errors import AdaptiveError, SinkError, TakenOverError
from adaptive.isolation import first_line
from adaptive.protocols import AGAIN, Sink

T = TypeVar("T")

RETRY_SECONDS = 120.0  # longer than the sessions' server-side limits (60 s), which settle doubts


def never() -> bool:
    """Return False."""
    return False


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to try again: `attempts` after the first (None: any number), `seconds` after a first failure.

    The time before that does not count: a batch that took long and failed once is tried again, too. Nothing
    is tried any more once `stopped` says so. Waits are exponential with full jitter, 10 s at the most.
    """

    attempts: int | None = None
    seconds: float = RETRY_SECONDS
    wait: Callable[[float], object] = time.sleep
    stopped: Callable[[], bool] = never
    clock: Callable[[], float] = time.monotonic

    def calling(
        self,
        may_pass: Callable[[BaseException], bool],
        before_wait: Callable[[tenacity.RetryCallState], None],
    ) -> tenacity.Retrying:
        """Return what repeats a call until it raises nothing, or an error that may not pass or ends this."""
        failures: list[float] = []

        def enough(_: tenacity.RetryCallState) -> bool:
            failures.append(self.clock())
            many = self.attempts is not None and len(failures) > self.attempts
            return many or self.stopped() or failures[-1] - failures[0] >= self.seconds

        def pause(seconds: float) -> None:
            self.wait(seconds)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(may_pass),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=10),
            stop=enough,
            before_sleep=before_wait,
            sleep=pause,
            reraise=True,
        )


def may_pass(sink: Sink, error: BaseException) -> bool:
    """Return whether an error of a sink may be gone the next time."""
    return not isinstance(error, (AdaptiveError, OSError)) and sink.classify(error) in AGAIN


def patiently(sink: Sink, act: Callable[[Sink], T], retry: Retry) -> T:
    """Do what can be repeated until it succeeds, connecting anew after each failure that may pass."""

    def attempt() -> T:
        sink.open()
        return act(sink)

    return retry.calling(lambda error: may_pass(sink, error), lambda _: sink.close())(attempt)


def finish(sink: Sink, load: Mapping[str, Any], retry: Retry) -> None:
    """Mark a load done; the connection was idle all the time and may be gone by now.

    Raises SinkError or TakenOverError.
    """
    try:
        patiently(sink, lambda sink: sink.finish(load), retry)
    except AdaptiveError:
        raise
    except Exception as error:
        if sink.classify(error) == "taken_over":
            raise TakenOverError("taken over by another run of the same load") from error
        raise SinkError(first_line(error)) from error
