"""Which version has which share, and when that changes."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from fleet.history.values import Block, BlockKind, History
from fleet.names import route_address
from fleet.policies import GateSpec, RolloutPolicy
from fleet.resources import Route
from fleet.rollouts.decide import decide_rollouts
from fleet.rollouts.targets import AliasTarget, Phase
from fleet.spec import FleetSpec
from tests.fleet.planning.builders import DAY, NOON, STANDARD, adapter, fleet, history, route, state

OLD, NEW, NEXT = (f"acme-support-tiny-v{each}" for each in ("2.1.0", "2.2.0", "2.3.0"))
HOLD = Block(BlockKind.HELD, NEW, NOON, "ana", "wrong dates")


def paced(
    live: Route | None,
    past: History | None = None,
    *,
    declared: FleetSpec | None = None,
    now: datetime = NOON,
) -> AliasTarget:
    what = declared or fleet(adapter(NEW), known=(OLD, NEXT))
    there = state(live) if live else state()
    return decide_rollouts(what, there, past or history(), now).wanted["acme-support"]


def shared(new: int, old: int) -> Route:
    return route("acme-support", (NEW, new, "s"), (OLD, old, "s"))


def test_a_first_version_takes_everything() -> None:
    wanted = paced(None)
    assert (wanted.phase, wanted.shares, wanted.salt) == (Phase.FIRST, ((NEW, 100),), NEW)


def test_a_new_version_starts_at_the_first_weight() -> None:
    wanted = paced(route("acme-support", (OLD, 100, "s")))
    assert (wanted.phase, wanted.shares) == (Phase.STARTED, ((NEW, 10), (OLD, 90)))
    assert wanted.salt == NEW


@pytest.mark.parametrize("holds", [(), (HOLD,)])
def test_a_lost_route_goes_on_from_where_it_was(holds: tuple[Block, ...]) -> None:
    known = replace(
        history(stages=[(NEW, 10, NOON)], holds=holds),
        established={route_address("acme-support"): shared(10, 90)},
    )
    wanted = paced(None, known)
    assert wanted.shares == (((NEW, 0), (OLD, 100)) if holds else ((NEW, 10), (OLD, 90)))
    gone = fleet(adapter(NEW))  # the one before is not in the lock any more
    assert paced(None, known, declared=gone).phase is (Phase.HELD if holds else Phase.FIRST)


@pytest.mark.parametrize(
    ("percent", "baked", "shares"),
    [
        (10, DAY - timedelta(seconds=1), ((NEW, 10), (OLD, 90))),
        (10, DAY, ((NEW, 50), (OLD, 50))),
        (10, 30 * DAY, ((NEW, 50), (OLD, 50))),
        (50, DAY, ((NEW, 100), (OLD, 0))),
    ],
)
def test_it_moves_on_one_stage_when_it_has_baked(
    percent: int, baked: timedelta, shares: tuple[tuple[str, int], ...]
) -> None:
    past = history(stages=[(NEW, percent, NOON)])
    wanted = paced(shared(percent, 100 - percent), past, now=NOON + baked)
    assert wanted.shares == shares
    assert wanted.salt == "salt"


def test_a_stage_that_bakes_says_until_when() -> None:
    wanted = paced(shared(10, 90), history(stages=[(NEW, 10, NOON)]))
    assert wanted.held == "2.2.0 stays at 10 %, baking until 2026-03-03 12:00 UTC"


def test_a_stage_that_the_ledger_does_not_know_has_just_been_entered() -> None:
    wanted = paced(shared(10, 90), now=NOON + 90 * DAY)
    assert wanted.shares == ((NEW, 10), (OLD, 90))
    assert "fleetctl adopt" in wanted.held


def test_a_gate_without_evidence_never_passes() -> None:
    gate = GateSpec("accuracy", "accuracy_drop", 3.0, "pp")
    gated = RolloutPolicy("standard", (10, 50, 100), DAY, 7 * DAY, ("accuracy",))
    declared = fleet(adapter(NEW), known=(OLD,), rollouts=[gated], gates=[gate])
    past = history(stages=[(NEW, 10, NOON)])
    wanted = paced(shared(10, 90), past, declared=declared, now=NOON + 9 * DAY)
    assert wanted.shares == ((NEW, 10), (OLD, 90))
    assert wanted.phase is Phase.UNDECIDED
    assert wanted.held == (
        "2.2.0 stays at 10 %: no evidence for gate accuracy. "
        "Decide: fleetctl rollout approve|advance|extend|abort acme-support"
    )
    assert [(each.gate, each.threshold, each.status) for each in wanted.gates] == [
        ("accuracy", "3 pp", "no evidence")
    ]


@pytest.mark.parametrize(
    ("idle", "shares"), [(7 * DAY - timedelta(seconds=1), 2), (7 * DAY, 1), (None, 2)]
)
def test_a_replaced_version_stays_loaded_for_as_long_as_declared(
    idle: timedelta | None, shares: int
) -> None:
    cutovers = {} if idle is None else {OLD: NOON - idle}
    past = history(stages=[(NEW, 100, NOON)], cutovers=cutovers)
    assert len(paced(shared(100, 0), past).shares) == shares


def test_a_version_that_was_rolled_back_gets_no_traffic_and_says_why() -> None:
    wanted = paced(shared(0, 100), history(holds=[HOLD]), now=NOON + DAY)
    assert (wanted.phase, wanted.shares) == (Phase.HELD, ((NEW, 0), (OLD, 100)))
    assert wanted.held == (
        "2.2.0 was rolled back by ana at 2026-03-02 12:00 UTC (wrong dates) and gets "
        "no traffic. To roll it out again: fleetctl release acme-support"
    )


def test_what_a_held_version_still_has_goes_to_the_stable_one() -> None:
    assert paced(shared(50, 50), history(holds=[HOLD])).shares == ((NEW, 0), (OLD, 100))


def test_a_held_version_is_retired_when_its_retention_is_over() -> None:
    assert paced(shared(0, 100), history(holds=[HOLD]), now=NOON + 7 * DAY).shares == ((OLD, 100),)


def test_a_released_version_starts_again_at_the_first_weight() -> None:
    wanted = paced(shared(0, 100), history(stages=[(NEW, 0, NOON)]))
    assert (wanted.phase, wanted.shares) == (Phase.STARTED, ((NEW, 10), (OLD, 90)))


@pytest.mark.parametrize("percent", [0, 30, 50])
def test_a_route_edited_by_hand_stays_as_it_is(percent: int) -> None:
    past = history(stages=[(NEW, 10, NOON)])
    wanted = paced(shared(percent, 100 - percent), past, now=NOON + 9 * DAY)
    assert (wanted.phase, dict(wanted.shares)[NEW]) == (Phase.EDITED, percent)
    assert "changed by hand" in wanted.held


def test_another_version_in_mid_rollout_supersedes_the_half_rolled_one() -> None:
    declared = fleet(adapter(NEXT), known=(OLD, NEW))
    past = history(stages=[(NEW, 50, NOON)])
    wanted = paced(shared(50, 50), past, declared=declared, now=NOON + DAY)
    assert wanted.shares == ((NEXT, 10), (NEW, 0), (OLD, 90))


@pytest.mark.parametrize("percent", [10, 50])
def test_declaring_the_old_version_again_in_mid_rollout_gives_it_everything(percent: int) -> None:
    declared = fleet(adapter(OLD), known=(NEW,))
    past = history(stages=[(NEW, percent, NOON)])
    wanted = paced(shared(percent, 100 - percent), past, declared=declared)
    assert (wanted.phase, wanted.shares) == (Phase.RETURNED, ((OLD, 100), (NEW, 0)))
    assert wanted.salt == "salt"


def test_an_old_version_declared_again_beside_a_share_set_by_hand_waits() -> None:
    declared = fleet(adapter(OLD), known=(NEW,))
    wanted = paced(shared(30, 70), history(stages=[(NEW, 10, NOON)]), declared=declared)
    assert (wanted.phase, dict(wanted.shares)[OLD]) == (Phase.WAITING, 70)


def test_a_downgrade_is_a_rollout_too() -> None:
    declared = fleet(adapter(OLD), known=(NEW,))
    past = history(stages=[(NEW, 100, NOON)], cutovers={OLD: NOON})
    wanted = paced(shared(100, 0), past, declared=declared, now=NOON + 9 * DAY)
    assert wanted.shares == ((OLD, 10), (NEW, 90))


def test_a_rollout_of_one_stage_cuts_over_at_once() -> None:
    declared = fleet(adapter(NEW), known=(OLD,), rollouts=[replace(STANDARD, weights=(100,))])
    wanted = paced(route("acme-support", (OLD, 100, "s")), declared=declared)
    assert wanted.shares == ((NEW, 100), (OLD, 0))


def test_nothing_moves_while_routes_cannot_be_read() -> None:
    there = state(routes_unknown="gateway is down")
    past = history(owned=[f"adapter/{OLD}@s"])
    wanted = decide_rollouts(fleet(adapter(NEW), known=(OLD,)), there, past, NOON).wanted[
        "acme-support"
    ]
    assert (wanted.phase, wanted.shares) == (Phase.UNKNOWN, ((OLD, 0),))


def test_a_renamed_alias_keeps_its_versions_and_shares() -> None:
    declared = fleet(
        adapter("acme-helpdesk-tiny-v2.1.0"), renames={"acme-helpdesk": "acme-support"}
    )
    there = state(route("acme-support", (OLD, 100, "s")))
    wanted = decide_rollouts(declared, there, history(), NOON).wanted["acme-helpdesk"]
    assert wanted.shares == (("acme-helpdesk-tiny-v2.1.0", 100),)
