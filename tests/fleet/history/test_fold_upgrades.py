"""Entries about upgrades fold into verdicts and decisions, by settings."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.gates import judge_paired
from fleet.history import (
    Entry,
    History,
    LedgerEvent,
    UpgradeDecided,
    UpgradeJudged,
    history_document,
    history_of,
)
from fleet.history.fold import fold_entries
from fleet.policies import GateSpec

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
GATE = GateSpec("accuracy", "accuracy_drop", 3.0, "pp")


def judged(alias: str, *, good: bool) -> UpgradeJudged:
    finding = judge_paired(GATE, (1.0,) * 300, (float(good),) * 300).plain()
    return UpgradeJudged(
        base="tiny", settings="new", old="old", canary="c", alias=alias,
        adapter=f"{alias}-tiny-v1.0.0", gate="accuracy", finding=finding,
    )  # fmt: skip


def decided(mark: str) -> UpgradeDecided:
    return UpgradeDecided(base="tiny", settings="new", mark=mark, reason="r")


def folded(*events: LedgerEvent) -> History:
    return fold_entries(
        Entry(number, NOON + timedelta(minutes=number), event, "run", "me", 1, "", "")
        for number, event in enumerate(events, 1)
    )


@pytest.mark.parametrize(
    ("events", "mark", "judged_aliases"),
    [
        ((judged("a-x", good=True),), None, ["a-x"]),
        ((judged("b-x", good=True), judged("a-x", good=False)), "stop", ["a-x", "b-x"]),
        ((judged("a-x", good=False), decided("approve")), "approve", ["a-x"]),
        ((judged("a-x", good=False), decided("release")), None, []),
        ((decided("approve"), decided("stop")), "stop", []),
        ((decided("approve"), decided("a mark of later")), "approve", []),
    ],
)
def test_the_latest_decision_holds(
    events: tuple[LedgerEvent, ...], mark: str | None, judged_aliases: list[str]
) -> None:
    history = folded(*events)
    record = history.upgrades["tiny"]
    assert (d.mark if (d := record.decisions.get("new")) else None) == mark
    assert [verdict.alias for verdict in record.verdicts.get("new", ())] == judged_aliases
    assert history_of(history_document(history)) == history


def test_settings_that_were_compared_with_are_proven() -> None:
    assert folded(judged("a-x", good=True)).upgrades["tiny"].proven == {"old"}
    assert folded(decided("approve")).upgrades["tiny"].proven == frozenset()
