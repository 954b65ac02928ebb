"""An alias that no server answers is an outage, by the cause that keeps it without an answer."""

from dataclasses import dataclass, replace

import pytest

from fleet.history.values import History
from fleet.names import adapter_address
from fleet.planning import classify_drift, outages_of
from fleet.resources import OutageKind, State
from tests.fleet.planning.builders import loaded, route, state
from tests.fleet.planning.test_drift import FAQ, KEY, OLD, ROUTE, established, live, server

FREE = route("birch-faq", (FAQ, 100, "a"))
APPLIED = established(server("a"), server("b"), loaded(OLD, "a"), loaded(FAQ, "a"),
                      loaded(OLD, "b"), ROUTE, FREE, KEY)  # fmt: skip
STOPPED = replace(
    APPLIED,
    established={at: item for at, item in APPLIED.established.items() if at != "server/a"},
)
HEAL, APPLY = "fleetctl reconcile --once", "fleetctl apply"


def seen(*gone: str, server_a: bool = True) -> State:
    found = live(*gone, *(() if server_a else ("server/a", "@a")), more=(FREE,))
    kept = {at: it for at, it in found.resources.items() if not any(text in at for text in gone)}
    return replace(found, resources=kept)


@dataclass(frozen=True)
class Case:
    name: str
    live: State
    outages: tuple[tuple[str, OutageKind, tuple[str, ...] | None, str], ...]
    history: History = APPLIED


NEW = OutageKind.UNSERVED
DOWN = OutageKind.SERVER_DOWN
BOTH = ("acme-support", "birch-faq")
CUT = replace(FREE, shares=(replace(FREE.shares[0], servers=()),))
WIDE = replace(ROUTE, shares=(replace(ROUTE.shares[0], servers=("a", "b")),))
CASES = (
    Case("a fleet in order", seen(), ()),
    Case("a server without its adapters", seen("@a"), (("server/a", NEW, BOTH, HEAL),)),
    Case("a server without an adapter", seen(f"{FAQ}@a"),
         (("server/a", NEW, ("birch-faq",), HEAL),)),
    Case("an adapter that another server has too", state(
        server("a"), server("b"), loaded(OLD, "b"), WIDE), (), established(
        server("a"), server("b"), loaded(OLD, "a"), loaded(OLD, "b"), WIDE)),
    Case("adapters that a resolver answers", replace(seen("@a"), resolvable={
        adapter.address: adapter for adapter in (loaded(OLD, "a"), loaded(FAQ, "a"))}), ()),
    Case("a launch that the routes do not name",
         replace(seen(), launches={"a": "2"}, routed_launches={"a": "1"}),
         (("server/a", NEW, BOTH, HEAL),)),
    Case("a lost route", seen("route/birch-faq"),
         (("route/birch-faq", NEW, ("birch-faq",), HEAL),)),
    Case("a server that has ended", seen(server_a=False),
         (("server/a", DOWN, BOTH, HEAL),)),
    Case("a server that a run stopped and did not start again", seen(server_a=False),
         (("server/a", NEW, BOTH, APPLY),), STOPPED),
    Case("a route that a run took off its servers", replace(
        seen(), resources={**seen().resources, CUT.address: CUT}),
         (("route/birch-faq", NEW, ("birch-faq",), HEAL),)),
    Case("a route of which the ledger knows no copy", seen("@a"),
         (("route/birch-faq", NEW, ("birch-faq",), APPLY),
          ("route/acme-support", NEW, ("acme-support",), APPLY)),
         established(server("a"), server("b"), loaded(OLD, "b"), ROUTE, FREE, KEY)),
    Case("a server of another state folder", replace(
        seen(server_a=False), unknown_servers={"a": "started by /x"}, of_others={"a": "/x"}), ()),
    Case("routes that cannot be read", replace(seen("route/"), routes_unknown="down"),
         (("route/*", OutageKind.TABLE_DAMAGED, None, "fleetctl gateway status"),)),
    Case("a new alias whose first apply was not finished", state(server("a")), (),
         established(server("a"), loaded(FAQ, "a"))),
    Case("a new alias that is declared alone", state(), (), History()),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_keeps_clients_without_an_answer_is_an_outage(case: Case) -> None:
    """Before, only servers were outages, and no route that was gone or cut: 5 cases were red."""
    for find in (classify_drift, outages_of):
        found = {
            (cause.subject, cause.outage, cause.unanswered, cause.command)
            for cause in find(case.history, case.live)
            if cause.outage
        }
        assert found == set(case.outages)


def test_a_version_without_an_answer_beside_one_that_answers_is_an_outage() -> None:
    split = route("acme-support", (FAQ, 10, "a"), (OLD, 90, "b"))
    past = established(server("a"), server("b"), loaded(FAQ, "a"), loaded(OLD, "b"), split)
    found = state(server("a"), server("b"), loaded(OLD, "b"), split)
    (outage,) = outages_of(past, found)
    assert (outage.outage, outage.unanswered) == (NEW, ("acme-support",))
    assert outage.addresses == (adapter_address(FAQ, "a"),)
