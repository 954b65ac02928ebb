"""A plan warns of versions that nothing judges, and of stages with few people or little traffic."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.plan import RolloutAhead
from fleet.planning.pipeline import make_plan
from fleet.policies import GateSpec, RolloutPolicy
from fleet.spec import DemandSpec, FleetSpec
from fleet.traffic import Sticky
from plans.render.prospects import rollout_text
from tests.fleet.planning.builders import NOON, adapter, fleet, history, route, state

OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"
ERRORS = GateSpec("errors", "error_rate_rise", 2, "pp")
DAY = timedelta(days=1)
POLICY = RolloutPolicy("standard", (10, 50, 100), DAY, 7 * DAY, ("errors",))


def planned(
    demand: DemandSpec | None,
    policy: RolloutPolicy = POLICY,
    sticky: Sticky = Sticky.SESSION,
) -> tuple[list[str], RolloutAhead]:
    """Return the warnings of a plan that begins a rollout, and the rollout's stages."""
    plan = make_plan(declared(demand, policy, sticky), LIVE, history(), NOON)
    (prospect,) = plan.prospects
    assert prospect.rollout
    return [str(note) for note in plan.warnings], prospect.rollout


def declared(demand: DemandSpec | None, policy: RolloutPolicy, sticky: Sticky) -> FleetSpec:
    made = adapter(NEW, demand=demand, sticky=sticky)
    return fleet(made, known=[OLD], rollouts=[policy], gates=[ERRORS])


LIVE = state(route("acme-support", (OLD, 100, "tiny-laptop-cpu0")))
BUSY = DemandSpec(60, (9, 18))


def test_a_version_that_no_gate_judges_is_a_warning_with_what_to_type() -> None:
    (warning,), ahead = planned(BUSY, replace(POLICY, gates=()))
    assert warning == (
        "nothing judges new versions of `acme-support`, which take over by time alone: rollout "
        "`standard` asks no gate. Declare `rollouts: {standard: {gates: [errors]}}`"
    )
    assert ahead.needed is None
    bare = replace(declared(BUSY, replace(POLICY, gates=()), Sticky.SESSION), gates={})
    (note,) = make_plan(bare, LIVE, history(), NOON).warnings
    assert note.text.endswith(
        "`rollouts: {standard: {gates: [errors]}}`, "
        "`gates: {errors: {metric: error_rate_rise, max: 2pp}}`"
    )


def test_a_version_that_enough_traffic_of_enough_people_judges_is_no_warning() -> None:
    warnings, ahead = planned(replace(BUSY, users=80))
    assert warnings == []
    assert ahead.needed is not None
    assert 50 < ahead.needed < 3240
    assert "gates need about" in rollout_text(ahead)


@pytest.mark.parametrize(
    ("users", "sticky", "said"),
    [
        (79, Sticky.SESSION, "79 users were recorded in 28 days, so that about 8 are on 2.2.0"),
        (10, Sticky.SESSION, "about 1 are on 2.2.0 at 10 %, and a fault that meets few people"),
        (10, Sticky.USER, "declare `sticky: session`, and let the application send a session in"),
        (80, Sticky.SESSION, ""),
        (None, Sticky.SESSION, ""),
        (10, Sticky.REQUEST, ""),
    ],
)
def test_few_people_on_the_first_share_are_a_warning(
    users: int | None, sticky: Sticky, said: str
) -> None:
    warnings, _ = planned(replace(BUSY, users=users), sticky=sticky)
    assert (said in "".join(warnings), bool(warnings)) == (True, bool(said))
    assert all("`X-Session-Id`" in warning for warning in warnings)


def test_traffic_that_decides_nothing_at_10_percent_is_told_with_what_25_would_do() -> None:
    little = DemandSpec(0.5, (9, 18))
    (warning,), ahead = planned(little)
    assert warning.startswith("acme-support: at 10 % about 54 requests are expected in 48 h")
    assert "at 25 % they are 135" in warning
    assert "Declare `rollouts: {standard: {low_traffic: 25%}}`" in warning
    assert ahead.needed_s is not None
    assert ahead.needed_s > ahead.longest_s == 2 * 86_400
    larger = replace(POLICY, low_traffic=25)
    assert planned(little, larger)[0] == []


def test_traffic_that_decides_at_no_share_is_not_told_of_a_larger_one() -> None:
    warnings, ahead = planned(DemandSpec(0.05, (9, 18)))
    assert warnings == []
    assert "people decide after 2 d" in rollout_text(ahead)


def test_without_demand_nothing_is_expected() -> None:
    warnings, ahead = planned(None)
    assert (warnings, ahead.needed, ahead.needed_s) == ([], None, None)
