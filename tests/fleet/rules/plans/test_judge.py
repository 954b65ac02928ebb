"""Plan rules judge what a plan does, beside their exceptions, at a time."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.consent import Approval, DecisionKind, decisions_due, denying
from fleet.history import History, TrafficShift
from fleet.plan import Action, Change, Impact, Plan, Reason
from fleet.policies import ChangeWindow, PlanRuleSpec, RuleExceptionSpec, RuleLevel
from fleet.rules import judge_rules
from fleet.spec import DemandSpec, FleetSpec
from tests.drawn import drawn, examples
from tests.fleet.planning.builders import adapter, fleet, route

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
DENY = RuleLevel.DENY
MORNING = ChangeWindow(8 * 60, 13 * 60, "Mon 08:00-Mon 13:00")
EMPTY = History()
ALIASES = ("acme-a", "acme-b", "birch-a")
COST = PlanRuleSpec("r", DENY, max_cost_rise=50)
CLOSED = PlanRuleSpec("r", DENY, closed=(MORNING,))
PAIRS = PlanRuleSpec("r", DENY, two_approvals="gold")


def excepted(rule: PlanRuleSpec, until: date, **whose: str) -> PlanRuleSpec:
    its = RuleExceptionSpec("e", whose.get("client", ""), whose.get("adapter", ""), until, "r")
    return replace(rule, exceptions=(its,))


def declared(*rules: PlanRuleSpec, rpm: tuple[float, ...] = (10, 10, 10)) -> FleetSpec:
    adapters = (
        adapter(f"{alias}-tiny-v1.0.0", demand=DemandSpec(rate))
        for alias, rate in zip(ALIASES, rpm, strict=True)
    )
    return replace(fleet(*adapters), plan_rules=rules)


def planned(moved: dict[str, int], **costs: float) -> Plan:
    """Return a plan that moves these percents of aliases to other versions."""
    changes, impacts = [], []
    for alias, percent in moved.items():
        old, new = f"{alias}-tiny-v1.0.0", f"{alias}-tiny-v2.0.0"
        before = route(alias, (old, 100, "a"))
        after = route(alias, (new, percent, "a"), (old, 100 - percent, "a"))
        changes.append(Change(before.address, Action.UPDATE, before, after, Reason.DECLARED))
        client = alias.partition("-")[0]
        tier = "gold" if client == "acme" else "standard"
        impact = Impact(client, tier, alias, "", percent, None, "", "warm", 1.0, interrupted=False)
        impacts.append(impact)
    plan = Plan("p", "test", tuple(changes), impacts=tuple(impacts))
    return replace(plan, cost_before=costs.get("before"), cost_after=costs.get("after"))


def is_broken(
    rule: PlanRuleSpec, plan: Plan, history: History = EMPTY, now: datetime = NOON
) -> bool:
    (finding,) = judge_rules(plan, declared(rule), history, now)
    return finding.broken


@pytest.mark.parametrize(
    ("rule", "plan", "broken"),
    [
        (COST, planned({"acme-a": 10}, before=2, after=3), False),
        (COST, planned({"acme-a": 10}, before=2, after=3.1), True),
        (COST, planned({"acme-a": 10}, before=3, after=2), False),
        (COST, planned({"acme-a": 10}, before=0, after=2), False),
        (COST, planned({"acme-a": 10}, after=2), True),
        (COST, planned({}, before=2, after=4), False),
        (CLOSED, planned({"acme-a": 10}), True),
        (replace(CLOSED, offsets=(60,)), planned({"acme-a": 10}), False),
        (replace(CLOSED, offsets=(0, 60)), planned({"acme-a": 10}), True),
        (CLOSED, planned({}), False),
        (PAIRS, planned({"acme-a": 10}), True),
        (PAIRS, planned({"birch-a": 10}), False),
    ],
)
def test_a_rule_is_broken_by_its_own_kind_of_change(
    rule: PlanRuleSpec, plan: Plan, *, broken: bool
) -> None:
    assert is_broken(rule, plan) is broken


@pytest.mark.parametrize("rule", [COST, CLOSED, PAIRS], ids=lambda rule: str(rule)[-40:])
@pytest.mark.parametrize(
    ("until", "whose", "moved", "broken"),
    [
        (NOON.date(), {"client": "acme"}, {"acme-a": 10}, False),
        (NOON.date(), {"adapter": "acme-a"}, {"acme-a": 10}, False),
        (NOON.date(), {"adapter": "acme-b"}, {"acme-a": 10}, True),
        (NOON.date(), {"client": "birch"}, {"acme-a": 10, "birch-a": 10}, True),
        (NOON.date() - timedelta(days=1), {"client": "acme"}, {"acme-a": 10}, True),
    ],
)
def test_an_exception_holds_through_its_last_day_for_a_plan_of_its_own_alone(
    rule: PlanRuleSpec, until: date, whose: dict[str, str], moved: dict[str, int], *, broken: bool
) -> None:
    plan = planned(moved, before=1, after=2)
    assert is_broken(excepted(rule, until, **whose), plan) is broken


def test_two_approvals_are_those_of_two_people_that_accept_all_of_the_plan() -> None:
    plan = planned({"acme-a": 10})
    plan = replace(plan, impacts=(replace(plan.impacts[0], interrupted=True),))

    def left(*given_: tuple[str, int]) -> tuple[bool, list[DecisionKind]]:
        approvals = tuple(Approval(by, NOON, "r", accepted) for by, accepted in given_)
        found = judge_rules(plan, declared(PAIRS), History(approvals={"p": approvals}), NOON)
        ruled = replace(plan, rules=found)
        assert denying(ruled) == ()
        return found[0].broken, [decision.kind for decision in decisions_due(ruled)]

    both = [DecisionKind.OUTAGE, DecisionKind.APPROVALS]
    assert left() == (True, both)
    assert left(("ana", 1), ("ana", 1)) == (True, both)
    assert left(("ana", 1), ("bo", 0)) == (True, both)
    assert left(("ana", 1), ("bo", 2)) == (False, [DecisionKind.OUTAGE])


percents = st.dictionaries(st.sampled_from(ALIASES), st.integers(1, 100))
rates = st.tuples(*[st.integers(0, 50)] * 3)
pasts = st.lists(
    st.tuples(st.sampled_from(ALIASES), st.integers(0, 48), st.integers(1, 100)), max_size=5
)


@drawn
@settings(max_examples=examples(60, 400), deadline=None)
@given(percents, rates, pasts, st.integers(0, 100), st.sampled_from(("", *ALIASES)))
def test_traffic_of_a_day_is_that_of_the_plan_and_of_the_last_24_hours(
    moved: dict[str, int],
    rpm: tuple[int, ...],
    past: list[tuple[str, int, int]],
    most: int,
    out: str,
) -> None:
    rule = PlanRuleSpec("r", DENY, max_traffic_per_day=most)
    if out:
        rule = excepted(rule, NOON.date(), adapter=out)
    shifts = {
        alias: tuple(
            TrafficShift(NOON - timedelta(hours=hours), percent)
            for name, hours, percent in past
            if name == alias
        )
        for alias in ALIASES
    }
    plan = planned(moved)
    (finding,) = judge_rules(plan, declared(rule, rpm=rpm), History(shifts=shifts), NOON)
    parts = 0
    for alias, rate in zip(ALIASES, rpm, strict=True):
        if alias != out:
            recent = sum(percent for name, ago, percent in past if name == alias and ago < 24)
            parts += rate * (moved.get(alias, 0) + min(recent, 100))
    ours = sum(rate * moved.get(alias, 0) for alias, rate in zip(ALIASES, rpm, strict=True)
               if alias != out)  # fmt: skip
    assert finding.broken is (ours > 0 and parts > most * sum(rpm))


@drawn
@settings(max_examples=examples(30, 200), deadline=None)
@given(percents, st.permutations((COST, CLOSED, PAIRS)), st.sampled_from(list(RuleLevel)))
def test_every_rule_has_a_finding_that_no_other_rule_changes_and_only_deny_denies(
    moved: dict[str, int], rules: list[PlanRuleSpec], level: RuleLevel
) -> None:
    plan = planned(moved, before=1, after=2)
    named = tuple(replace(rule, name=f"r{n}", level=level) for n, rule in enumerate(rules))
    found = judge_rules(plan, declared(*named), History(), NOON)
    alone = tuple(
        finding for rule in named for finding in judge_rules(plan, declared(rule), History(), NOON)
    )
    assert found == alone
    assert bool(denying(replace(plan, rules=found))) is (level is DENY and bool(moved))
