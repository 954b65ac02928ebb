"""What people are told, and that they are told once."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from fleet.events import EVENTS, OF_A_CLIENT, ClientEvent
from fleet.history import Entry
from fleet.occasions import AGAIN, AGAIN_FOR, Occasion, due, gone_back
from plans.notices import SAMPLES, document, fault

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
HELD = Occasion("undecided", "acme-support", "v2 10", {})


def told(ago: timedelta, **more: Any) -> Entry:
    data = {"alias": "acme-support", "event": "undecided", "key": "v2 10", "to": "operators"}
    whole = data | {"delivered": True} | more
    return Entry(1, NOON - ago, "notified", "r", "me", 0, whole, "", "")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], True),
        ([told(timedelta(days=30))], False),
        ([told(timedelta(days=30), to="client acme")], True),
        ([told(timedelta(days=30), key="v2 50")], True),
        ([told(timedelta(days=30), event="drifted")], True),
        ([told(timedelta(days=30), alias="birch-support")], True),
        ([told(AGAIN - timedelta(seconds=1), delivered=False)], False),
        ([told(AGAIN, delivered=False)], True),
        ([told(timedelta(days=2), delivered=False), told(timedelta(days=1))], False),
    ],
)
def test_an_occasion_is_told_once_to_each_reader(entries: list[Entry], expected: bool) -> None:  # noqa: FBT001
    assert due(entries, HELD, "operators", NOON) is expected


def test_every_event_has_texts_of_ours_and_tells_a_client_only_what_it_may_see() -> None:
    assert fault("", "operators") is None
    assert fault("", "client") is None
    assert {*SAMPLES} == {*EVENTS} == {*OF_A_CLIENT, "ledger_away"}
    assert {*OF_A_CLIENT} == {*get_args(ClientEvent)}
    common = {
        "fleet": "f",
        "alias": "acme-support",
        "version": "2",
        "adapter": "acme-support-v2",
        "at": "",
    }
    for event in OF_A_CLIENT:
        for audience in ("client", "operators"):
            seen = document(event, audience, {**common, **SAMPLES[event]})
            assert "acme-support" in seen["text"], (event, audience)
        facts = {*document(event, "client", {**common, **SAMPLES[event]})} - {"event", "text"}
        assert facts == {*OF_A_CLIENT[event]}


def rolled_back(decided: str, ago: timedelta) -> list[Entry]:
    """Return what a rollback writes down of itself."""
    new, old = (f"acme-support-tiny-v{each}" for each in ("2.2.0", "2.1.0"))
    made = {
        "alias": "acme-support", "to": old, "before": {new: 10, old: 90}, "decided": decided,
        "seconds": 0.02, "acknowledged": ["main"], "failures": [], "cause": "gate errors",
        "reason": "errors: worse", "adapter": new, "revision": 7,
    }  # fmt: skip
    smoke = {"passed": 5, "total": 5, "telling": 5}
    checked = {"alias": "acme-support", "to": old, "decided": decided, "smoke_ok_s": 0.5,
               "smoke": smoke}  # fmt: skip
    kinds = ("rolled_back", made), ("rollback_checked", checked)
    return [Entry(1, NOON - ago, kind, "r", "me", 0, data, "", "") for kind, data in kinds]


def test_whom_the_notice_of_a_rollback_did_not_reach_is_told_later() -> None:
    entries = rolled_back("then", timedelta(hours=3))
    (found,) = gone_back([*rolled_back("long ago", AGAIN_FOR + AGAIN), *entries], NOON)
    assert {*found.facts} == {*SAMPLES["rolled_back"]} - {"fleet"}
    told_of = document("rolled_back", "operators", found.facts)["text"]
    assert "acme-support is back on 2.1.0 (was 2.2.0), by gate errors: errors: worse" in told_of
    assert "smoke test passed after 0.50 s" in told_of
    assert "NEEDS YOU" not in told_of
    client = document("rolled_back", "client", found.facts)
    assert {*client} - {"event", "text"} == {*OF_A_CLIENT["rolled_back"]}
    about = {"event": "rolled_back", "key": "", "decided": "then"}
    assert due([], found, "operators", NOON)
    assert not due([told(AGAIN, **about)], found, "operators", NOON)
    assert due([told(AGAIN, **about, delivered=False)], found, "operators", NOON)
    assert not due([told(AGAIN / 2, **about, delivered=False)], found, "operators", NOON)
    (killed,) = gone_back(entries[:1], NOON)  # before its smoke test
    text = document("rolled_back", "operators", killed.facts)["text"]
    assert text.startswith("NEEDS YOU: acme-support is back on 2.1.0")
