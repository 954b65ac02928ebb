"""What people are told, and that they are told once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from fleet.alerting.notifications import (
    AGAIN_FOR,
    OF_A_CLIENT,
    drifted,
    planned_retrainings,
    rollbacks,
    rollout_turns,
    undecided_rollouts,
)
from fleet.evals.records import DriftStatus, EvalRecord, drifts
from fleet.history import AGAIN, Notification, is_due
from fleet.history.events import Entry, event_of
from fleet.history.values import Claim
from fleet.rollouts.targets import AliasTarget, Phase
from fleet.rules.due import Retraining, RetrainingDue
from fleet.spec import NOTIFY_EVENTS, ClientEvent
from plans.reports.notifications import SAMPLES, document, fault
from tests.fleet.planning.builders import history
from tests.fleet.rollouts.gate_trials import ALIAS, NEW, mark

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
HELD = Notification("undecided", "acme-support", "v2 10", {})


def told(ago: timedelta, **more: Any) -> Entry:
    data = {"alias": "acme-support", "event": "undecided", "key": "v2 10", "to": "operators"}
    whole = data | {"delivered": True} | more
    return Entry(1, NOON - ago, event_of("notified", whole), "r", "me", 0, "", "")


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
    assert is_due(entries, HELD, "operators", NOON) is expected


def test_every_event_has_texts_of_ours_and_tells_a_client_only_what_it_may_see() -> None:
    assert fault("", "operators") is None
    assert fault("", "client") is None
    ours = {"ledger_away", "alert", "alert_resolved"}
    assert {*SAMPLES} == {*NOTIFY_EVENTS} == {*OF_A_CLIENT} | ours
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


def test_a_drift_that_was_mended_and_comes_again_is_told_again() -> None:
    name, past, told_in = "acme-support-tiny-v2.2.0", [], []
    notices: list[Entry] = []
    for week, changed in enumerate((0, 30, 30, 0, 40, 40)):
        compared = {"accuracy": {"changed": changed, "worse": changed, "n": 200}}
        summary: dict[str, Any] = {"valid": True, "levels": {"accuracy": {"good": 190, "n": 200}}}
        summary |= {"compared": compared} if week else {}
        at = NOON + timedelta(weeks=week)
        past.append(EvalRecord(f"r{week}", "acme-support", name, "anchor", summary, at))
        found = [each for each in drifts(past, name) if each.standing is DriftStatus.SERVING]
        alarms = [("acme-support", name, each) for each in found]
        for each in drifted(alarms, {"acme-support": past}, at):
            if is_due(notices, each, "operators", at):
                told_in.append(week)
                notices.append(told(-timedelta(weeks=week), event="drifted", key=each.key))
    assert told_in == [1, 4]


def test_a_rollout_that_is_undecided_again_after_more_time_is_told_again() -> None:
    wanted = {ALIAS: AliasTarget(ALIAS, NEW, ((NEW, 10),), "s", Phase.UNDECIDED, "", "cannot tell")}
    first, second = (replace(history(), marks={ALIAS: marks}) for marks in ((), (mark("extend"),)))
    keys = [each.key for past in (first, second) for each in undecided_rollouts(wanted, past, NOON)]
    assert len({*keys}) == 2


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
    return [
        Entry(1, NOON - ago, event_of(kind, data), "r", "me", 0, "", "") for kind, data in kinds
    ]


def test_whom_the_notice_of_a_rollback_did_not_reach_is_told_later() -> None:
    entries = rolled_back("then", timedelta(hours=3))
    (found,) = rollbacks([*rolled_back("long ago", AGAIN_FOR + AGAIN), *entries], NOON)
    assert {*found.facts} == {*SAMPLES["rolled_back"]} - {"fleet"}
    told_of = document("rolled_back", "operators", found.facts)["text"]
    assert "acme-support is back on 2.1.0 (was 2.2.0), by gate errors: errors: worse" in told_of
    assert "smoke test passed after 0.50 s" in told_of
    assert "NEEDS YOU" not in told_of
    client = document("rolled_back", "client", found.facts)
    assert {*client} - {"event", "text"} == {*OF_A_CLIENT["rolled_back"]}
    about = {"event": "rolled_back", "key": "", "decided": "then"}
    assert is_due([], found, "operators", NOON)
    assert not is_due([told(AGAIN, **about)], found, "operators", NOON)
    assert is_due([told(AGAIN, **about, delivered=False)], found, "operators", NOON)
    assert not is_due([told(AGAIN / 2, **about, delivered=False)], found, "operators", NOON)
    (killed,) = rollbacks(entries[:1], NOON)  # before its smoke test
    text = document("rolled_back", "operators", killed.facts)["text"]
    assert text.startswith("NEEDS YOU: acme-support is back on 2.1.0")


def routed(minute: int, shares: dict[str, int]) -> list[Entry]:
    """Return what an apply writes down of a route."""
    route = {"alias": ALIAS, "salt": "s", "kind": "route"}
    listed = [
        {"adapter": name, "percent": part, "servers": ["s1"]} for name, part in shares.items()
    ]
    step = {"step": f"set_route route/{ALIAS}", "address": f"route/{ALIAS}"}
    operation = {"verb": "set_route", "route": route | {"shares": listed}}
    data = {"plan_id": "p", **step, "operation": operation}
    made = [event_of("step_started", data), event_of("step_finished", {**step, "how": "done"})]
    at = NOON + timedelta(minutes=minute)
    return [Entry(minute, at, event, "r", "me", 0, "", "") for event in made]


def test_the_begin_and_the_end_of_a_rollout_are_told_and_a_way_back_is_not() -> None:
    old, new, late = (f"acme-support-tiny-v{version}" for version in ("2.1.0", "2.2.0", "2.3.0"))
    entries = [
        *routed(0, {old: 100}),
        *routed(1, {new: 10, old: 90}),
        *routed(2, {new: 50, old: 50}),
        *routed(3, {new: 0, old: 100}),
        *routed(4, {late: 100, new: 0, old: 0}),
    ]
    found = [(turn.event, turn.facts["adapter"]) for turn in rollout_turns(entries, NOON)]
    assert found == [
        ("rollout_started", new),
        ("rollout_started", late),
        ("rollout_finished", late),
    ]
    assert not [*rollout_turns(entries, NOON + 2 * AGAIN_FOR)]


def test_a_retraining_is_told_before_it_is_overdue_where_it_is_due_or_claimed() -> None:
    claim = Claim("ann", NOON + timedelta(days=3), "new data", NOON)
    rows = [
        (RetrainingDue.DUE, None, ["2031-05-08"]),
        (RetrainingDue.AD_HOC, claim, ["2031-05-04"]),
        (RetrainingDue.AD_HOC, None, []),
        (RetrainingDue.FRESH, None, []),
        (RetrainingDue.OVERDUE, claim, []),
    ]
    for urgency, held, days in rows:
        due = Retraining(ALIAS, NEW, urgency, "", None, NOON + timedelta(days=7), held)
        told_of = [plan.facts["due"] for plan in planned_retrainings([due], NOON)]
        assert told_of == days, urgency
