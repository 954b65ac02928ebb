"""Users that stay on a version, by the declaration of the alias."""

import json
from typing import Any

import pytest

from fleet.traffic import Sticky, TrafficPolicy
from runtime.gateway.body.body import parse_body
from runtime.gateway.table.routing import Credentials, RouteTable
from runtime.gateway.table.table import RoutingTable
from runtime.gateway.table.table_loader import build_routes
from tests.runtime.gateway.stage import NEW, OLD, alias, key

KEYS = [f"secret-{number}" for number in range(60)]


def routes(sticky: Sticky) -> RouteTable:
    entry = alias(
        "acme", (NEW, 50, ("s1",)), (OLD, 50, ("s1",)), policy=TrafficPolicy(sticky=sticky)
    )
    keys = [key("acme", secret, f"k{number}") for number, secret in enumerate(KEYS)]
    merged = {name: each for one in keys for name, each in one.items()}
    servers = {"s1": "http://s1:8000"}
    return build_routes(
        RoutingTable(revision=1, servers=servers, aliases={"acme-support": entry}, keys=merged)
    )


def version(made: RouteTable, secret: str, session: str = "", **fields: Any) -> str:
    credentials = Credentials()
    credentials.values.append(f"Bearer {secret}")
    body = parse_body(json.dumps({"model": "acme-support", **fields}).encode())
    _, target, _ = made.decide(credentials.authenticate(made, b""), body, session)
    return target.adapter


def split(made: RouteTable, *, by: str) -> bool:
    """Return whether users that differ in `by` are split and stay on their version.

    Everything else about their requests is the same.
    """
    seen = []
    for number in range(60):
        one = f"user-{number}"
        asks: dict[str, Any] = {"secret": KEYS[0], "session": "same", "user": "same"}
        if by == "key":
            asks["secret"] = KEYS[number]
        elif by == "session_id":
            asks |= {"session": "", "session_id": one}
        else:
            asks[by] = one
        seen.append({version(made, **asks) for _ in range(3)})
    assert all(len(each) == 1 for each in seen)
    return len(set.union(*seen)) > 1


@pytest.mark.parametrize(
    ("sticky", "by"),
    [
        (Sticky.SESSION, {"session", "session_id"}),
        (Sticky.USER, {"user"}),
        (Sticky.KEY, {"key"}),
    ],
)
def test_a_split_goes_by_what_is_declared_and_by_nothing_else(sticky: Sticky, by: set[str]) -> None:
    made = routes(sticky)
    found = {each for each in ("session", "session_id", "user", "key") if split(made, by=each)}
    assert found == by


def test_without_a_session_the_user_counts() -> None:
    made = routes(Sticky.SESSION)
    seen = [{version(made, KEYS[0], user=f"u{n}") for _ in range(3)} for n in range(60)]
    assert all(len(each) == 1 for each in seen)
    assert set.union(*seen) == {NEW, OLD}


@pytest.mark.parametrize("sticky", [Sticky.REQUEST, Sticky.USER])
def test_who_names_nobody_is_assigned_by_chance(sticky: Sticky) -> None:
    made = routes(sticky)
    assert {version(made, KEYS[0], "session") for _ in range(60)} == {NEW, OLD}
