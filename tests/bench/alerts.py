"""Prints how often the alerts ring in vain, how soon they ring, and whether causes are found.

`make bench-alerts`; the tests hold a part of these to the published figures.
"""

import argparse
import tempfile
from datetime import timedelta
from pathlib import Path
from statistics import median

import numpy as np

from fleet.alerting.alert import hour_class
from fleet.alerting.changes import ChangeKind
from fleet.alerting.timeline import explain_worse
from tests.bench.alert_replay import MONDAY, OutageReplay
from tests.fleet.alerting.regressions import planted
from tests.fleet.alerting.simulation import (
    ALIAS,
    WEEK,
    Sickness,
    baselines,
    begun,
    hours_of,
    looks,
    naive,
    weeks,
)
from tests.fleetctl.project_on_disk import Project

HISTORY_WEEKS = 4
RATES = (1, 5, 50)
SICK = {
    "all requests x 2.5": (("slow", "promise"), Sickness(slower=2.5)),
    "all requests x 4": (("slow", "promise"), Sickness(slower=4)),
    "a tenth of them x 10": (("slow", "promise"), Sickness(slower=10, part=0.1)),
    "errors 0.3 -> 5 %": (("errors", "errors_budget"), Sickness(errors=0.05)),
    "errors 0.3 -> 20 %": (("errors", "errors_budget"), Sickness(errors=0.2)),
}
RULES = ("slow", "errors", "promise", "errors_budget", "promise_budget")


def healthy(rng: np.random.Generator, rpm: float, count: int) -> tuple[dict[str, int], int]:
    """Return the alerts of healthy weeks by rule, and the times the naive rule begins to ring."""
    quarters = [*weeks(rng, rpm, HISTORY_WEEKS + count)]
    usual = baselines(hours_of(quarters[: HISTORY_WEEKS * WEEK]))
    quarters = quarters[HISTORY_WEEKS * WEEK :]
    alerts, rung, rings = dict.fromkeys(RULES, 0), False, 0
    fired: set[tuple[str, object]] = set()
    seen = looks(quarters, lambda start: usual[hour_class(start)], hours_of(quarters))
    for place, found in seen:
        fired |= {(a.rule.value, a.since) for a in found if a.phase != "pending"}
        cell = quarters[place - 1]
        now = naive(cell, usual[hour_class(cell.start)])
        rings, rung = rings + (now and not rung), now
    for rule, _ in fired:
        alerts[rule] += 1
    return alerts, rings


def detection(
    rng: np.random.Generator, rpm: float, rules: tuple[str, ...], sick: Sickness
) -> tuple[float | None, float | None]:
    """Return the hours from a sickness to the first alert of rules, and to the naive rule."""
    onset = int(rng.integers(WEEK // 7, 3 * WEEK // 7))
    quarters = [*weeks(rng, rpm, HISTORY_WEEKS + 1, onset, sick)]
    usual = baselines(hours_of(quarters[: HISTORY_WEEKS * WEEK]))
    last = quarters[HISTORY_WEEKS * WEEK :][: onset + 96]
    first = plain = None
    for place, found in looks(last, lambda s: usual[hour_class(s)], hours_of(last)):
        if place <= onset:
            continue
        hours = (place - onset) / 4
        cell = last[place - 1]
        if plain is None and naive(cell, usual[hour_class(cell.start)]):
            plain = hours
        if any(begun(found, rule) for rule in rules):
            return hours, plain if plain is not None else None
    return first, plain


def causes(rng: np.random.Generator, runs: int) -> None:
    """Print how often the true cause of a planted regression stands first."""
    print(f"\nTrue cause of a planted regression, {runs} runs each: first, among three, no onset")
    firsts = 0
    for kind in ChangeKind:
        first = among = lost = 0
        for _ in range(runs):
            cells, changes, cause = planted(rng, kind)
            why = explain_worse(ALIAS, cells, changes)
            ranks = [(r.change.kind, r.change.subject) for r in why.causes]
            first += ranks[:1] == [(cause.kind, cause.subject)]
            among += (cause.kind, cause.subject) in ranks[:3]
            lost += why.onset is None
        firsts += first
        print(f"{kind:<12}{100 * first / runs:>6.0f} %{100 * among / runs:>6.0f} %{lost:>6}")
    print(f"{'all':<12}{100 * firsts / runs / len(ChangeKind):>6.0f} %")


def text(hours: list[float | None]) -> str:
    """Return the share that was found within a day, and the median hours."""
    found = [value for value in hours if value is not None]
    return f"{100 * len(found) / len(hours):3.0f} % {median(found) if found else 24:5.2f} h"


def outages(rng: np.random.Generator, runs: int) -> None:
    """Print how soon `watch` tells an outage of all requests, and how soon it is over."""
    rang, ended = list[int](), list[int]()
    for _ in range(runs):
        phase = timedelta(seconds=int(rng.integers(900)))
        with tempfile.TemporaryDirectory() as folder:
            project = Project.copy(Path(folder, "project"), None)
            replay = OutageReplay(project, MONDAY + phase, rpm=20, lasts=timedelta(minutes=40))
            played = replay.play(most=timedelta(hours=2))
        rang.append(played.rang or 120)
        ended.append(played.ended or 120)
    print(
        f"\n`watch` on a moved clock, {runs} outages at any second of a quarter, 20 requests/min:"
    )
    print(f"rings after {median(rang):.0f} minutes, {max(rang)} at most; ", end="")
    print(f"ends {median(ended):.0f} minutes after the healing, {max(ended)} at most")


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weeks", type=int, default=26)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--planted", type=int, default=100)
    parser.add_argument("--outages", type=int, default=20)
    parser.add_argument("--seed", type=int, default=14)
    given = parser.parse_args(arguments)
    rng = np.random.default_rng(given.seed)
    causes(rng, given.planted)
    if given.outages:
        outages(np.random.default_rng(given.seed), given.outages)
    if not given.weeks:
        return
    years = given.weeks / 52
    print(f"False alarms per client-year, {given.weeks} healthy weeks")
    print(f"{'req/min':>8}" + "".join(f"{rule:>16}" for rule in (*RULES, "p95 > 2x")))
    for rpm in RATES:
        alerts, rings = healthy(rng, rpm, given.weeks)
        row = [*alerts.values(), rings]
        print(f"{rpm:>8}" + "".join(f"{count / years:>16.1f}" for count in row))
    print(
        f"\nFound within a day, and median hours to it, {given.runs} sick weeks; p95 > 2x beside it"
    )
    print(f"{'':<24}" + "".join(f"{f'{rpm} req/min':>32}" for rpm in RATES))
    for name, (rules, sick) in SICK.items():
        cells = []
        for rpm in RATES:
            hours = [detection(rng, rpm, rules, sick) for _ in range(given.runs)]
            plain = text([late for _, late in hours]) if "slow" in rules else "-"
            cells.append(f"{text([ours for ours, _ in hours])} | {plain}")
        print(f"{name:<24}" + "".join(f"{cell:>32}" for cell in cells))


if __name__ == "__main__":
    main()
