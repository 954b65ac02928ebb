"""Makes honest ledgers of any length about a live state, in the proportions of a fleet's life.

    .venv/bin/python -m tests.bench.ledgers LEDGER LIVE ENTRIES [append]

A ledger begins with the apply that made the state. Then come applies that load versions again and
set routes, verdicts, evaluations, notices, and now and then a mark, a rollback with its release, a
claim, a price, a drill, a backup. The end is the state again, so that a plan has nothing to do.
"""

import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from fleet.codec import plain
from fleet.costing import DeviceTerms, FleetTerms, Terms
from fleet.gates import judge_paired
from fleet.history import (
    ApplyFinished,
    ApplyStarted,
    BackedUp,
    CostTermsChanged,
    Drilled,
    Entry,
    EvalFinished,
    GateJudged,
    LedgerEvent,
    Noted,
    Notified,
    Released,
    RetrainClaimed,
    RetrainReleased,
    RolledBack,
    RolloutMarked,
    StepFailed,
    StepFinished,
    StepStarted,
)
from fleet.names import step_id
from fleet.policies import MICRO, GateSpec, IdleRule
from fleet.resources import LoadedAdapter, Resource, Route, Server, State
from fleet.steps import LoadAdapter, Operation, SetRoute, StartServer
from plans.documents import live_file
from runtime.ledger import chain, open_ledger

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
PACE = timedelta(seconds=20)
"""Time from an entry to the next: a million take eight months."""
GATE = GateSpec("accuracy", "accuracy_drop", 3, "pp")


def write_ledger(path: Path, live: State, entries: int, seed: int = 1) -> None:
    """Write a ledger of about so many entries, whose end is the live state."""
    previous = ""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as stream:
        events = islice(life(live, random.Random(seed)), entries)  # noqa: S311 (no secret)
        for seq, event in enumerate(events, 1):
            run = f"{seq // 40:012x}"
            time = BEGIN + seq * PACE
            line, previous = chain.line(Entry(seq, time, event, run, "anna@ops", 1, previous, ""))
            stream.write(line)


def life(live: State, chance: random.Random) -> Iterator[LedgerEvent]:
    """Yield events without an end."""
    servers = [item for item in live.resources.values() if isinstance(item, Server)]
    adapters = [item for item in live.resources.values() if isinstance(item, LoadedAdapter)]
    routes = [item for item in live.resources.values() if isinstance(item, Route)]
    devices = sorted(f"{item.host}/{device}" for item in servers for device in item.devices)
    yield CostTermsChanged(_terms(devices, 2 * MICRO).documents())
    yield from _apply("0" * 16, [*servers, *adapters, *routes], chance)
    while True:
        plan = f"{chance.getrandbits(64):016x}"
        some = chance.sample(adapters, 4)
        yield from _apply(plan, [*some, *chance.sample(routes, 3)], chance)
        for route in chance.sample(routes, 2):
            yield from _judged(route, chance)
        yield from _rare(chance.choice(routes), devices, chance)


def _terms(devices: list[str], price: int) -> Terms:
    fleet = FleetTerms("EUR", "UTC", IdleRule.RESERVED, 0)
    return Terms(fleet, {device: DeviceTerms(price, always=True) for device in devices})


def _apply(plan: str, made: list[Resource], chance: random.Random) -> Iterator[LedgerEvent]:
    yield ApplyStarted(plan, "fleet", "c0ffee", "apply", len(made), 0)
    for resource in made:
        operation = _operation(resource)
        step, address = step_id(*_verb(resource)), resource.address
        document = plain(operation)
        yield StepStarted(plan, step, address, document)
        if chance.random() < 0.02:  # and done at the second attempt
            yield StepFailed(plan, step, address, "FC6101", "Server did not answer", "In 30 s.")
            yield StepStarted(plan, step, address, document)
        yield StepFinished(step, address, "done", f"{chance.getrandbits(64):016x}", plan)
    boots = {item.server: "b" * 16 for item in made if isinstance(item, LoadedAdapter)}
    yield ApplyFinished(plan, "converged", {"done": len(made)}, boots, settings={})


def _verb(resource: Resource) -> tuple[str, str]:
    verbs = {Server: "start", LoadedAdapter: "load", Route: "set"}
    return verbs[type(resource)], resource.address


def _operation(resource: Resource) -> Operation:
    match resource:
        case Server():
            return StartServer(resource)
        case LoadedAdapter():
            return LoadAdapter(resource)
        case Route():
            return SetRoute(resource)
        case _:
            raise TypeError(resource)


def _judged(route: Route, chance: random.Random) -> Iterator[LedgerEvent]:
    """Yield two evaluations, and the verdict on them."""
    alias, adapter = route.alias, route.shares[0].adapter
    scores = [float(chance.random() < 0.9) for _ in range(50)]
    runs = tuple(f"{alias}-{chance.getrandbits(48):012x}" for _ in range(2))
    for run in runs:
        level = {"good": sum(scores), "n": 50}
        summary = {"valid": True, "levels": {"accuracy": level}, "golden": f"golden/{alias}.jsonl"}
        yield EvalFinished(run, alias, adapter, "rolling", summary, "5" * 64, f"evals/{run}.jsonl")
    finding = judge_paired(GATE, scores, scores)
    digests = {"adapter": "a" * 64, "base": "s=" + "b" * 16, "golden": "d" * 64}
    yield GateJudged(
        alias, adapter, GATE.name, finding.plain(), digests, runs,
        stable=adapter, percent=100, fingerprint="f" * 16,
    )  # fmt: skip


def _rare(route: Route, devices: list[str], chance: random.Random) -> Iterator[LedgerEvent]:
    alias, adapter = route.alias, route.shares[0].adapter
    yield Notified(alias, "promoted", "operators", delivered=True, key=f"{alias}/promoted")
    match chance.randrange(8):
        case 0:
            yield RolloutMarked(alias, adapter, "hold", "a look at the answers")
            yield RolloutMarked(alias, adapter, "resume", "they are right")
        case 1:
            its = "", 0.4, ("main",), ()
            entry_id = f"{chance.getrandbits(128):032x}"
            shares = {f"{adapter}0": 100}
            yield RolledBack(
                alias, adapter, shares, "worse", 7, *its, f"{adapter}0", entry_id=entry_id
            )
            yield Released(alias, "mended", plain(route))
        case 2:
            until = BEGIN + timedelta(days=900)
            yield RetrainClaimed(alias, "bert", until, "new data")
            yield RetrainReleased(alias, "bert")
        case 3 if devices:
            yield CostTermsChanged(_terms(chance.sample(devices, 1), 3 * MICRO).documents())
        case 4:
            yield Drilled(alias, adapter, live=False, complete=True, seconds=0.5)
        case 5:
            yield BackedUp("/var/backups/fleet.tar.gz", "9" * 64, 1)
        case _:
            pass


def main() -> None:
    """Write a ledger, or append notes."""
    path, live, entries = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if sys.argv[4:]:
        open_ledger(path.parent, "bench", "bench", lambda: BEGIN).append([Noted("more")] * entries)
    else:
        write_ledger(path, live_file.load(live.read_text(encoding="utf-8")), entries)


if __name__ == "__main__":
    main()
