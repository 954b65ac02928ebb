"""Which live routes are not the ones that were applied, and which may be a rollback."""

from dataclasses import replace

import pytest

from fleet.history.values import History
from fleet.resources import Route
from fleet.rollouts import applied_route, may_be_rollback
from tests.fleet.planning.builders import route

OLD, NEW, OTHER = (f"acme-support-tiny-v1.{minor}.0" for minor in range(3))
APPLIED = route("acme-support", (NEW, 10, "a"), (OLD, 90, "a"))
PAST = History(established={APPLIED.address: APPLIED}, answered_all=frozenset({OLD}))
BACK = route("acme-support", (NEW, 0, "a"), (OLD, 100, "a"))
SALTED = replace(BACK, salt="other")


@pytest.mark.parametrize(
    ("live", "others", "rollback"),
    [
        (APPLIED, False, False),
        (route("acme-support", (NEW, 10, "b"), (OLD, 90, "a")), False, False),
        (BACK, False, True),
        (SALTED, True, False),
        (route("acme-support", (NEW, 100, "a"), (OLD, 0, "a")), True, False),
        (route("acme-support", (NEW, 60, "a"), (OLD, 40, "a")), True, False),
        (route("acme-support", (OLD, 100, "a")), True, False),
        (route("acme-support", (OTHER, 10, "a"), (OLD, 90, "a")), True, False),
        (route("birch-faq", (OTHER, 100, "a")), False, False),
    ],
    ids=["same", "servers", "back", "salt", "forth", "more", "shorter", "version", "unknown"],
)
def test_a_live_route_beside_the_one_that_was_applied(
    live: Route, *, others: bool, rollback: bool
) -> None:
    assert applied_route(PAST, live) == (APPLIED if others else None)
    assert may_be_rollback(APPLIED, live, PAST) is rollback
