"""A rule about signatures judges the versions that a plan puts to work, on a day."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from fleet.history import History
from fleet.plan import Action, Change, Plan, Reason
from fleet.policies import (
    PlanRuleSpec,
    RuleLevel,
    SignatureState,
    SigningKeySpec,
    SigningSpec,
    VersionSignature,
)
from fleet.resources import LoadedAdapter, Resource
from fleet.rules import judge_rules
from tests.fleet.planning.builders import adapter, fleet, route

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
OLD, NEW = "acme-a-tiny-v1.0.0", "acme-a-tiny-v2.0.0"
KEYS = (
    SigningKeySpec("former", "f" * 64, date(2026, 3, 1)),
    SigningKeySpec("last", "1" * 64, date(2026, 3, 2)),
    SigningKeySpec("release", "a" * 64),
)


def loaded(name: str) -> LoadedAdapter:
    return LoadedAdapter(name, "s", "d" * 64)


def change(before: Resource | None, after: Resource | None) -> Change:
    its = after or before
    assert its is not None
    return Change(its.address, Action.UPDATE, before, after, Reason.DECLARED)


def broken(
    *changes: Change, tier: str = "standard", **signed: VersionSignature
) -> tuple[bool, str]:
    declared = fleet(adapter(NEW), adapter("birch-a-tiny-v1.0.0"))
    by_name = {NEW if key == "new" else OLD: its for key, its in signed.items()}
    declared = replace(
        declared,
        plan_rules=(PlanRuleSpec("r", RuleLevel.DENY, signed=tier),),
        signing=SigningSpec(KEYS, by_name),
    )
    (finding,) = judge_rules(Plan("p", "test", changes), declared, History(), NOON)
    return finding.broken, finding.text


SIGNED = VersionSignature("a" * 64, matches=True)
HALF = route("acme-a", (NEW, 10, "s"), (OLD, 90, "s"))
BACK = route("acme-a", (NEW, 0, "s"), (OLD, 100, "s"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([change(None, loaded(NEW))], f"`{NEW}` is not signed"),
        ([change(loaded(NEW), None)], ""),
        ([change(BACK, HALF)], f"`{NEW}` is not signed"),
        ([change(HALF, BACK)], f"`{OLD}` is not signed"),
        ([change(None, loaded("rogue"))], ""),
        ([change(None, loaded("birch-a-tiny-v1.0.0"))], "`birch-a-tiny-v1.0.0` is not signed"),
    ],
)
def test_what_a_plan_loads_or_gives_more_requests_is_judged(
    changes: list[Change], told: str
) -> None:
    found, text = broken(*changes)
    assert found is bool(told)
    assert told in text
    assert broken(*changes, tier="gold")[0] is False


@pytest.mark.parametrize(
    ("signature", "state"),
    [
        (SIGNED, SignatureState.VERIFIED),
        (VersionSignature("1" * 64, matches=True), SignatureState.VERIFIED),
        (VersionSignature("f" * 64, matches=True), SignatureState.EXPIRED),
        (VersionSignature("a" * 64, matches=False), SignatureState.CHANGED),
        (VersionSignature("b" * 64, matches=True), SignatureState.UNKNOWN_KEY),
        (VersionSignature("", matches=False), SignatureState.UNKNOWN_KEY),
    ],
)
def test_a_signature_counts_by_its_key_and_the_day(
    signature: VersionSignature, state: SignatureState
) -> None:
    assert SigningSpec(KEYS, {NEW: signature}).state(NEW, NOON.date()) is state
    verified = state is SignatureState.VERIFIED
    assert broken(change(None, loaded(NEW)), new=signature)[0] is not verified


def test_a_key_under_two_names_counts_through_the_later_day() -> None:
    keys = (
        SigningKeySpec("a", "a" * 64, date(2026, 1, 1)),
        SigningKeySpec("b", "a" * 64, date(2026, 4, 1)),
    )
    for order in (keys, keys[::-1]):
        assert SigningSpec(order, {NEW: SIGNED}).state(NEW, NOON.date()) is SignatureState.VERIFIED
