"""The error budget: how many rejects a load may have before it is hopeless."""

from __future__ import annotations

from dataclasses import dataclass

from adaptive.errors import TooManyRejectsError, UsageError

SETTLED_FIRST = 1_000  # a percentage of fewer records says nothing


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `rejects` rejected records, or `percent` of all from the 1,000th record on."""

    rejects: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str | int | None) -> Budget:
        """Return the budget in a text such as "100" or "5%"; None is no bound.

        Raises UsageError.
        """
        if text is None:
            return cls()
        try:
            share = str(text).removesuffix("%")
            budget = cls(rejects=int(text)) if share == str(text) else cls(percent=float(share))
        except ValueError:
            raise UsageError(f"max-rejected {text!r} is neither a number nor a percentage") from None
        if (budget.rejects or 0) < 0 or not 0 <= (budget.percent or 0) <= 100:
            raise UsageError(f"max-rejected {text!r} is out of range")
        return budget

    @property
    def given(self) -> bool:
        """Return whether there is a bound."""
        return self.rejects is not None or self.percent is not None

    def check(self, rejected: int, settled: int, *, ended: bool = False) -> None:
        """Raise TooManyRejectsError if `rejected` of `settled` records are too many."""
        over = self.rejects is not None and rejected > self.rejects
        if self.percent is not None and (ended or settled >= SETTLED_FIRST):
            over = rejected > settled * self.percent / 100
        if over:
            bound = f"{self.percent:g} %" if self.percent is not None else f"{self.rejects:,}"
            raise TooManyRejectsError(f"{rejected:,} of {settled:,} records rejected; the bound is {bound}")
