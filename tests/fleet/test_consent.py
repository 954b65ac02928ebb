"""A plan needs a decision for what clients lose, and approvals cover it or do not."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fleet.consent import Approval, DecisionKind, approve_command, covering, decisions_due
from fleet.plan import Action, Change, Impact, Plan, PlanNote, Reason
from fleet.resources import Route
from tests.fleet.planning.builders import route

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
OLD, NEW = "acme-x-tiny-v1.0.0", "acme-x-tiny-v2.0.0"
ONE = route("acme-x", (OLD, 100, "a"))
MOVED = route("acme-x", (NEW, 10, "a"), (OLD, 90, "a"))
USUAL = Impact("acme", "standard", "acme-x", "", 10, None, "", "warm", 1.0, interrupted=False)

RELOAD = replace(USUAL, interrupted=True, waits=True)


def shifted(before: Route | None, after: Route | None) -> Change:
    address = (after or before or ONE).address
    return Change(address, Action.UPDATE, before, after, Reason.DECLARED)


def planned(impact: Impact, before: Route | None, after: Route | None, *silent: str) -> Plan:
    unknown = tuple(PlanNote("no answer", f"server/{server}") for server in silent)
    changes = (shifted(before, after),)
    return Plan("0123456789abcdef", "f", changes, impacts=(impact,), unknown=unknown)


@pytest.mark.parametrize(
    ("plan", "kinds"),
    [
        (planned(USUAL, ONE, MOVED), []),
        (planned(replace(USUAL, back_out_class="none"), None, ONE), []),
        (planned(replace(USUAL, back_out_class="cold"), ONE, None), []),
        (planned(replace(USUAL, interrupted=True), ONE, ONE), [DecisionKind.OUTAGE]),
        (planned(replace(USUAL, interrupted=True, outage_s=1.0), ONE, ONE), [DecisionKind.OUTAGE]),
        (planned(replace(RELOAD, outage_s=30.0), ONE, ONE), []),
        (planned(replace(RELOAD, outage_s=31.0), ONE, ONE), [DecisionKind.OUTAGE]),
        (planned(RELOAD, ONE, ONE), [DecisionKind.OUTAGE]),
        (planned(replace(USUAL, back_out_class="cold"), ONE, MOVED), [DecisionKind.COLD]),
        (planned(USUAL, ONE, MOVED, "a"), [DecisionKind.UNVERIFIED]),
        (planned(USUAL, ONE, MOVED, "b"), []),
        (planned(USUAL, MOVED, MOVED, "a"), []),
        (planned(USUAL, None, ONE, "a"), [DecisionKind.UNVERIFIED]),
    ],
)
def test_what_clients_lose_needs_a_decision(plan: Plan, kinds: list[DecisionKind]) -> None:
    due = decisions_due(plan)
    assert [decision.kind for decision in due] == kinds
    assert all((d.aliases, d.clients) == (("acme-x",), ("acme",)) for d in due)


def test_an_approval_covers_an_outage_of_at_most_the_clients_that_it_accepts() -> None:
    out = replace(USUAL, interrupted=True)
    others = (replace(out, alias="acme-y"), replace(out, client="birch", alias="birch-x"))
    plan = replace(planned(out, ONE, ONE), impacts=(out, *others))
    given = [Approval(f"person {n}", NOON, "r", n) for n in (0, 1, 2, 3)]
    assert [approval.accept_outage for approval in covering(plan, given)] == [2, 3]
    assert approve_command(plan) == (
        "fleetctl approve 0123456789abcdef --accept-outage 2 --reason TEXT"
    )
    cold = planned(replace(USUAL, back_out_class="cold"), ONE, MOVED)
    assert len(covering(cold, given)) == 4
    assert approve_command(cold) == "fleetctl approve 0123456789abcdef --reason TEXT"
