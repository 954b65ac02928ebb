"""Planted regressions: six hours of an alias, a cause, and changes without effect."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from fleet.alerting.changes import AliasChange, ChangeKind
from fleet.usage import Sketch, UsageCell, UsageFigures
from tests.fleet.alerting.simulation import ALIAS, MEDIAN, MONDAY, QUARTER, SIGMA, sketch

NOON = MONDAY + timedelta(hours=12)
QUARTERS = 24
OLD, NEW = "acme-support-tiny-v1.0.0", "acme-support-tiny-v1.1.0"
FIRST, SECOND, THIRD = "tiny-a-gpu0", "tiny-b-gpu0", "tiny-c-gpu0"
NEIGHBOURS = ("birch-mail", "cedar-tags", "delta-orders")


@dataclass
class World:
    """Loads, shares and slowness by quarter."""

    rpm: float
    begin: int
    loads: dict[str, np.ndarray] = field(default_factory=dict)
    changes: list[AliasChange] = field(default_factory=list)
    new_share: np.ndarray = field(default_factory=lambda: np.zeros(QUARTERS))
    third_share: np.ndarray = field(default_factory=lambda: np.zeros(QUARTERS))
    refused: np.ndarray = field(default_factory=lambda: np.zeros(QUARTERS))
    slow: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    """By version and server, empty for any: factors by quarter."""


def planted(
    rng: np.random.Generator, kind: ChangeKind
) -> tuple[list[UsageCell], list[AliasChange], AliasChange]:
    """Return cells, changes of the ledger in a drawn order, and the true cause."""
    begin = int(rng.integers(8, 17))
    world = World(float(rng.choice([4, 10, 30])), begin)
    for name in (ALIAS, *NEIGHBOURS):
        rpm = world.rpm if name == ALIAS else float(rng.choice([2, 10, 40]))
        world.loads[name] = rpm * (1 + 0.2 * np.sin(np.arange(QUARTERS) / 6 + rng.random() * 6))
    cause = _plant(rng, world, kind)
    for other in rng.choice([k for k in ChangeKind if k != kind], 4, replace=False):
        _distract(rng, world, ChangeKind(other))
    listed = [*world.changes, *([cause] if kind not in LOADS else [])]
    order = rng.permutation(len(listed))
    return _cells(rng, world), [listed[place] for place in order], cause


LOADS = {ChangeKind.LOAD, ChangeKind.OWN_LOAD}


def _after(begin: int, before: float, after: float, end: int = QUARTERS) -> np.ndarray:
    place = np.arange(QUARTERS)
    return np.where((place >= begin) & (place < end), after, before)


def _plant(  # noqa: PLR0911 (a kind each)
    rng: np.random.Generator, world: World, kind: ChangeKind
) -> AliasChange:
    """Let a change have its effect from a quarter on; its entry is of about that time."""
    begin, factor = world.begin, float(rng.uniform(2, 4))
    at = NOON + begin * QUARTER + timedelta(minutes=float(rng.uniform(-3, 5)))
    match kind:
        case ChangeKind.VERSION | ChangeKind.WEIGHTS:
            had = 0.1 if kind is ChangeKind.WEIGHTS else 0.0
            world.new_share = _after(begin, had, float(rng.choice([0.25, 0.5])))
            world.slow[NEW, ""] = np.full(QUARTERS, factor)
            return AliasChange(kind, at, NEW, versions=(NEW,))
        case ChangeKind.LOAD:
            world.loads[NEIGHBOURS[0]] = _after(begin, 10, float(rng.uniform(40, 150)))
            world.slow["", FIRST] = _after(begin, 1, factor)
            return AliasChange(kind, at, NEIGHBOURS[0])
        case ChangeKind.OWN_LOAD:
            world.loads[ALIAS] = world.loads[ALIAS] * _after(begin, 1, float(rng.uniform(3, 6)))
            world.slow["", ""] = _after(begin, 1, factor)
            return AliasChange(kind, at, ALIAS)
        case ChangeKind.RESTART:
            world.slow["", FIRST] = _after(begin, 1, factor)
            return AliasChange(kind, at, FIRST, servers=(FIRST,))
        case ChangeKind.MOVE:
            world.third_share = _after(begin, 0, 0.5)
            world.slow["", THIRD] = np.full(QUARTERS, factor)
            return AliasChange(kind, at, OLD, servers=(THIRD,))
        case ChangeKind.LIMIT:
            world.refused = _after(begin, 0, float(rng.uniform(0.1, 0.4)))
            return AliasChange(kind, at, "clients.acme.limits.concurrency", "20", "2")
        case ChangeKind.ENGINE:
            world.slow["", ""] = _after(begin, 1, factor)
            world.changes += [
                AliasChange(ChangeKind.RESTART, at, name, servers=(name,))
                for name in (FIRST, SECOND)
            ]
            flag = "bases.tiny.flags.max-num-batched-tokens"
            return AliasChange(kind, at, flag, "the default", "512", servers=(FIRST, SECOND))
        case ChangeKind.EVAL:
            end = begin + int(rng.integers(3, 6))
            world.slow["", ""] = _after(begin, 1, factor, end)
            return AliasChange(kind, at, OLD, until=NOON + end * QUARTER)


def _distract(rng: np.random.Generator, world: World, kind: ChangeKind) -> None:
    """Add a change without effect, at least half an hour from the true cause."""
    minutes = [m for m in range(30, 345, 5) if abs(m - 15 * world.begin) >= 30]
    minute = float(rng.choice(minutes))
    at, place = NOON + timedelta(minutes=minute), int(minute // 15)
    match kind:
        case ChangeKind.LOAD:
            name = NEIGHBOURS[2]
            world.loads[name] = world.loads[name] * _after(place, 1, 2)
        case ChangeKind.OWN_LOAD:
            pass
        case ChangeKind.VERSION | ChangeKind.WEIGHTS:
            if not world.new_share.any():
                world.new_share = _after(place, 0, 0.1)
                world.changes.append(AliasChange(kind, at, NEW, versions=(NEW,)))
        case ChangeKind.RESTART | ChangeKind.MOVE:
            server = str(rng.choice([FIRST, SECOND]))
            world.changes.append(AliasChange(kind, at, server, servers=(server,)))
        case ChangeKind.ENGINE:
            flag = "bases.tiny.flags.seed"
            world.changes.append(AliasChange(kind, at, flag, servers=(FIRST, SECOND)))
        case ChangeKind.LIMIT:
            world.changes.append(AliasChange(kind, at, "tiers.standard.weight", "1", "2"))
        case ChangeKind.EVAL:
            end = at + timedelta(minutes=30)
            world.changes.append(AliasChange(kind, at, OLD, until=end))


def _cells(rng: np.random.Generator, world: World) -> list[UsageCell]:
    found = []
    for place in range(QUARTERS):
        start = NOON + place * QUARTER
        for name, load in world.loads.items():
            n = int(rng.poisson(15 * load[place]))
            share = world.third_share[place] if name == ALIAS else 0.0
            servers = (FIRST, SECOND, THIRD)
            for server, on in zip(
                servers, rng.multinomial(n, [(1 - share) / 2, (1 - share) / 2, share]), strict=True
            ):
                if name == ALIAS:
                    new = int(rng.binomial(on, world.new_share[place]))
                    pairs = ((NEW, new), (OLD, int(on) - new))
                    found += [_cell(rng, world, place, start, server, *pair) for pair in pairs]
                elif on:
                    figures = UsageFigures(requests=int(on), output_tokens=100 * int(on))
                    found.append(UsageCell(start, figures, alias=name, server=server))
    return [cell for cell in found if cell.figures.requests]


def _cell(
    rng: np.random.Generator,
    world: World,
    place: int,
    start: datetime,
    server: str,
    version: str,
    n: int,
) -> UsageCell:
    factor = MEDIAN * float(np.exp(rng.normal(0, 0.05)))
    for (slow_version, slow_server), factors in world.slow.items():
        if slow_version in {"", version} and slow_server in {"", server}:
            factor *= float(factors[place])
    refused = int(rng.binomial(n, world.refused[place]))
    latency = sketch(factor * np.exp(rng.normal(0, SIGMA, n - refused))) if n else Sketch()
    figures = UsageFigures(
        requests=n, refused=refused, output_tokens=100 * (n - refused), latency=latency
    )
    return UsageCell(start, figures, alias=ALIAS, version=version, server=server)
