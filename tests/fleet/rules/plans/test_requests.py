"""Changes that would have refused or cut requests of the last week are told with their number."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest

from fleet.plan import Action, Change, Plan, Prospect, Reason, SettingChange
from fleet.resources import Route, Server
from fleet.rules import refused_requests
from fleet.spec import FleetSpec
from fleet.traffic import Budget, LimitPolicy, TimeoutPolicy, TrafficPolicy
from fleet.usage import Sketch, UsageFigures
from tests.fleet.planning.builders import adapter, fleet, route
from tests.fleet.planning.test_plans import FLAGS, SERVER

OLD, NEW, FAQ = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0", "acme-faq-tiny-v1.0.0"
FLEET = fleet(adapter(OLD), adapter(FAQ))
WEEK = {
    "acme-support": UsageFigures(
        requests=700, input_tokens=6_000, output_tokens=1_000,
        latency=Sketch.of_values([1.0] * 660 + [9.0] * 40),
        first_token=Sketch.of_values([0.5] * 699 + [0.8]),
        per_token=Sketch.of_values([0.05] * 697 + [2.0] * 3),
    ),
    "acme-faq": UsageFigures(requests=700),
}  # fmt: skip
BEFORE = route("acme-support", (OLD, 100, "s"))
WITHOUT_STREAM = "acme-support has a timeout `first_byte` without stream of 5 s: "


def found(
    after: Route | None,
    before: Route = BEFORE,
    declared: FleetSpec = FLEET,
    week: Mapping[str, UsageFigures] = MappingProxyType(WEEK),
) -> list[str]:
    action = Action.UPDATE if after else Action.DELETE
    change = Change(before.address, action, before, after, Reason.DECLARED)
    plan = Plan("0" * 16, "test", (change,))
    findings = refused_requests(plan, declared, week, is_approved=False)
    assert all(its.broken and its.approvals == 1 for its in findings)
    assert not any(its.broken for its in refused_requests(plan, declared, week, is_approved=True))
    return [its.text for its in findings]


def policy(**fields: object) -> Route:
    return replace(BEFORE, policy=TrafficPolicy(**fields))  # type: ignore[arg-type]


def hard(**fields: int) -> LimitPolicy:
    return LimitPolicy(**fields, budget=Budget.HARD)


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (None, "ends: 700 requests of the last 7 days would have been refused"),
        (policy(timeouts=TimeoutPolicy(total_s=5)), "a timeout `total` of 5 s: 40 requests"),
        (policy(timeouts=TimeoutPolicy(first_byte_s=0.7)), "`first_byte` of 0.7 s: 1 requests"),
        (policy(timeouts=TimeoutPolicy(idle_s=1.5)), "`idle` of 1.5 s: 3 to 40 requests of the"),
        (policy(timeouts=TimeoutPolicy(idle_s=0.01)), "timeout `idle` of 0.01 s: 700 requests"),
        (policy(limits=hard(requests_per_month=1_500)), "alias that ends inside the month: 350"),
        (policy(client_limits=hard(requests_per_month=3_000)), "its client that ends inside the"),
        (policy(limits=hard(tokens_per_month=15_000)), "month: 350 requests of the last 7 days"),
    ],
)  # fmt: skip
def test_a_change_that_would_have_refused_requests_says_how_many(
    after: Route | None, told: str
) -> None:
    """Before, each of these plans was yellow or green, and no number was told.

    A shorter `idle` stayed so for longer: 3 to 40 of 700 requests with it, and all of 700.
    """
    (text,) = found(after)
    assert text.startswith("acme-support ")
    assert told in text


@pytest.mark.parametrize(
    "after",
    [
        BEFORE,
        policy(timeouts=TimeoutPolicy(total_s=20, idle_s=10)),
        policy(limits=LimitPolicy(requests_per_month=1)),
        policy(limits=hard(requests_per_month=3_000, tokens_per_month=30_000)),
    ],
)
def test_a_change_that_keeps_what_was_recorded_says_nothing(after: Route) -> None:
    assert found(after) == []


def test_answers_without_stream_are_whole_by_the_first_byte() -> None:
    """Before, nothing was told: only the first bytes of streams were held against the timeout."""
    whole = UsageFigures(requests=10, latency=Sketch.of_values([1.0] * 6 + [9.0] * 4))
    mixed = replace(whole, first_token=Sketch.of_values([0.5] * 7))
    shorter = policy(timeouts=TimeoutPolicy(first_byte_s=5))
    promised = replace(BEFORE, policy=TrafficPolicy(promise_s=0.5))
    cut = "requests of the last 7 days would have been cut"
    for after, figures, told in (
        (shorter, whole, [f"4 {cut}"]),
        (promised, whole, [f"4 {cut}"]),
        (shorter, mixed, [f"0 to 3 {cut}; records do not tell the number exactly"]),
        (shorter, replace(whole, first_token=Sketch.of_values([0.5] * 10)), []),
    ):
        texts = found(after, week={"acme-support": figures})
        assert [text.removeprefix(WITHOUT_STREAM) for text in texts] == told


def test_a_timeout_that_is_no_longer_declared_is_the_gateways_own() -> None:
    slow = UsageFigures(requests=9, latency=Sketch.of_values([4000.0] * 9))
    longer = policy(timeouts=TimeoutPolicy(total_s=7200))
    (text,) = found(BEFORE, longer, week={"acme-support": slow})
    assert text.startswith("acme-support has a timeout `total` of 3600 s: 9 requests")
    assert found(policy(timeouts=TimeoutPolicy(idle_s=90)), week={"acme-support": slow}) == []


def test_an_alias_with_another_name_is_told_unless_its_clients_may_use_the_old_one() -> None:
    renamed = fleet(adapter(FAQ), renames={"acme-faq": "acme-support"})
    (text,) = found(None, declared=renamed)
    assert text.startswith("acme-support is called acme-faq: 700 requests")
    both = fleet(adapter(FAQ, alias_for="acme-support"), renames=renamed.renames)
    assert found(None, declared=both) == []


@pytest.mark.parametrize(
    ("stages", "percent", "told"),
    [
        ((None, "[100]"), 10, "100 % at once, as the stage of 50 % is declared no more: 630"),
        (("[20, 100]", None), 10, "50 % at once, as the stage of 20 % is declared no more: 280"),
        ((None, "[50, 100]"), 10, ""),
        (("[100]", None), 10, ""),
        ((None, "[100]"), 0, ""),
        ((None, "[100]"), 100, ""),
    ],
)  # fmt: skip
def test_stages_that_are_declared_no_more_under_a_rollout_are_told(
    stages: tuple[str | None, str | None], percent: int, told: str
) -> None:
    """Before, a plan told so only where the next stage was due in the same plan: 2 were yellow."""
    live = route("acme-support", (NEW, percent, "s"), (OLD, 100 - percent, "s"))
    terms = Prospect("acme", "acme-support", settings=(SettingChange("weights", *stages),))
    findings = refused_requests(
        Plan("", "test", prospects=(terms,)), FLEET, WEEK, {live.address: live}, is_approved=False
    )
    assert [told in finding.text for finding in findings] == [True] * bool(told)


def test_a_shorter_context_says_how_many_requests_were_longer() -> None:
    def server(tokens: int | None) -> Server:
        flags = replace(SERVER.flags or FLAGS, max_model_len=tokens)
        return replace(SERVER, digest=flags.digest, flags=flags)

    figures = UsageFigures(requests=100, tokens=Sketch.of_values([100] * 93 + [600] * 7))
    week = {"acme-support": figures}
    for before, after, told in ((1024, 512, 7), (None, 512, 7), (512, 1024, 0), (1024, 900, 0)):
        change = Change(
            SERVER.address, Action.REPLACE, server(before), server(after), Reason.FLAGS_CHANGED
        )
        findings = refused_requests(Plan("", "test", (change,)), FLEET, week, is_approved=False)
        expected = f"acme-support has `max_model_len: {after}`: {told} requests of the last 7 days"
        assert [its.text.startswith(expected) for its in findings] == [True] * bool(told)
