"""What people are told, and that they are told once."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from fleet.events import EVENTS, OF_A_CLIENT, ClientEvent
from fleet.history import Entry
from fleet.occasions import AGAIN, Occasion, due
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
