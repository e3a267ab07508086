"""Connections cut at random bytes of the conversation, and around the message that commits."""

from __future__ import annotations

from adaptive.testing import Cut, FaultProxy
from adaptive.testing.faults import Direction, Moment
from adaptive.testing.processes import Run, when
from reliability.trial import Load, Trial

DIRECTIONS: tuple[Direction, ...] = ("up", "down")
MOMENTS: tuple[Moment, ...] = ("before", "within", "after")
AT_RANDOM = "cut at a random byte"


def prove(trial: Trial) -> None:
    """Cut at `times` random bytes; then, a tenth as often each, before, within and after a commit."""
    with trial.proxy() as proxy:
        said = _conversation(trial, proxy)
        while trial.figures[AT_RANDOM] < trial.times:  # a load that says less than that one may end before
            direction = trial.random.choice(DIRECTIONS)
            reset = trial.random.random() < 0.5
            place = trial.random.randrange(said[direction])
            _cut(trial, proxy, Cut(place, direction, over="all", reset=reset))
        for moment in MOMENTS:
            for _ in range(max(1, trial.times // 10)):
                place = trial.random.randrange(said["up"] * 9 // 10)  # a commit has to follow
                _cut(trial, proxy, Cut(trial.database.commit, moment=moment), after=place)
            if not trial.figures[f"cut {moment} a commit"]:
                trial.note(f"no load was cut {moment} a commit: its bytes were not found")


def _conversation(trial: Trial, proxy: FaultProxy) -> dict[Direction, int]:
    """Return the bytes that an undisturbed load exchanges with its server."""
    proxy.arm()
    load = _load(trial, proxy)
    trial.expect(trial.run(load.command), 0, what="undisturbed")
    trial.settle(load, "undisturbed")
    trial.figures["bytes of a load"] = sum(proxy.passed.values())
    return proxy.passed


def _load(trial: Trial, proxy: FaultProxy) -> Load:
    return trial.new_load(*trial.batch(), url=proxy.through(trial.database.url))


def _cut(trial: Trial, proxy: FaultProxy, cut: Cut, after: int | None = None) -> None:
    """Cut a load's connection; with `after`, only once so many bytes have gone up."""
    load = _load(trial, proxy)
    proxy.arm(*([cut] if after is None else []))
    with Run(load.command, **trial.options) as running:
        if after is not None and running.wait_until(when(lambda: proxy.passed["up"] >= after)):
            proxy.arm(cut)
        code, output = running.wait(), running.output
    kind = AT_RANDOM if after is None else f"cut {cut.moment} a commit"
    trial.figures["strikes"] += bool(proxy.fired)
    trial.figures[kind if proxy.fired else f"ended before it was {kind}"] += 1
    if code:
        trial.figures["completed by repeating the command"] += 1
        if code != 1:
            trial.note(f"{kind} ({cut}): exit code {code}: {output.strip()[-600:]}")
        trial.expect(trial.complete(load), 0, what=f"repeated after {cut}")
    else:
        trial.figures["completed by its own retries"] += bool(proxy.fired)
    trial.settle(load, f"{kind} ({cut})")
    trial.progress(f"{trial.figures['loads']} loads, {len(trial.trouble)} troubles")
