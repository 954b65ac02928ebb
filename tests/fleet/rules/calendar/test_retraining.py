"""Whose turn it is to be retrained, and whose claim counts."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from fleet.evals.records import EvalRecord
from fleet.history.events import Entry, event_of
from fleet.history.fold import fold_entries
from fleet.names import AdapterName
from fleet.rules.due import (
    RetrainingDue,
    due_retrainings,
    next_version,
    standing_claim,
    trained,
)
from fleet.spec import AdapterSpec, FleetSpec, TierSpec

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
NAME = "acme-support-tiny-v1.0.0"
DAY = timedelta(days=1)
EMPTY: Mapping[str, Any] = MappingProxyType({})


def fleet(every: timedelta | None) -> FleetSpec:
    adapter = AdapterSpec(
        AdapterName.parse(NAME), "careful", None, "short_generation", 1, None, None, ()
    )
    tier = TierSpec("standard", 1, every)
    return FleetSpec(
        "f", EMPTY, {"standard": tier}, EMPTY, EMPTY, {"acme-support": adapter}, EMPTY, EMPTY, EMPTY
    )


def entry(number: int, kind: str, at: datetime, **data: Any) -> Entry:
    return Entry(number, at, event_of(kind, data), "run", "me", 0, "", "")


def loaded(ago: timedelta) -> Entry:
    return entry(1, "step_finished", NOON - ago, address=f"adapter/{NAME}@s", step="x", how="done")


@pytest.mark.parametrize(
    ("every", "ago", "turn"),
    [
        (None, DAY, RetrainingDue.NO_CADENCE),
        (30 * DAY, None, RetrainingDue.UNKNOWN),
        (30 * DAY, DAY, RetrainingDue.FRESH),
        (30 * DAY, 27 * DAY - timedelta(seconds=1), RetrainingDue.FRESH),
        (30 * DAY, 27 * DAY, RetrainingDue.DUE),
        (30 * DAY, 30 * DAY - timedelta(seconds=1), RetrainingDue.DUE),
        (30 * DAY, 30 * DAY, RetrainingDue.OVERDUE),
        (365 * DAY, 357 * DAY, RetrainingDue.FRESH),
        (365 * DAY, 358 * DAY, RetrainingDue.DUE),
    ],
)
def test_the_cadence_of_the_tier(
    every: timedelta | None, ago: timedelta | None, turn: RetrainingDue
) -> None:
    entries = [loaded(ago)] if ago is not None else []
    [found] = due_retrainings(fleet(every), entries, {}, {}, NOON)
    assert found.urgency is turn


def test_a_training_counts_from_its_own_end_and_not_from_when_it_was_loaded() -> None:
    entries = [loaded(DAY), entry(2, "retrain_finished", NOON - 40 * DAY, adapter=NAME)]
    assert trained(entries) == {NAME: NOON - 40 * DAY}
    [found] = due_retrainings(fleet(30 * DAY), entries, {}, {}, NOON)
    assert (found.urgency, found.reason) == (RetrainingDue.OVERDUE, "10 days over")


def test_drift_and_a_claim_make_a_turn_ad_hoc() -> None:
    def record(number: int, purpose: str, good: int) -> EvalRecord:
        told = {
            "valid": True,
            "golden_digest": str(number),
            "levels": {"accuracy": {"good": good, "n": 200}},
        }
        return EvalRecord(str(number), "acme-support", NAME, purpose, told, NOON)

    past = [record(0, "anchor", 195), *(record(n, "rolling", 150) for n in range(1, 5))]
    [found] = due_retrainings(fleet(30 * DAY), [loaded(DAY)], {"acme-support": past}, {}, NOON)
    assert found.urgency is RetrainingDue.AD_HOC
    claims = fold_entries([claim(1, "ann", NOON, NOON + DAY)]).claims
    [found] = due_retrainings(fleet(30 * DAY), [loaded(DAY)], {}, claims, NOON)
    assert (found.urgency, found.reason) == (RetrainingDue.AD_HOC, "new data")
    [found] = due_retrainings(fleet(30 * DAY), [loaded(DAY)], {}, claims, NOON + DAY)
    assert (found.urgency, found.claim) == (RetrainingDue.FRESH, None)


def claim(number: int, by: str, at: datetime, until: datetime) -> Entry:
    return entry(
        number, "retrain_claimed", at, alias="acme-support", by=by, until=until.isoformat(),
        reason="new data",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "holder"),
    [
        ([("ann", 0, 3), ("bob", 1, 5)], "ann"),
        ([("ann", 0, 1), ("bob", 1, 5)], "bob"),
        ([("ann", 0, 3), ("ann", 1, 9), ("bob", 4, 9)], "ann"),
    ],
)
def test_the_first_claim_counts_while_it_lasts(
    entries: list[tuple[str, int, int]], holder: str
) -> None:
    made = [
        claim(number, by, NOON + at * DAY, NOON + until * DAY)
        for number, (by, at, until) in enumerate(entries, 1)
    ]
    claims = fold_entries(made).claims
    found = standing_claim(claims, "acme-support", NOON + 4 * DAY) or claims["acme-support"]
    assert found.by == holder


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ([], "acme-support-tiny-v1.0.0"),
        (["acme-support-tiny-v1.9.9", "acme-support-tiny-v1.10.0"], "acme-support-tiny-v1.10.1"),
        (["acme-triage-tiny-v3.0.0", NAME], "acme-support-tiny-v1.0.1"),
        (["acme-support-other-v2.0.0", NAME], "acme-support-tiny-v2.0.1"),
    ],
)
def test_the_next_version_is_above_every_known_one(known: list[str], name: str) -> None:
    assert str(next_version("acme-support", "tiny", known)) == name
