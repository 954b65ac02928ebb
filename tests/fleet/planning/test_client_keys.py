"""A client that loses its only working key is without answers; new secrets are not weak."""

from dataclasses import replace

import pytest

from fleet.consent import DecisionKind, approve_command, decisions_due
from fleet.errors import ConfigError
from fleet.history import History
from fleet.plan import Plan
from fleet.planning import make_plan, parse_criteria, select
from fleet.resources import Key
from fleet.spec import ClientKey, FleetSpec
from tests.fleet.planning.builders import NOON, adapter, fleet
from tests.fleet.planning.test_plans import FAQ, LIVE, OLD, but

A, B, C = "a" * 12, "b" * 12, "c" * 12
PAST = History(owned=frozenset(map(str, LIVE.resources)))


def declared(*keys: ClientKey) -> FleetSpec:
    return fleet(adapter(OLD), adapter(FAQ), keys={"acme": keys})


def key(name: str, fingerprint: str | None, where: str = "", *, weak: bool = False) -> ClientKey:
    return ClientKey(name, f"file:{where or name}", fingerprint, weak)


def planned(live: dict[str, str], *keys: ClientKey, past: History = PAST) -> Plan:
    there = [Key("acme", name, f"file:{name}", secret) for name, secret in live.items()]
    owned = {f"key/acme/{name}" for name in live}
    past = replace(past, owned=past.owned | owned)
    return make_plan(declared(*keys), but(LIVE, *there), past, NOON)


def out(plan: Plan) -> tuple[str, ...]:
    return next((d.aliases for d in decisions_due(plan) if d.kind is DecisionKind.OUTAGE), ())


@pytest.mark.parametrize(
    ("live", "keys", "is_out"),
    [
        ({"prod": A}, (key("prod", B),), True),
        ({"prod": A}, (key("other", B),), True),
        ({"prod": A}, (), True),
        ({"prod": A, "test": B}, (key("prod", C),), True),
        ({"prod": A}, (key("prod", None, "elsewhere"),), True),
        ({"prod": A}, (key("prod", A),), False),
        ({"prod": A}, (key("prod", A, "elsewhere"),), False),
        ({"prod": A}, (key("renamed", A),), False),
        ({"prod": A}, (key("prod", None),), False),
        ({"prod": A}, (key("prod", A), key("next", B)), False),
        ({"prod": A, "next": B}, (key("next", B),), False),
        ({"prod": A, "next": B}, (key("next", B), key("prod", C)), False),
        ({}, (key("prod", A),), False),
    ],
)
def test_a_client_that_loses_all_keys_that_work_is_without_answers(
    live: dict[str, str], keys: tuple[ClientKey, ...], *, is_out: bool
) -> None:
    """Before, each of the first five was "safe to apply", or yellow where it could not be read."""
    plan = planned(live, *keys)
    assert out(plan) == (("acme-support",) if is_out else ())
    assert ("--accept-outage 1" in approve_command(plan)) == is_out
    for impact in plan.impacts:
        assert (impact.interrupted, impact.waits, impact.outage_s) == (True, False, None)
        assert "until the client sends another key: prod" in impact.summary


def test_a_part_of_the_plan_with_the_key_says_the_same() -> None:
    plan = planned({"prod": A}, key("prod", B))
    assert out(select(plan, parse_criteria(["client=acme"]))) == ("acme-support",)


def test_a_client_that_leaves_needs_no_decision_for_its_keys() -> None:
    plan = make_plan(fleet(adapter(FAQ)), but(LIVE, Key("acme", "prod", "file:k", A)), PAST, NOON)
    assert decisions_due(plan) == ()


@pytest.mark.parametrize(
    ("live", "recorded", "refused"),
    [({}, {}, True), ({"prod": B}, {}, True), ({"prod": A}, {}, False), ({}, {"prod": A}, False)],
    ids=["new", "replaced", "works already", "lost from the table"],
)
def test_a_weak_secret_becomes_no_key(
    live: dict[str, str], recorded: dict[str, str], *, refused: bool
) -> None:
    """Before, each was planned; the second as "safe to apply"."""
    known = {k.address: k for k in (Key("acme", n, "file:prod", s) for n, s in recorded.items())}
    past = replace(PAST, established=known)
    if not refused:
        assert planned(live, key("prod", A, weak=True), past=past).id
        return
    with pytest.raises(ConfigError) as caught:
        planned(live, key("prod", A, weak=True), past=past)
    (problem,) = caught.value.diagnostics
    assert (problem.code, problem.command) == ("FC1282", "fleetctl key create acme/prod")
