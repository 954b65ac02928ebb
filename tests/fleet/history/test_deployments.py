from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.codec import plain
from fleet.history.events import Entry, event_of
from fleet.history.kept_entries import carried_out, deployments_of
from fleet.names import AdapterName
from fleet.resources import LoadedAdapter, Route, Share
from fleet.steps import DeleteRoute, LoadAdapter, SetRoute, UnloadAdapter

OLD = AdapterName.parse("acme-support-tiny-v2.1.0")
NEW = AdapterName.parse("acme-support-tiny-v2.2.0")
START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def ledger(*records: tuple[str, dict[str, Any]]) -> list[Entry]:
    return [
        Entry(n, START + timedelta(hours=n), event_of(kind, data), "run", "ana", 1, "", "")
        for n, (kind, data) in enumerate(records)
    ]


def step(operation: Any, number: int = 1) -> tuple[tuple[str, dict[str, Any]], ...]:
    started = {"step": f"s{number}", "address": "x", "operation": plain(operation)}
    return (
        ("step_started", started),
        ("step_finished", {"step": f"s{number}", "address": "x", "how": "done"}),
    )


def route(**shares: int) -> Route:
    names = {"old": OLD, "new": NEW}
    given = tuple(Share(str(names[key]), percent, ("s",)) for key, percent in shares.items())
    return Route("acme-support", given, "salt")


def load(name: AdapterName) -> LoadAdapter:
    return LoadAdapter(LoadedAdapter(str(name), "tiny-laptop-cpu0", "d" * 64))


def told(entries: list[Entry], name: AdapterName) -> list[str]:
    return [each.what for each in deployments_of(entries, name)]


ROLLOUT = ledger(
    *step(load(OLD)),
    *step(SetRoute(route(old=100))),
    *step(load(NEW)),
    *step(SetRoute(route(new=10, old=90))),
    *step(SetRoute(route(new=10, old=90))),
    ("rolled_back", {"alias": "acme-support", "to": str(OLD), "reason": "wrong queue"}),
    *step(UnloadAdapter(LoadedAdapter(str(NEW), "tiny-laptop-cpu0", "d" * 64))),
    *step(DeleteRoute(route(old=100))),
)


def test_a_version_that_was_tried_and_rolled_back() -> None:
    assert told(ROLLOUT, NEW) == [
        "loaded on tiny-laptop-cpu0",
        "10 % of the traffic",
        "rolled back: wrong queue",
        "unloaded from tiny-laptop-cpu0",
    ]


def test_the_version_that_stayed() -> None:
    assert told(ROLLOUT, OLD) == [
        "loaded on tiny-laptop-cpu0",
        "100 % of the traffic",
        "90 % of the traffic",
        "rolled back to",
        "0 % of the traffic",
    ]


def test_each_says_who_and_when() -> None:
    first = next(iter(deployments_of(ROLLOUT, OLD)))
    assert (first.by, first.time) == ("ana", START + timedelta(hours=1))


def test_a_step_that_never_finished_did_not_happen() -> None:
    assert told(ledger(step(load(OLD))[0]), OLD) == []


def test_a_step_that_was_found_done_carries_its_operation() -> None:
    data = {"step": "s9", "address": "x", "how": "adopted", "operation": plain(load(OLD))}
    assert told(ledger(("step_finished", data)), OLD) == ["loaded on tiny-laptop-cpu0"]


def test_an_adopted_version_and_another_alias() -> None:
    entries = ledger(
        ("adopted", {"address": f"adapter/{OLD}@s1", "resource": {}}),
        ("adopted", {"address": f"adapter/{NEW}@s1", "resource": {}}),
        *step(SetRoute(Route("acme-faq", (Share(str(OLD), 100, ("s",)),), ""))),
        ("rolled_back", {"alias": "acme-faq", "to": str(OLD)}),
        ("note", {"text": "hello"}),
    )
    assert told(entries, OLD) == ["found on s1 and adopted"]


STARTED, ENDED = ("apply_started", "x"), ("apply_finished", "x")
OTHER = ("apply_started", "y")


@pytest.mark.parametrize(
    ("happened", "result", "refused"),
    [
        ([], "converged", False),
        ([STARTED, ENDED], "converged", False),
        ([STARTED, ENDED, STARTED], "converged", False),
        ([STARTED, ENDED, OTHER], "converged", True),
        ([STARTED, ENDED, OTHER], "half_way", False),
        ([OTHER, STARTED, ENDED], "converged", False),
    ],
)
def test_a_plan_is_not_carried_out_twice_with_another_in_between(
    happened: list[tuple[str, str]], result: str, *, refused: bool
) -> None:
    entries = ledger(*((kind, {"plan_id": plan, "result": result}) for kind, plan in happened))
    assert (carried_out(entries, "x") is not None) == refused
