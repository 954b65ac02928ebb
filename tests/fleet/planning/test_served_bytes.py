"""A plan loads no other bytes under the name of a version; where nothing knows them, it is red."""

from dataclasses import replace

import pytest

from fleet.consent import DecisionKind, decisions_due
from fleet.errors import ConfigError
from fleet.history import History
from fleet.plan import Plan, Reason
from fleet.planning import make_plan, with_served_bytes
from fleet.resources import LoadedAdapter, State
from fleet.spec import FleetSpec
from tests.fleet.planning.builders import NOON, digest_of, fleet, route, state
from tests.fleet.planning.test_plans import DECLARED, FAQ, LIVE, NEW, OLD, SERVER, SPOT, but

OTHER = "f" * 64
BY_HAND = LoadedAdapter(OLD, SPOT, None, "/srv/by-hand")
PAST = History(owned=frozenset(map(str, LIVE.resources)))


def redone(declared: FleetSpec = DECLARED, name: str = OLD) -> FleetSpec:
    """Pin other bytes to a version."""
    facts = replace(declared.versions[name], digest=OTHER)
    return replace(declared, versions={**declared.versions, name: facts})


def planned(declared: FleetSpec, live: State, past: History = PAST) -> Plan:
    return make_plan(declared, live, past, NOON)


@pytest.mark.parametrize(
    ("live", "past", "witness"),
    [
        (LIVE, PAST, "a server lists"),
        (but(LIVE, BY_HAND), replace(PAST, served={OLD: digest_of(OLD)}), "the ledger has"),
        (state(SERVER), replace(PAST, served={OLD: digest_of(OLD)}), "the ledger has"),
        (but(LIVE, BY_HAND), replace(PAST, established=LIVE.resources), "the ledger has"),
    ],
    ids=["listed", "served, by hand now", "served, gone now", "loaded"],
)
def test_other_bytes_of_a_version_that_served_are_refused(
    live: State, past: History, witness: str
) -> None:
    """Before, the first was a yellow plan: an adapter to reload in place, at 100 %."""
    with pytest.raises(ConfigError) as refused:
        planned(redone(), live, past)
    (problem,) = refused.value.diagnostics
    assert (problem.code, str(problem.place)) == ("FC1281", "clients/acme.yaml:7:16")
    assert f"and {witness} {digest_of(OLD)[:12]}" in problem.detail
    assert problem.command == "fleetctl adapter add PATH --as acme-support-tiny-v2.1.1"


def test_a_version_kept_for_the_way_back_keeps_its_bytes_too() -> None:
    declared = redone(fleet(*DECLARED.adapters.values(), known=[NEW]), NEW)
    routed = route("acme-support", (OLD, 100, SPOT), (NEW, 0, SPOT), salt=OLD)
    live = but(LIVE, replace(BY_HAND, adapter=NEW, digest=digest_of(NEW)), routed)
    with pytest.raises(ConfigError, match=NEW):
        planned(declared, live)


def test_a_version_that_has_never_been_loaded_may_be_made_anew() -> None:
    plan = planned(redone(), state(SERVER), History())
    loads = {c.after.digest for c in plan.changes if isinstance(c.after, LoadedAdapter)}
    assert loads == {OTHER, digest_of(FAQ)}


def test_the_ledger_says_more_than_what_a_server_lists() -> None:
    """A copy that was loaded by hand from the store goes, and the recorded bytes come back."""
    by_hand = replace(BY_HAND, digest=OTHER)
    plan = planned(DECLARED, but(LIVE, by_hand), replace(PAST, established=LIVE.resources))
    assert [change.reason for change in plan.changes] == [Reason.WRONG_SOURCE]
    assert decisions_due(plan) == ()


def test_a_reload_of_bytes_that_nothing_knows_needs_a_decision() -> None:
    """Before, the plan was yellow."""
    plan = planned(DECLARED, but(LIVE, BY_HAND))
    assert [change.reason for change in plan.changes] == [Reason.UNKNOWN_BYTES]
    (due,) = decisions_due(plan)
    assert (due.kind, due.aliases, due.clients) == (
        DecisionKind.BYTES,
        ("acme-support",),
        ("acme",),
    )


def test_a_round_goes_on_with_the_bytes_that_served() -> None:
    kept, problems = with_served_bytes(redone(), PAST, LIVE)
    assert [*problems] == [OLD]
    assert kept.versions[OLD].digest == digest_of(OLD)
    assert planned(kept, LIVE).changes == ()
