"""The version to go back to keeps its slot for the whole rollout and its retention."""

from datetime import timedelta

import pytest

from fleet.errors import PlacementError
from fleet.hardware import AttachedServerSpec
from fleet.history.values import History
from fleet.names import adapter_address
from fleet.plan import Plan
from fleet.planning.pipeline import make_plan
from fleet.resources import Route, Server, State
from fleet.spec import FleetSpec
from tests.fleet.planning.builders import (
    DAY,
    NOON,
    STANDARD,
    adapter,
    attached,
    base,
    fleet,
    history,
    loaded,
    route,
    state,
)

OLD, NEW, OTHER = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0", "birch-faq-tiny-v1.0.0"


def declared(slots: int, *others: str) -> FleetSpec:
    server = AttachedServerSpec("s", "http://s", "tiny", slots, 16, 0.0)
    adapters = [adapter(NEW), *(adapter(each) for each in others)]
    return fleet(
        *adapters, bases=[base(max_lora_rank=16)], hosts=[attached("rented", server)], known=[OLD]
    )


def live(made: Route, *names: str) -> State:
    server = Server("s", "tiny", "rented", (), 8000, None)
    return state(server, made, *(loaded(each, "s") for each in names))


def past(percent: int, *names: str, cutover: timedelta | None = None) -> History:
    owned = [adapter_address(each, "s") for each in names]
    gone = {} if cutover is None else {OLD: NOON - cutover}
    stages = [(NEW, percent, NOON - DAY)] if percent else []
    return history(owned=[*owned, "route/acme-support"], stages=stages, cutovers=gone)


def planned(what: FleetSpec, there: State, before: History) -> Plan:
    return make_plan(what, there, before, NOON)


def verbs(plan: Plan) -> set[str]:
    return {each.id.partition("@")[0] for each in plan.steps}


def test_no_rollout_begins_where_both_versions_do_not_fit() -> None:
    there = live(route("acme-support", (OLD, 100, "s")), OLD)
    with pytest.raises(PlacementError, match="finds no server with a free slot"):
        planned(declared(1), there, past(0, OLD))
    begun = planned(declared(2), there, past(0, OLD))
    assert f"load adapter/{NEW}" in verbs(begun)


@pytest.mark.parametrize(
    ("percent", "idle", "kept"),
    [(10, None, True), (50, None, True), (100, DAY, True), (100, 6 * DAY, True),
     (100, 7 * DAY, False)],
)  # fmt: skip
def test_nobody_else_gets_the_slot_of_the_version_to_go_back_to(
    percent: int,
    idle: timedelta | None,
    kept: bool,  # noqa: FBT001
) -> None:
    shares = route("acme-support", (NEW, percent, "s"), (OLD, 100 - percent, "s"))
    there, before = live(shares, NEW, OLD), past(percent, NEW, OLD, cutover=idle)
    what = declared(2, OTHER)
    if kept:
        with pytest.raises(PlacementError, match="slot"):
            planned(what, there, before)
        return
    plan = planned(what, there, before)
    assert {f"load adapter/{OTHER}", f"unload adapter/{OLD}"} <= verbs(plan)
    assert STANDARD.retain == 7 * DAY
