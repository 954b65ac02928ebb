"""Approvals of plans stay until their plan has been carried out."""

import pytest

from fleet.history import (
    ApplyFinished,
    Entry,
    LedgerEvent,
    PlanApproved,
    fold_entries,
    history_document,
    history_of,
)
from tests.fleet.history.test_fold import NOON

APPROVED = PlanApproved("p1", "announced", 2)


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ([APPROVED], {"p1": ["ana"]}),
        ([APPROVED, APPROVED], {"p1": ["ana", "bo"]}),
        ([APPROVED, PlanApproved("p2", "r")], {"p1": ["ana"], "p2": ["bo"]}),
        ([APPROVED, ApplyFinished("p1", "failed")], {"p1": ["ana"]}),
        ([APPROVED, ApplyFinished("p2", "converged")], {"p1": ["ana"]}),
        ([APPROVED, ApplyFinished("p1", "converged")], {}),
        ([ApplyFinished("p1", "converged"), APPROVED], {"p1": ["bo"]}),
    ],
)
def test_an_approval_is_used_up_by_its_plan_alone(
    events: list[LedgerEvent], left: dict[str, list[str]]
) -> None:
    entries = [
        Entry(seq, NOON, event, "run", by, 1, "", "")
        for seq, (event, by) in enumerate(zip(events, ("ana", "bo"), strict=False), 1)
    ]
    history = fold_entries(entries)
    found = {plan: [approval.by for approval in given] for plan, given in history.approvals.items()}
    assert found == left
    assert history_of(history_document(history)).approvals == history.approvals
