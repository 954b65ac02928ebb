"""Events of the ledger are read from any release's lines, and written as before."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.codec import MalformedError
from fleet.history.apply_events import PassiveEvent
from fleet.history.events import KINDS, UnknownEvent, data_of, event_of
from fleet.history.fold import FOLDED
from fleet.history.rollout_events import Drilled, DrillRefused, RolloutMarked

OLD = Path(__file__).parents[2] / "data"


def lines() -> list[dict[str, Any]]:
    texts = (path.read_text(encoding="utf-8") for path in sorted(OLD.rglob("ledger.jsonl")))
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_old_lines_are_written_as_they_were() -> None:
    assert len({line["kind"] for line in lines()}) > 10
    for line in lines():
        event = event_of(line["kind"], line["data"])
        assert not isinstance(event, UnknownEvent)
        assert data_of(event) == line["data"]


def test_what_a_later_release_adds_is_passed_over() -> None:
    later = event_of("rollout_marked", {"alias": "a", "mark": "cheer", "colour": "red"})
    assert later == RolloutMarked("a", mark="cheer")
    data = {"alias": "a", "entry_id": "one"}
    unknown = event_of("celebrated", data)
    assert unknown == UnknownEvent("celebrated", data, entry_id="one")
    assert (unknown.kind, data_of(unknown)) == ("celebrated", data)


def test_a_refused_drill_is_a_drill_with_a_reason() -> None:
    refused, drilled = DrillRefused("a", "no way back"), Drilled("a", "a-v1")
    for event in (refused, drilled):
        assert event_of("drilled", data_of(event)) == event


def test_a_field_of_another_type_is_refused() -> None:
    with pytest.raises(MalformedError, match=r"gate_judged\.percent: expected a whole number"):
        event_of("gate_judged", {"percent": "ten"})


def test_an_event_is_folded_or_changes_no_history() -> None:
    active = {made for made in KINDS.values() if not issubclass(made, PassiveEvent)}
    assert FOLDED.keys() == active
