"""Prints the operating tables of the gates: what they catch, miss and raise in vain.

`make bench-gates`; the tests hold a part of these to the published figures.
"""

import argparse
from functools import partial

import numpy as np

from fleet.gates.decide import LEAST_BAD, LEAST_DIFFERENCE, Verdict
from fleet.gates.intervals import wilson
from fleet.gates.offline import judge_binary
from fleet.gates.soak import watches
from tests.bench.gate_lives import lives
from tests.bench.golden_sets import small_sets
from tests.fleet.gates import splitting
from tests.fleet.gates.at_limit import promoted
from tests.fleet.gates.simulation import (
    Array,
    flagged,
    golden_runs,
    graded_runs,
    latencies,
    naive_test,
    naive_window,
    paths,
    point_rule,
    shares_of,
)


def verdict(items: int, worse: int, better: int) -> str:
    """Judge counts of pairs at a margin of 3 pp."""
    counts = {"items": items, "worse": worse, "better": better, "good": items,
              "must_pass_failed": 0}  # fmt: skip
    return judge_binary("g", "accuracy_drop", counts, {"margin": 0.03, "floor": 0}).verdict.value


def golden(rng: np.random.Generator, replications: int) -> None:
    """Print the golden gate's table, beside the rule "drop above 3 pp"."""
    print("Golden gate, margin 3 pp: PASS/FAIL/INCONCLUSIVE in %, and the point rule's FAIL")
    print(f"{'items':>6} {'differ':>7}   {'no change':<20}{'true -3 pp':<20}{'true -5 pp':<20}")
    for items in (100, 300, 1000):
        for discordance in (0.05, 0.10, 0.20):
            cells = []
            for drop in (0.0, 0.03, 0.05):
                worse, better = golden_runs(rng, replications, items, discordance, drop)
                found = shares_of(partial(verdict, items), worse, better)
                naive = 100 * np.mean((worse - better) / items > 0.03)
                cells.append("/".join(f"{each:.0f}" for each in found.values()) + f" ({naive:.0f})")
            print(f"{items:>6} {discordance:>7.0%}   " + "".join(f"{each:<20}" for each in cells))


def graded(rng: np.random.Generator, replications: int) -> None:
    """Print what the golden gate says where each item is asked several times."""
    print(
        "\nSeveral answers an item, margin 3 pp, some items wholly broken: PASS/FAIL/INCONCLUSIVE"
    )
    print(f"{'items':>6} {'samples':>8} {'wobble':>7} {'group':>6}   "
          f"{'no change':<16}{'true -3 pp':<16}{'true -5 pp':<16}")  # fmt: skip
    for items in (20, 50, 100, 300):
        for samples, borderline, size in ((3, 0.05, 1), (5, 0.05, 1), (5, 0.3, 1), (5, 0.05, 5)):
            cells = []
            for drop in (0.0, 0.03, 0.05):
                found = [each.verdict for each in graded_runs(
                    rng, replications, items, samples, drop, borderline=borderline, size=size
                )]  # fmt: skip
                cells.append("/".join(f"{100 * found.count(each) / len(found):.1f}"
                                      for each in Verdict))  # fmt: skip
            row = "".join(f"{each:<16}" for each in cells)
            print(f"{items:>6} {samples:>8} {borderline:>7.0%} {size:>6}   {row}")


def peeking(rng: np.random.Generator, replications: int) -> None:
    """Print the share test's table under 48 looks, beside rules that do not count looks."""
    print("\n48 hourly looks, old version 1 % errors, canary 10 %: flagged in %, at median hour")
    print(
        f"{'req/h':>6} {'rate':>6}   {'e, 5 %':<12}{'e, 1 %':<12}{'z test':<12}{'hour > 5 %':<12}"
    )
    for per_hour in (3, 30, 300):
        for rate in (0.01, 0.02, 0.03, 0.05, 0.10):
            drawn = paths(rng, replications, per_hour, (rate, 0.01))
            cells = [
                flagged(drawn, 1.0, 0.05), flagged(drawn, 1.0, 0.01), naive_test(drawn),
                naive_window(drawn),
            ]  # fmt: skip
            print(f"{per_hour:>6} {rate:>6.0%}   " + "".join(f"{cell(each):<12}" for each in cells))


def at_limits() -> None:
    """Print how often versions that are exactly at their limit are promoted."""
    print(
        "\nVersions at the limit (errors 1 -> 3 %), looked at hourly after `bake`, 10 % and 50 %:"
    )
    print("promoted in %, by the boundary of the judges, and by a fixed bound of 80 and 95 %")
    print(f"{'bake, max_bake':<16}" + "".join(f"{hourly:>10} req/h" for hourly in HOURLY))
    for bake, longest in ((24, 48), (1, 48), (12, 96)):
        cells = (
            f"{100 * promoted(hourly, bake, longest):.1f} "
            f"({100 * promoted(hourly, bake, longest, fixed=True):.1f})"
            for hourly in HOURLY
        )
        print(f"{f'{bake} h, {longest} h':<16}" + "".join(f"{cell:>16}" for cell in cells))


