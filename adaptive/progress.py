"""The terminal display of a running load."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from adaptive.flow import Flow
from adaptive.protocols import Source
from adaptive.urls import shown

PER_SECOND = 5  # drawings: more cost CPU that the load could use, fewer look stuck


class Display:
    """Draws rows, rows per second, queue depth, batch size and the time left on standard error.

    Call it with a flow and the source that is being read now; it looks at both from rich's own
    thread, so the load itself does nothing for it.
    """

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Numbers(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            refresh_per_second=PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, flow: Flow, source: Source) -> None:
        """Show this source from now on."""
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        name = shown(source.name.rpartition("/")[2])
        self._progress.add_task(name, total=source.total, flow=flow, source=source)


class _Numbers(ProgressColumn):
    def render(self, task: Task) -> Text:
        flow, source = task.fields["flow"], task.fields["source"]
        task.completed = source.consumed
        rows = flow.metrics.total("success")
        rate = rows / task.elapsed if task.elapsed else 0
        depth = flow.queue.depth.records
        words = f"{rows:>12,} rows {rate:>10,.0f}/s  queue {depth:>7,}  batch {flow.limit.rows:>6,}"
        if rejected := flow.metrics.total("fail"):
            words += f"  rejected {rejected:,}"
        return Text(words)
