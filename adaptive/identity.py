"""Which load a command means: a new one, one that it began before, or one to refuse."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adaptive.config import Settings, Target
from adaptive.errors import RefusedError
from adaptive.ledger import fingerprint
from adaptive.protocols import Source


@dataclass(frozen=True, slots=True)
class Input:
    """A source of a load, what identifies its content (None: nothing does), and its form.

    `form` holds what else makes it another load: format and dialect. The time zone does not, but a
    replay needs it.
    """

    source: Source
    content: str | None
    form: Mapping[str, Any]
    timezone: str = "UTC"


class LoadIdentity:
    """What makes a load that load: content, form, table, mode and key; not host, user, path or time.

    `name` is for people: the paths of its files. `known` says that its content tells which load it is, so
    that the same command resumes it.
    """

    def __init__(self, inputs: Sequence[Input], target: Target) -> None:
        self.name = ", ".join(os.path.abspath(i.source.name) if i.content else i.source.name for i in inputs)  # noqa: PTH100
        self.form = {**inputs[0].form, "table": target.table, "mode": target.mode, "key": list(target.key)}
        if target.idempotency_key:
            self.form["idempotency_key"] = list(target.idempotency_key)
        self._splits = list(range(len(inputs)))
        self.known = all(i.content for i in inputs)
        self._contents = [i.content or secrets.token_hex(16) for i in inputs]
        self._fingerprint = fingerprint(self._contents, self.form)
        # Without a ledger no run knows of another.
        self._name = self._fingerprint[:16] if target.has_ledger else secrets.token_hex(8)

    def choose(
        self, loads: Sequence[Mapping[str, Any]], settings: Settings, *, afresh: bool = False
    ) -> dict[str, Any]:
        """Return the load to prepare, as `Sink.prepare` takes it, from those that the ledger knows.

        With `again` that is another one than the last if that is done, or if it cannot be resumed (`afresh`).
        Raises RefusedError if the same files were loaded with other content.
        """
        name = settings.load_id or self._name
        same = [row for row in loads if row["load"] == name or row["load"].startswith(f"{name}#")]
        if settings.again and same and (afresh or same[-1]["state"] == "done"):
            name = f"{name}#{len(same) + 1}"
        elif same:
            name = same[-1]["load"]
        loaded = any(row["state"] == "done" for row in same)
        if self.known and not (settings.again or settings.load_id or loaded):
            self._refuse_changed(loads)
        described = {**self.form, "contents": self._contents} if self.known else self.form
        return {
            "load": name,
            "fingerprint": self._fingerprint,
            "source": self.name,
            "mapping": json.dumps(described, sort_keys=True, default=str),
            "owner": secrets.token_hex(16),
            "splits": self._splits,
        }

    def _refuse_changed(self, loads: Sequence[Mapping[str, Any]]) -> None:
        for row in loads:
            contents = json.loads(row["mapping"] or "{}").get("contents", self._contents)
            if row["source"] == self.name and contents != self._contents:
                raise RefusedError(
                    f"{self.name} was loaded on {day(row)} with other content; "
                    f"--again loads it as it is now, beside what is there"
                )


def day(row: Mapping[str, Any]) -> str:
    """Return when a load of the ledger ended, or began if it has not, as local time for people."""
    when = row["finished_at"] or row["started_at"]
    return when.astimezone().strftime("%Y-%m-%d %H:%M") if when else "an unknown day"
