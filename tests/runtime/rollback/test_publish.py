"""Which version an alias goes back to."""

from collections.abc import Mapping, Sequence

import pytest

from fleet.errors import FleetError
from fleet.history.blocks import FAILED, ROLLED_BACK, UNPROVEN, FallbackCheck
from fleet.traffic import ShadowPolicy, TrafficPolicy
from runtime.gateway.table.table import AliasEntry
from runtime.rollback.publish import choose_target, newer_than, refuse_rejected
from tests.runtime.gateway.stage import NEW, OLD, alias

OLDER = "acme-support-tiny-v2.0.0"


@pytest.mark.parametrize(
    ("shares", "unfit", "target"),
    [
        (((NEW, 10), (OLD, 0), (OLDER, 90)), {}, OLDER),  # during a canary: the stable one
        (((NEW, 100), (OLD, 0), (OLDER, 0)), {}, OLD),
        # Not one that was bad itself, or was given up half-way.
        (((NEW, 100), (OLD, 0), (OLDER, 0)), {OLD: ROLLED_BACK}, OLDER),
        (((NEW, 100), (OLD, 0), (OLDER, 0)), {OLD: UNPROVEN}, OLDER),
        (((NEW, 100), (OLD, 0), (OLDER, 0)), {NEW: FAILED, OLDER: FAILED}, OLD),
        (((NEW, 10), (OLD, 10), (OLDER, 80)), {OLD: UNPROVEN}, OLDER),
        (((NEW, 10), (OLD, 10), (OLDER, 80)), {OLD: UNPROVEN, OLDER: ROLLED_BACK}, OLD),
        (((NEW, 10), (OLD, 90)), {OLD: UNPROVEN}, OLD),  # it answers all that the new one does not
        (((NEW, 0), (OLD, 100), (OLDER, 0)), {}, OLDER),
        (((NEW, 0), (OLD, 100), (OLDER, 0)), {NEW: UNPROVEN}, OLDER),
        (((NEW, 0), (OLD, 100), (OLDER, 0)), {NEW: ROLLED_BACK}, OLD),  # it is back already
        (((NEW, 0), (OLD, 100)), {NEW: ROLLED_BACK}, OLD),
    ],
)
def test_the_version_to_go_back_to(
    shares: Sequence[tuple[str, int]], unfit: Mapping[str, str], target: str
) -> None:
    entry = alias("acme", *((name, percent, ("s1",)) for name, percent in shares))
    held = frozenset(name for name, why in unfit.items() if why == ROLLED_BACK)
    known = FallbackCheck(held, unfit)
    assert choose_target("acme-support", entry, None, lambda _: known).adapter == target


def test_where_nothing_has_proven_itself_somebody_must_name_it() -> None:
    entry = alias("acme", *((name, int(name == NEW) * 100, ("s1",)) for name in (NEW, OLD, OLDER)))
    known = FallbackCheck(frozenset({OLDER}), {OLD: UNPROVEN, OLDER: ROLLED_BACK})
    with pytest.raises(
        FleetError, match=r"2\.1\.0: it never had all traffic; 2\.0\.0: it was"
    ) as none:
        choose_target("acme-support", entry, None, lambda _: known)
    assert none.value.diagnostics[0].command == "fleetctl rollback acme-support --to 2.1.0"
    assert choose_target("acme-support", entry, "2.1.0", lambda _: known).adapter == OLD


def test_forward_is_no_way_past_a_gate() -> None:
    entry = alias("acme", (NEW, 0, ("s1",)), (OLD, 100, ("s1",)))
    known = FallbackCheck(
        frozenset({NEW}), {NEW: FAILED}, rejected={NEW: "gate answers failed it (#7)"}
    )
    with pytest.raises(FleetError, match=r"answers failed it \(#7\)") as none:
        refuse_rejected("acme-support", entry, entry.shares[0], lambda _: known)
    assert none.value.diagnostics[0].command == "fleetctl release acme-support"
    undone = FallbackCheck(frozenset({NEW}), {NEW: ROLLED_BACK})
    refuse_rejected("acme-support", entry, entry.shares[0], lambda _: undone)
    refuse_rejected("acme-support", entry, entry.shares[1], lambda _: known)


def test_a_version_that_no_server_holds_is_passed_over() -> None:
    entry = alias("acme", (NEW, 100, ("s1",)), (OLD, 0, ()), (OLDER, 0, ("s1",)))
    assert choose_target("acme-support", entry, None).adapter == OLDER
    with pytest.raises(FleetError, match="No server holds"):
        choose_target("acme-support", entry, "2.1.0")


@pytest.mark.parametrize(("percent", "held"), [(0, ()), (10, (NEW,))])
def test_a_shadow_that_answers_nobody_is_not_held_back(percent: int, held: tuple[str, ...]) -> None:
    policy = TrafficPolicy(shadow=ShadowPolicy(NEW, ("s1",), 100, 1))
    shares = ((NEW, percent, ("s1",)), (OLD, 100 - percent, ("s1",)))
    entry = alias("acme", *shares, policy=policy)
    assert newer_than(entry, entry.shares[1]) == held


def test_nobody_is_sent_back_to_a_shadow_unless_it_is_named() -> None:
    policy = TrafficPolicy(shadow=ShadowPolicy(NEW, ("s1",), 100, 1))
    beside = alias("acme", (OLD, 100, ("s1",)), (NEW, 0, ("s1",)), policy=policy)
    with pytest.raises(FleetError, match="No earlier version"):
        choose_target("acme-support", beside, None)
    with pytest.raises(FleetError, match="no older"):
        choose_target("acme-support", beside, "2.2.0")
    assert choose_target("acme-support", beside, "2.2.0", forward=True).adapter == NEW
    older = alias("acme", *beside_shares(beside), (OLDER, 0, ("s1",)), policy=policy)
    assert choose_target("acme-support", older, None).adapter == OLDER


def beside_shares(entry: AliasEntry) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(each.adapter, each.percent, each.servers) for each in entry.shares]
