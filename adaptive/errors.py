"""The errors that `adaptive` raises, and the exit code each one ends the command with.

AdaptiveError                1
├── UsageError               2   wrong option, setting or URL; nothing was touched
│   └── RefusedError         2   the load cannot start as it is: no table, no right, other content
├── SourceError              1   the input cannot be read any further; what came before it is loaded
├── SinkError                1   the database stopped the load; the same command resumes it
│   └── TakenOverError       1   another run of the same load owns it now
├── QueueFull                1   a live record was not taken, since it was asked to be handed back
├── TooManyRejectsError      1   `--max-rejected` was exceeded
└── InterruptedLoadError   130   SIGINT or SIGTERM; the same command resumes the load
"""

from __future__ import annotations

from typing import Any


class AdaptiveError(Exception):
    """Base of everything raised on purpose; its text is meant for the user.

    `result` is the `LoadResult` of a load that it stopped, if that had begun.
    """

    exit_code = 1
    result: Any = None


class UsageError(AdaptiveError):
    """An option, a setting or a URL is wrong. Nothing was touched."""

    exit_code = 2


class RefusedError(UsageError):
    """The load was refused before its first row. Nothing was touched."""


class SourceError(AdaptiveError):
    """The input cannot be read any further. What came before is loaded."""


class SinkError(AdaptiveError):
    """The database stopped the load. The same command resumes it."""


class TakenOverError(SinkError):
    """Another run of the same load owns it now; nothing of this run can be committed."""


class QueueFull(AdaptiveError):  # noqa: N818 - as queue.Full
    """The queue has no room for a live record, and `on_full` is "reject": it was not taken."""


class TooManyRejectsError(AdaptiveError):
    """More rows were rejected than `--max-rejected` allows."""


class InterruptedLoadError(AdaptiveError):
    """SIGINT or SIGTERM stopped the load. The same command resumes it."""

    exit_code = 130
