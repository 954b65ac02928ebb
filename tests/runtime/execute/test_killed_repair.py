"""A repair that replaces a hung server may die anywhere; the next repair reaches the same end."""

import asyncio
from dataclasses import replace
from pathlib import Path

from fleet.history import settled
from fleet.names import server_address
from fleet.plan import Plan
from fleet.planning import classify_drift, repair
from fleet.resources import Fault, OutageKind, State
from tests.runtime.execute.bench import Bench, Killed
from tests.runtime.execute.test_reconcile import FAQ, OLD, declared

HUNG = "tiny-laptop-cpu0"
FLEET = declared(OLD, FAQ)


def hangs(folder: Path) -> Bench:
    """Return an applied fleet of which a server hangs."""
    folder.mkdir()
    bench = Bench(folder)
    assert asyncio.run(bench.apply(FLEET)).exit_code == 0
    bench.engines["laptop"].silent.add(HUNG)
    return bench


async def round_of(bench: Bench) -> Plan:
    """Return the plan of a round that finds each silent server hung for long enough."""
    live = await bench.observe()
    hung = {
        server_address(name): Fault("hangs", "x", OutageKind.SERVER_HUNG, heals=True)
        for name in live.unknown_servers
    }
    live = replace(live, faults=hung)
    history = settled(bench.history(), live)
    return repair("test", classify_drift(history, live), history, live, {})


def carry_out(bench: Bench, dies_at: int | None = None) -> None:
    """Carry out the repair of a round; a process that was stopped hangs no more."""

    def fault(number: int, label: str) -> BaseException | None:
        if label == f"after stop {HUNG}":
            bench.engines["laptop"].silent.discard(HUNG)
        return Killed() if number == dies_at else None

    plan = asyncio.run(round_of(bench))
    with bench.faults(fault):
        asyncio.run(bench.apply(FLEET, plan=plan))


def end_of(bench: Bench) -> State:
    live = asyncio.run(bench.observe())
    assert asyncio.run(round_of(bench)).changes == ()
    return replace(live, boots={}, launches={}, urls={}, routed_launches={})


def test_a_repair_of_a_hung_server_goes_on_wherever_the_one_before_died(tmp_path: Path) -> None:
    """A death between stop and start left the server down.

    The ledger did not know how to start it any more, until an apply.
    """
    whole = hangs(tmp_path / "whole")
    carry_out(whole)
    labels, wanted = list(whole.passed), end_of(whole)
    assert [label for label in labels if " start " in label or " stop " in label]
    for place, label in enumerate(labels):
        bench = hangs(tmp_path / str(place))
        try:
            carry_out(bench, place)
        except Killed:
            carry_out(bench)
        assert end_of(bench) == wanted, label
