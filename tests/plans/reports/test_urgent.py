"""The first lines of a status: outages with the aliases that they hit, rollouts that wait."""

from typing import Any

from fleet.names import Address
from fleet.planning import DriftAction, DriftCause
from fleet.resources import OutageKind, Route, Share, State
from plans.reports.urgent import urgent_lines, urgent_outages
from plans.tables import painter

NEW, OLD = "acme-support-tiny-v2.2.0", "acme-support-tiny-v2.1.0"
ROUTES = (
    Route("acme-support", (Share(NEW, 10, ("s1",)), Share(OLD, 90, ("s1", "s2"))), "s"),
    Route("birch-units", (Share("birch-units-tiny-v1.0.0", 100, ("s1", "s2")),), "s"),
    Route("corvid-dates", (Share("a", 0, ("s1",)), Share("b", 100, ("s3",))), "s"),
)
LIVE = State(resources={route.address: route for route in ROUTES})


def outage(subject: str, kind: OutageKind) -> DriftCause:
    address = Address(subject)
    return DriftCause(address, DriftAction.ALERT, "is down", (address,), "fleetctl x", kind)


def unanswered(*outages: DriftCause, client: str | None = None) -> list[Any]:
    return [row.get("unanswered") for row in urgent_outages(outages, LIVE, client)]


FIRST = outage("server/s1", OutageKind.SERVER_DOWN)
SECOND = outage("server/s2", OutageKind.SERVER_HUNG)


def test_a_server_takes_along_what_no_other_server_answers() -> None:
    assert unanswered(FIRST) == [["acme-support"]]
    assert unanswered(SECOND) == [[]]
    assert unanswered(FIRST, SECOND) == [["acme-support", "birch-units"]] * 2
    assert unanswered(FIRST, SECOND, client="birch") == [["birch-units"]] * 2


def test_a_gateway_takes_all_along_and_a_lost_key_or_table_none() -> None:
    everything = [route.alias for route in ROUTES]
    assert unanswered(outage("gateway/main", OutageKind.GATEWAY_DOWN)) == [everything]
    others = (OutageKind.KEY_GONE, OutageKind.TABLE_DAMAGED, OutageKind.LEDGER_DAMAGED)
    assert unanswered(*(outage("key/acme/prod", kind) for kind in others)) == [None] * 3


def test_outages_come_first_then_rollouts_that_wait_for_people() -> None:
    waiting = {
        "alias": "acme-support",
        "version": "2.2.0",
        "percent": 10,
        "waits_for": "no verdict by its longest bake",
        "next": "",
    }
    document = {"outages": urgent_outages([FIRST], LIVE, None), "waiting": [waiting]}
    lines = urgent_lines(document, painter(colour=False))
    assert lines == [
        "OUTAGE server/s1: is down",
        "  Clients: other servers answer where they hold the version; all other requests fail.",
        "  Without an answer: acme-support",
        "  Helps: fleetctl x",
        "",
        "WAITS FOR A PERSON acme-support 2.2.0 at 10 %: no verdict by its longest bake",
        "  Helps: fleetctl rollout status acme-support",
        "",
    ]
    assert urgent_lines(document, painter(colour=True))[0] == f"\033[31m{lines[0]}\033[0m"
    assert urgent_lines({}, painter(colour=True)) == []
