"""The first lines of a status: outages with the aliases that they hit, rollouts that wait."""

from dataclasses import replace
from typing import Any

from fleet.names import Address
from fleet.planning import DriftAction, DriftCause, outages_of
from fleet.resources import OutageKind, Route, Share, State
from plans.reports.status import urgent_lines, urgent_outages
from plans.tables import painter
from tests.fleet.planning.builders import loaded, route, state
from tests.fleet.planning.test_drift import FAQ, OLD, ROUTE, established, server

FREE = route("birch-faq", (FAQ, 100, "a"))
ROUTES = (
    Route("acme-support", (Share("c", 10, ("s1",)), Share("d", 90, ("s1", "s2"))), "s"),
    Route("birch-units", (Share("birch-units-tiny-v1.0.0", 100, ("s1", "s2")),), "s"),
    Route("corvid-dates", (Share("a", 0, ("s1",)), Share("b", 100, ("s3",))), "s"),
)
LIVE = State(resources={route.address: route for route in ROUTES})


def outage(subject: str, kind: OutageKind) -> DriftCause:
    address = Address(subject)
    return DriftCause(address, DriftAction.ALERT, "is down", (address,), "fleetctl x", kind)


def unanswered(*outages: DriftCause, client: str | None = None) -> list[Any]:
    return [row.get("unanswered") for row in urgent_outages(outages, LIVE, client)]


FIRST = replace(outage("server/s1", OutageKind.SERVER_DOWN), unanswered=("acme-support",))


def test_a_server_takes_along_what_no_other_server_answers() -> None:
    """A server that lacked one of two versions had both aliases here, and answered the second."""
    applied = established(server("a"), loaded(OLD, "a"), loaded(FAQ, "a"), ROUTE, FREE)
    lacking = state(server("a"), loaded(FAQ, "a"), ROUTE, FREE)
    ended = state(ROUTE, FREE)
    for live, aliases in ((lacking, ["acme-support"]), (ended, ["acme-support", "birch-faq"])):
        for client in (None, "acme", "birch"):
            (row,) = urgent_outages(outages_of(applied, live), live, client)
            theirs = [alias for alias in aliases if alias.startswith(client or "")]
            assert row["unanswered"] == theirs


def test_versions_on_servers_that_are_all_silent_have_no_answer_by_each_of_them() -> None:
    wide = route("acme-support", (OLD, 100, "a b"))
    both = established(server("a"), server("b"), loaded(OLD, "a"), loaded(OLD, "b"), wide)
    one = state(server("b"), loaded(OLD, "b"), wide)
    hung = replace(state(wide), unknown_servers={"b": "did not answer"})
    assert [cause.unanswered for cause in outages_of(both, one)] == [()]
    assert [cause.unanswered for cause in outages_of(both, hung)] == [("acme-support",)] * 2


def test_a_gateway_takes_all_along_and_a_lost_key_or_table_none() -> None:
    everything = [route.alias for route in ROUTES]
    assert unanswered(outage("gateway/main", OutageKind.GATEWAY_DOWN)) == [everything]
    others = (OutageKind.KEY_GONE, OutageKind.TABLE_DAMAGED, OutageKind.LEDGER_DAMAGED)
    assert unanswered(*(outage("key/acme/prod", kind) for kind in others)) == [None] * 3


def test_an_alias_without_a_route_names_itself_to_its_own_client() -> None:
    gone = replace(outage("route/birch-units", OutageKind.UNSERVED), unanswered=("birch-units",))
    assert unanswered(gone) == unanswered(gone, client="birch") == [["birch-units"]]
    assert unanswered(gone, client="acme") == [[]]


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
