"""Healing and moving on without anybody looking: what is done, and what is not."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from fleet.history.fold import settled
from fleet.names import Address
from fleet.plan import Plan
from fleet.planning import DriftAction, DriftCause, classify_drift
from fleet.planning.modes import advances, repair
from fleet.spec import FleetSpec
from plans.reports.history import chosen, render_json, render_text
from plans.reports.status import render_text as render_status
from plans.reports.status import status
from runtime.operations.machines.heal import LONGEST_S, TRIES, HealBackoff
from tests.fleet.planning.builders import adapter, base, device, fleet, host
from tests.runtime.execute.bench import Bench

OLD, NEW = "acme-support-tiny-v1.0.0", "acme-support-tiny-v1.1.0"
FAQ = "birch-faq-tiny-v1.0.0"
LAPTOP = host("laptop", device("cpu0"), device("cpu1", port=8101))
DAY = timedelta(days=1)


def declared(*names: str, slots: int | None = None) -> FleetSpec:
    adapters = (adapter(each) for each in names)
    return fleet(*adapters, hosts=[LAPTOP], known=[OLD, NEW], bases=[base(slots=slots)])


async def healing(bench: Bench) -> Plan:
    live = await bench.observe()
    history = settled(bench.history(), live)
    return repair("test", classify_drift(history, live), history, live, {OLD: ("hello",)})


async def drifted(bench: Bench) -> tuple[DriftCause, ...]:
    live = await bench.observe()
    return classify_drift(settled(bench.history(), live), live)


def test_a_dead_server_comes_back_as_it_was_and_pending_declarations_do_not(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    before = asyncio.run(bench.observe())
    bench.engines["laptop"].crash("tiny-laptop-cpu0")
    pending = declared(NEW, FAQ, slots=32)
    outcome = asyncio.run(bench.apply(pending, plan=asyncio.run(healing(bench))))
    assert outcome.exit_code == 0
    after = asyncio.run(bench.observe())
    assert after.resources == before.resources
    assert after.boots != before.boots
    assert asyncio.run(drifted(bench)) == ()
    assert outcome.due


def test_healing_that_dies_half_way_is_still_drift(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    bench.engines["laptop"].crash("tiny-laptop-cpu0")
    plan = asyncio.run(healing(bench))
    stop = asyncio.Event()

    def halt(_: int, label: str) -> None:
        if label.startswith("after start"):
            stop.set()

    with bench.faults(halt):
        outcome = asyncio.run(bench.apply(declared(OLD, FAQ), plan=plan, stop=stop))
    assert outcome.exit_code == 130
    (cause,) = asyncio.run(drifted(bench))
    assert (cause.remedy, len(cause.addresses)) == (DriftAction.HEAL, 2)
    asyncio.run(bench.apply(declared(OLD, FAQ), plan=asyncio.run(healing(bench))))
    assert asyncio.run(drifted(bench)) == ()


def test_a_rollout_that_has_baked_moves_on_and_nothing_else_does(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    asyncio.run(bench.apply(declared(NEW, FAQ)))
    more = declared(NEW, FAQ, "dune-orders-tiny-v1.0.0")
    assert advances(asyncio.run(bench.plan(more))).steps == ()
    bench.now += DAY
    onward = advances(asyncio.run(bench.plan(more)))
    assert [each.id for each in onward.steps] == ["set route/acme-support"]
    assert [each.alias for each in onward.impacts] == ["acme-support"]
    assert asyncio.run(bench.apply(more, plan=onward)).exit_code == 0
    assert bench.shares("acme-support") == {"1.1.0": 50, "1.0.0": 50}
    assert "dune-orders" not in bench.gateways.table.aliases


def test_a_new_version_is_never_rolled_out_without_a_plan(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    plan = asyncio.run(bench.plan(declared(NEW)))
    assert plan.steps
    assert advances(plan).steps == ()


def test_the_rest_of_a_removed_fleet_is_forgotten_once_it_is_gone(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    bench.engines["laptop"].crash("tiny-laptop-cpu0")
    assert asyncio.run(bench.apply(declared(OLD))).exit_code == 0
    assert asyncio.run(drifted(bench)) == ()


CAUSE = DriftCause(
    Address("server/a"), DriftAction.HEAL, "it has ended", (Address("server/a"),), "x"
)


def test_a_cause_that_comes_back_is_healed_ever_more_slowly_and_then_given_up() -> None:
    backoff, now, pauses = HealBackoff(), 0.0, []
    for _ in range(TRIES):
        assert backoff.due([CAUSE], now) == (CAUSE,)
        backoff.tried([CAUSE], now)
        begun = now
        while not backoff.due([CAUSE], now) and now < begun + LONGEST_S:
            now += 1
        pauses.append(now - begun)
    assert pauses[:-1] == [2, 6, 18, 54]
    assert backoff.due([CAUSE], now + 10 * LONGEST_S) == ()
    assert backoff.given_up([CAUSE]) == (CAUSE,)


def test_a_cause_that_stays_away_is_forgotten_and_one_that_flaps_is_not() -> None:
    backoff = HealBackoff()
    backoff.tried([CAUSE], 0.0)
    assert backoff.due([], 1.0) == ()
    assert backoff.due([CAUSE], 1.0) == ()
    assert backoff.due([], 2.0 + LONGEST_S) == ()
    backoff.tried([CAUSE], 1000.0)
    assert backoff.due([CAUSE], 1002.0) == (CAUSE,)


def test_status_and_history_tell_what_happened(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    asyncio.run(bench.apply(declared(NEW, FAQ)))
    bench.engines["laptop"].silent.add("tiny-laptop-cpu0")
    live, entries = asyncio.run(bench.observe()), bench.ledger().read()
    text = render_status(status("test", live, bench.history(), entries, None))
    assert "acme-support  1.1.0 10 %, 1.0.0 90 %  since 2026-03-02T12:00:00+00:00" in text
    assert "tiny-laptop-cpu0  unknown" in text
    assert "it does not answer" in text
    assert "by tester at 2026-03-02T12:00:00+00:00: converged" in text
    mine = status("test", live, bench.history(), entries, "birch")
    assert [each["alias"] for each in mine["aliases"]] == ["birch-faq"]
    assert not {"servers", "last_apply", "notes"} & mine.keys()
    told = chosen(entries, limit=None, steps=False)
    assert [each.event.kind for each in told] == ["apply_started", "apply_finished"] * 2
    assert chosen(entries, limit=1, steps=False) == told[-1:]
    about = chosen(entries, limit=None, steps=True, about="birch-faq")
    assert {each.event.kind for each in about} == {"step_started", "step_finished"}
    assert "ended" in render_text(told)
    assert render_json(told).count("\n") == 4
    assert render_text(()) == "Nothing has been done yet.\n"


def test_an_apply_that_was_killed_shows_as_unfinished(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD)))
    entries = bench.ledger().read()
    cut = [each for each in entries if each.event.kind != "apply_finished"]
    live = replace(asyncio.run(bench.observe()), routes_unknown="down")
    document = status("test", live, bench.history(), cut, None)
    assert document["last_apply"]["result"] == "unfinished"
    assert "Routes cannot be read: down" in render_status(document)
