"""A version that is tried again is compared with what has been usual since its first attempt."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.codec import plain
from fleet.history.events import Entry, event_of
from runtime.gates.live import began
from tests.fleet.planning.builders import route
from tests.runtime.gates.test_evidence import trial
from tests.runtime.gateway.stage import NEW, OLD, OTHERS

JANUARY, MARCH = datetime(2031, 1, 10, tzinfo=UTC), datetime(2031, 3, 10, tzinfo=UTC)
ALIAS, OTHER = "acme-support", "globex-dates"


def judged(since: datetime, percent: int = 10, stable: str = OLD) -> tuple[str, dict[str, Any]]:
    about = {"alias": ALIAS, "adapter": NEW, "stable": stable, "percent": percent}
    return "gate_judged", {**about, "gate": "errors", "since": since.isoformat()}


def routed(alias: str, new: int) -> tuple[str, dict[str, Any]]:
    made = route(alias, (NEW, new, "s1"), (OLD, 100 - new, "s1"))
    operation = {"verb": "set_route", "route": plain(made)}
    return "step_started", {"step": "1", "address": made.address, "operation": operation}


@pytest.mark.parametrize(
    ("between", "start"),
    [
        ((), JANUARY),
        ((routed(ALIAS, 50),), JANUARY),
        ((routed(ALIAS, 0),), MARCH),
        ((routed(ALIAS, 0), judged(MARCH - timedelta(days=1))), MARCH - timedelta(days=1)),
        ((routed(OTHER, 0),), JANUARY),
        ((("rolled_back", {"alias": ALIAS, "to": OLD}),), MARCH),
        ((("rolled_back", {"alias": ALIAS, "to": NEW}),), JANUARY),
        ((("rolled_back", {"alias": OTHER, "to": OTHERS}),), JANUARY),
        ((("released", {"alias": ALIAS, "adapter": None}),), MARCH),
        ((("released", {"alias": ALIAS, "adapter": NEW}),), MARCH),
        ((("released", {"alias": ALIAS, "adapter": OLD}),), JANUARY),
    ],
)
def test_a_rollout_began_with_its_latest_attempt(
    between: tuple[tuple[str, dict[str, Any]], ...], start: datetime
) -> None:
    told = (judged(JANUARY), *between, judged(MARCH, 50))
    entries = [
        Entry(number, JANUARY, event_of(kind, data), "r", "ci", 1, "", "")
        for number, (kind, data) in enumerate(told, 1)
    ]
    tried = trial(50, "s1", since=MARCH)
    assert began(tried, entries) == start


@pytest.mark.parametrize("found", [judged(JANUARY, 0), judged(JANUARY, 10, OTHERS)])
def test_what_was_found_without_traffic_or_beside_another_version_is_no_beginning(
    found: tuple[str, dict[str, Any]],
) -> None:
    entry = Entry(1, JANUARY, event_of(found[0], found[1]), "r", "ci", 1, "", "")
    assert began(trial(50, "s1", since=MARCH), [entry]) == MARCH
