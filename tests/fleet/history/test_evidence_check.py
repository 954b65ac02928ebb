"""Verdicts are computed again from their counts; whatever was changed afterwards shows."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.gates.live import judge_live
from fleet.gates.offline import judge_paired
from fleet.gates.rows import Tally, Window
from fleet.history.doubts import check_one
from fleet.history.events import event_of
from fleet.history.rollout_events import GateJudged, UpgradeJudged
from fleet.policies import GateSpec

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
ANSWERS = GateSpec("answers", "accuracy_drop", 5, "pp")
ERRORS = GateSpec("errors", "error_rate_rise", 2, "pp")


def offline() -> dict[str, Any]:
    found = judge_paired(ANSWERS, [1.0] * 200, [0.0] * 40 + [1.0] * 160)
    return {"alias": "a", "adapter": "b", "gate": "answers", "finding": found.plain()}


def live() -> dict[str, Any]:
    bad, usual = Tally(100, {"errors": 30}), Tally(900, {"errors": 9})
    windows = [Window(NOON, NOON + timedelta(hours=1), bad, usual, 10)]
    found = judge_live(ERRORS, windows)
    return {"alias": "a", "adapter": "b", "gate": "errors", "finding": found.plain()}


def read(data: dict[str, Any]) -> GateJudged | UpgradeJudged:
    event = event_of("upgrade_judged" if "canary" in data else "gate_judged", data)
    assert isinstance(event, GateJudged | UpgradeJudged)
    return event


def on_canary() -> dict[str, Any]:
    return {**offline(), "base": "tiny", "settings": "s", "canary": "tiny-laptop-cpu1"}


@pytest.mark.parametrize("made", [offline, live, on_canary])
def test_what_was_judged_follows_from_its_counts(made: Callable[[], dict[str, Any]]) -> None:
    found = check_one(7, read(made()))
    assert (found.differs, found.recorded, found.computed) == ("", "FAIL", "FAIL")


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "verdict": ({"verdict": "PASS"}, "its counts give FAIL, not PASS"),
    "figure": ({"value": 0.5}, "its counts give value"),
    "bound": ({"upper": None}, "its counts give upper"),
    "counts": ({"counts": {"items": 200.0}}, "it cannot be judged again"),
    "rule": ({"rule": "trust_me"}, "it cannot be judged again: no rule is called 'trust_me'"),
    "kind": ({"verdict": "FINE"}, "it cannot be judged again"),
    "gate": ({"gate": "other"}, "it is a finding of gate other"),
}


@pytest.mark.parametrize("made", [offline, live, on_canary])
@pytest.mark.parametrize("case", CHANGES)
def test_what_was_changed_shows(made: Callable[[], dict[str, Any]], case: str) -> None:
    changes, said = CHANGES[case]
    document = made()
    document["finding"] |= changes
    assert said in check_one(7, read(document)).differs


def test_kinder_counts_give_another_verdict() -> None:
    document = offline()
    document["finding"]["counts"]["worse"] = 0.0
    document["finding"]["counts"]["good"] = 200.0
    assert check_one(7, read(document)).differs == "its counts give PASS, not FAIL"


def test_an_entry_without_a_finding_is_no_evidence() -> None:
    assert "cannot be judged again" in check_one(7, GateJudged("a")).differs
