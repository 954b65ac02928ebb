"""The life of an alert, and the notices of it."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from fleet.alerting.alert import HISTORY, Alert, AlertPhase, AlertRule, RuleFinding, Signal, advance
from fleet.alerting.changes import AliasChange, ChangeKind
from fleet.alerting.notifications import AGAIN_FOR, alert_notices, as_told
from fleet.codec import decode, plain
from fleet.history import is_due
from fleet.history.events import Entry, event_of
from plans.reports.notifications import document
from tests.fleet.alerting.simulation import ALIAS, MONDAY, QUARTER, SERVER

CLEAR, BETWEEN, PENDING, FIRING, UNKNOWN = Signal
OTHER = "birch-mail"
LOAD = AliasChange(ChangeKind.LOAD, MONDAY, "cedar-tags", "2", "90", servers=(SERVER,))


def alert(rule: AlertRule = AlertRule.SLOW, subject: str = ALIAS, minute: int = 0) -> Alert:
    since = MONDAY + timedelta(minutes=minute)
    return Alert(rule, subject, 3.0, 1.0, since, f"fleetctl why {subject}", servers=(SERVER,))


@pytest.mark.parametrize(
    ("seen", "phases"),
    [
        ([PENDING, FIRING, FIRING, CLEAR], ["pending", "firing", "firing", "resolved"]),
        ([PENDING, CLEAR, PENDING], ["pending", "", "pending"]),
        ([FIRING, BETWEEN, PENDING, UNKNOWN, CLEAR], ["firing"] * 4 + ["resolved"]),
        ([BETWEEN, UNKNOWN, CLEAR], ["", "", ""]),
        ([PENDING, UNKNOWN, BETWEEN], ["pending", "pending", ""]),
    ],
)
def test_an_alert_fires_and_ends_with_hysteresis(seen: list[Signal], phases: list[str]) -> None:
    known: tuple[Alert, ...] = ()
    for place, (signal, phase) in enumerate(zip(seen, phases, strict=True)):
        now = MONDAY + place * QUARTER
        known = advance(known, [RuleFinding(signal, replace(alert(), since=now))], now)
        assert [found.phase.value for found in known] == ([phase] if phase else [])
    again = decode(tuple[Alert, ...], plain(known), "alerts.json")
    assert again == known


def test_an_alert_without_a_finding_ends_unless_its_rule_was_not_looked_at() -> None:
    event = alert(AlertRule.EVENT)
    known = advance((), [RuleFinding(FIRING, alert()), RuleFinding(FIRING, event)], MONDAY)
    later = advance(known, [], MONDAY + QUARTER, unseen={AlertRule.EVENT})
    assert {found.rule: found.phase for found in later} == {
        AlertRule.SLOW: AlertPhase.RESOLVED,
        AlertRule.EVENT: AlertPhase.FIRING,
    }
    assert advance(later, [RuleFinding(FIRING, event)], MONDAY + 2 * HISTORY)[0].rule == "event"


def silent(*alerts: Alert) -> dict[str, str]:
    found = advance((), [RuleFinding(FIRING, standing) for standing in alerts], MONDAY)
    return {standing.id: standing.silenced_by for standing in found}


def test_a_cause_is_told_once() -> None:
    down = replace(alert(AlertRule.OUTAGE, f"server/{SERVER}", 9), servers=(SERVER,))
    assert silent(alert(), alert(AlertRule.ERRORS, OTHER), down) == {
        f"outage server/{SERVER}": "",
        f"slow {ALIAS}": f"outage server/{SERVER}",
        f"errors {OTHER}": f"outage server/{SERVER}",
    }
    elsewhere = replace(alert(subject=OTHER), servers=("another",))
    assert silent(elsewhere, down)[f"slow {OTHER}"] == ""
    assert silent(alert(), alert(AlertRule.PROMISE)) == {
        f"slow {ALIAS}": "", f"promise {ALIAS}": f"slow {ALIAS}"
    }  # fmt: skip
    first, second = (replace(alert(subject=name), cause=LOAD) for name in (ALIAS, OTHER))
    assert silent(first, second)[f"slow {OTHER}"] == f"slow {ALIAS}"
    early = replace(alert(AlertRule.PROMISE_BUDGET, minute=-600), urgent=False)
    assert silent(early, alert())[f"slow {ALIAS}"] == ""  # an urgent alert is always told


def told(key: str, event: str, at: datetime) -> Entry:
    data = {"alias": ALIAS, "event": event, "key": key, "to": "operators", "delivered": True}
    return Entry(1, at, event_of("notified", data), "r", "me", 0, "", "")


def test_an_alert_is_told_when_it_begins_and_when_it_ends_and_no_second_time() -> None:
    first, second = (replace(alert(subject=name), cause=LOAD) for name in (OTHER, ALIAS))
    known = advance((), [RuleFinding(FIRING, first), RuleFinding(FIRING, second)], MONDAY)
    (begun,) = alert_notices(known, [], MONDAY)
    assert (begun.event, begun.alias) == ("alert", ALIAS)
    text = document("alert", "operators", {**begun.facts, "fleet": "f"})["text"]
    assert f"NEEDS YOU: {ALIAS} is slow: p95 3 s, limit 1 s" in text
    assert "the load of its neighbour cedar-tags rose, 2 -> 90 requests/min" in text
    assert f"fleetctl why {ALIAS}" in text
    assert f"The same cause: slow {OTHER}" in text
    entries = [told(begun.key, "alert", MONDAY)]
    assert not is_due(entries, begun, "operators", MONDAY + QUARTER)
    ended = advance(known, [], MONDAY + QUARTER)
    (over,) = alert_notices(ended, entries, MONDAY + QUARTER)
    assert over.event == "alert_resolved"
    assert is_due(entries, over, "operators", MONDAY + QUARTER)
    assert "Over since" in document("alert_resolved", "operators", dict(over.facts))["text"]
    assert not [*alert_notices(ended, [], MONDAY + QUARTER)]  # its beginning was not told
    assert not [*alert_notices(ended, entries, MONDAY + 2 * AGAIN_FOR)]
    events = advance((), [RuleFinding(FIRING, alert(AlertRule.EVENT))], MONDAY)
    assert not [*alert_notices(events, [], MONDAY)]  # it has a notice of its own


def test_a_second_watcher_tells_neither_begin_nor_end_again() -> None:
    first = advance((), [RuleFinding(FIRING, alert())], MONDAY)
    (begun,) = alert_notices(first, [], MONDAY)
    entries, later = [told(begun.key, "alert", MONDAY)], MONDAY + QUARTER
    fresh = advance((), [RuleFinding(FIRING, alert(minute=15))], later)
    (again,) = alert_notices(second := as_told(fresh, (), entries, later), entries, later)
    assert (again.key, is_due(entries, again, "operators", later)) == (begun.key, False)
    (over,) = alert_notices(advance(second, [], later), entries, later)
    assert is_due(entries, over, "operators", later)
    entries.append(told(over.key, "alert_resolved", later))
    (over,) = alert_notices(advance(first, [], later), entries, later)
    assert not is_due(entries, over, "operators", later)
    assert as_told(fresh, (), entries, later) == fresh, "it has ended, and this is another"
    assert as_told(fresh, fresh, entries[:1], later) == fresh, "it is known here"
    assert as_told(fresh, (), entries[:1], MONDAY + 2 * AGAIN_FOR) == fresh