def slowness(rng: np.random.Generator, replications: int) -> None:
    """Print what the share test makes of latencies under a load that swings, beside point rules."""
    print("\n48 h of latencies, load swings for both: flagged in %, at median hour")
    print(
        f"{'req/h':>6} {'slower':>7}   {'share test':<12}{'p95 > 2x':<12}{'3 in a row':<12}"
        f"{'p95 > 1.2x':<12}"
    )
    for per_hour in (3, 30, 300):
        for slower in (1.0, 1.2, 1.5, 2.0):
            drawn = latencies(rng, min(replications, 1000), per_hour, slower)
            cells = [
                flagged(drawn.slow, 1.25, 0.01),
                point_rule(drawn.p95, 2),
                point_rule(drawn.p95, 2, 3),
                point_rule(drawn.p95, 1.2),
            ]
            row = "".join(f"{cell(each):<12}" for each in cells)
            print(f"{per_hour:>6} {slower:>6g}x   {row}")


def cell(first: Array) -> str:
    """Return the share that was flagged and the median hour."""
    hit = np.isfinite(first)
    hour = f" @{np.median(first[hit]):.0f}h" if hit.mean() > 0.1 else ""
    return f"{100 * hit.mean():.1f}{hour}"


HOURLY = (60, 300, 1800)
GOT = (0.1, 0.085, 0.12, 0.2)
LIMITS = {"margin": 0.02, "tolerate": 1.25, "alpha": 0.01, "least_requests": 50.0}


def soaks(rng: np.random.Generator, replications: int) -> None:
    """Print what a week with all traffic shows, measured by the week before; 5 rpm at the peak."""
    print("\nSoak of 7 days at 5 rpm, old version 1 % errors the week before: rolled back in %,")
    print("at median hour after the harm began")
    hour = (9 + np.arange(168)) % 24
    busy = 300 * np.where((hour >= 9) & (hour < 18), 1.0, 0.05)
    for name, rate, begins in (
        ("healthy", 0.01, 0),
        ("2 % all week", 0.02, 0),
        ("5 % all week", 0.05, 0),
        ("5 % from the fourth day", 0.05, 72),
        ("20 % from the fourth day", 0.20, 72),
    ):
        hours = []
        for _ in range(replications):
            asked = rng.poisson(busy).astype(float)
            usual = wilson(float(rng.binomial(int(asked.sum()), 0.01)), asked.sum())[1]
            limits = {**LIMITS, "limit": max(usual * 1.25, usual + 0.02)}
            bad = rng.binomial(asked.astype(int), np.where(np.arange(168) < begins, 0.01, rate))
            hits = tuple(bad.astype(float))
            counts = {"hits": hits, "people": hits, "at_risk": tuple(asked)}
            hours.append(failing_hour(counts, limits) - begins)
        found = np.array(hours)
        hit = np.isfinite(found)
        when = f" @{np.median(found[hit]):.0f}h" if hit.mean() > 0.1 else ""
        print(f"  {name:<26}{100 * hit.mean():.1f}{when}")


def failing_hour(counts: dict[str, tuple[float, ...]], limits: dict[str, float]) -> float:
    """Return the window after which a soak fails, by the rule itself; infinity: never."""
    for at, (value, bad, above) in enumerate(watches(counts, limits["limit"]), 1):
        if value * limits["alpha"] >= 1 and bad >= LEAST_BAD and above >= LEAST_DIFFERENCE:
            return float(at)
    return float("inf")


def splits(rng: np.random.Generator, replications: int) -> None:
    """Print how often a split of 10 % voids its evidence, correct or not, beside a usual test."""
    print(
        "\nSplit of 10 %, looked at hourly for 48 h: voided in %, at median hour, and (by a usual"
    )
    print("test at p < 0.001 after each hour)")
    print(
        f"{'requests':<32}" + "".join(f"{each:<24}" for each in ("10 %", "8.5 %", "12 %", "20 %"))
    )
    for name, rpm in (("5 rpm", 5), ("60 rpm", 60)):
        drawn = [splitting.requests(rng, replications, 60 * rpm, each) for each in GOT]
        cells = [f"{cell(splitting.voided(each, 10))} ({cell(splitting.naive(each, 10))})"
                 for each in drawn]  # fmt: skip
        print(f"{f'{name}, one by one':<32}" + "".join(f"{each:<24}" for each in cells))
        crowd = splitting.Crowd(400 * rpm, 48 * 60 * rpm)
        both = [splitting.users(rng, replications, crowd, each) for each in GOT]
        for what, place in (("heavy users, by user", 0), ("heavy users, by request", 1)):
            found = [each[place] for each in both]
            cells = [f"{cell(splitting.voided(each, 10))} ({cell(splitting.naive(each, 10))})"
                     for each in found]  # fmt: skip
            print(f"{f'{rpm} rpm, {what}':<32}" + "".join(f"{each:<24}" for each in cells))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=4000)
    parser.add_argument("--rollouts", type=int, default=60, help="of every kind, drawn by requests")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    golden(rng, given.replications)
    graded(rng, min(given.replications, 1000))
    peeking(rng, given.replications)
    at_limits()
    slowness(rng, given.replications)
    soaks(rng, min(given.replications, 100))
    splits(rng, min(given.replications, 1000))
    small_sets(rng, min(given.replications, 400))
    lives(given.seed, given.rollouts)


if __name__ == "__main__":
    main()
