"""Whole plans: what changes, why, in which order, and what it means."""

from dataclasses import replace
from typing import Any

import pytest

from fleet.errors import PlacementError
from fleet.history.values import History
from fleet.plan import Action, Plan, Reason
from fleet.planning.diff import diff
from fleet.planning.pipeline import make_plan
from fleet.resources import Key, LoadedAdapter, Server, State
from fleet.spec import ClientKey, FleetSpec
from fleet.vllm.flags import flags_for
from tests.fleet.planning.builders import (
    DAY,
    NOON,
    adapter,
    base,
    device,
    fleet,
    history,
    host,
    loaded,
    route,
    state,
)

SPOT = "tiny-laptop-cpu0"
OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"
FAQ = "birch-faq-tiny-v1.0.0"
FLAGS = flags_for(base(), 8, 8)
SERVER = Server(SPOT, "tiny", "laptop", ("cpu0",), 8100, FLAGS.digest, FLAGS)
LIVE = state(
    SERVER, loaded(OLD, SPOT), loaded(FAQ, SPOT),
    route("acme-support", (OLD, 100, SPOT), salt=OLD), route("birch-faq", (FAQ, 100, SPOT)),
)  # fmt: skip
DECLARED = fleet(adapter(OLD), adapter(FAQ))


def but(live: State, *added: object, without: tuple[str, ...] = ()) -> State:
    rest = [each for address, each in live.resources.items() if address not in without]
    return state(*rest, *added)  # type: ignore[arg-type]


def planned(declared: FleetSpec, live: State = LIVE, past: History | None = None) -> Plan:
    return make_plan(declared, live, past or history(owned=map(str, LIVE.resources)), NOON)


def told(plan: Plan) -> list[tuple[str, Action, Reason]]:
    return [(each.address, each.action, each.reason) for each in plan.changes]


def steps(plan: Plan) -> list[str]:
    return [each.id for each in plan.steps]


def test_a_fleet_that_is_as_declared_needs_nothing() -> None:
    plan = planned(DECLARED)
    assert (plan.changes, plan.steps, plan.impacts) == ((), (), ())
    assert (plan.unchanged, plan.untouched_clients) == (5, ("acme", "birch"))


@pytest.mark.parametrize(("slo_s", "shown"), [(2.0, "2 s"), (3.0, "3 s"), (0.3, "0.3 s")])
@pytest.mark.parametrize("promised", [True, False])
def test_a_promise_comes_with_the_next_change_of_the_route(
    slo_s: float, shown: str, *, promised: bool
) -> None:
    own: dict[str, Any] = {"slo_s": slo_s, "promised": promised}
    alone = planned(fleet(adapter(OLD, **own), adapter(FAQ)))
    assert (alone.changes, alone.steps) == ((), ())
    plan = planned(fleet(adapter(NEW, **own), adapter(FAQ), known=[OLD]))
    details = {row for change in plan.changes for row in change.details if row[0] == "promise"}
    assert details == ({("promise", "none", shown)} if promised else set())


def test_a_new_version_is_loaded_and_tried_before_it_takes_ten_percent() -> None:
    plan = planned(fleet(adapter(NEW), adapter(FAQ), known=[OLD]))
    assert told(plan) == [
        (f"adapter/{NEW}@{SPOT}", Action.CREATE, Reason.ROLLOUT_STARTED),
        ("route/acme-support", Action.UPDATE, Reason.ROLLOUT_STARTED),
    ]
    assert steps(plan) == [
        f"load adapter/{NEW}@{SPOT}", f"smoke adapter/{NEW}@{SPOT}", "set route/acme-support",
    ]  # fmt: skip
    (impact,) = plan.impacts
    assert impact.summary == "2.2.0 0 % -> 10 %, 2.1.0 100 % -> 90 %"
    assert (impact.share_moved, impact.back_out, impact.back_out_class) == (
        10, "fleetctl rollback acme-support", "warm",
    )  # fmt: skip
    assert plan.changes[0].origin == "clients/acme.yaml:7:16"
    assert plan.untouched_clients == ("birch",)


def test_a_removed_alias_is_taken_out_of_traffic_before_it_is_unloaded() -> None:
    plan = planned(fleet(adapter(OLD)))
    assert steps(plan) == [
        "delete route/birch-faq", f"drain adapter/{FAQ}@{SPOT}", f"unload adapter/{FAQ}@{SPOT}",
    ]  # fmt: skip
    assert {each.reason for each in plan.changes} == {Reason.REMOVED}


def test_a_pin_moves_a_version_with_a_copy_on_each_side_for_a_while() -> None:
    two = host("laptop", device(), device("cpu1", port=8101))
    plan = planned(fleet(adapter(OLD, pin="tiny-laptop-cpu1"), adapter(FAQ), hosts=[two]))
    there = "tiny-laptop-cpu1"
    assert (f"adapter/{OLD}@{there}", Action.MOVE, Reason.REPLICA_MOVED) in told(plan)
    assert steps(plan) == [
        f"start server/{there}", f"load adapter/{OLD}@{there}", f"smoke adapter/{OLD}@{there}",
        "set route/acme-support", f"drain adapter/{OLD}@{SPOT}", f"unload adapter/{OLD}@{SPOT}",
    ]  # fmt: skip
    assert plan.impacts[0].share_moved == 0


def test_a_server_is_stopped_only_after_its_last_version_has_moved_away() -> None:
    two = host("laptop", device(), device("cpu1", port=8101))
    alone = state(SERVER, loaded(OLD, SPOT), route("acme-support", (OLD, 100, SPOT), salt=OLD))
    plan = planned(fleet(adapter(OLD, pin="tiny-laptop-cpu1"), hosts=[two]), alone)
    assert steps(plan)[-4:] == [
        "set route/acme-support", f"drain adapter/{OLD}@{SPOT}", f"unload adapter/{OLD}@{SPOT}",
        f"stop server/{SPOT}",
    ]  # fmt: skip
    assert (f"server/{SPOT}", Action.DELETE, Reason.SERVER_EMPTY) in told(plan)


def needs(plan: Plan, step: str) -> tuple[str, ...]:
    (found,) = (each.needs for each in plan.steps if each.id == step)
    return found


def test_on_a_full_server_what_goes_makes_room_before_what_comes() -> None:
    full = flags_for(base(slots=3), 3, 8)
    live = but(LIVE, replace(SERVER, digest=full.digest, flags=full))
    plan = planned(fleet(adapter(NEW), bases=[base(slots=3)], known=[OLD]), live)
    assert f"unload adapter/{FAQ}@{SPOT}" in needs(plan, f"load adapter/{NEW}@{SPOT}")
    assert needs(plan, f"drain adapter/{FAQ}@{SPOT}") == ("delete route/birch-faq",)
    assert plan.capacity[0].slots_during == 2


def test_a_base_takes_over_the_device_of_one_that_is_used_no_longer() -> None:
    mini = base("mini", kv_cache_bytes=None)
    plan = planned(fleet(adapter("acme-a-mini-v1.0.0"), bases=[base(), mini]))
    assert needs(plan, "start server/mini-laptop-cpu0") == (f"stop server/{SPOT}",)
    assert set(needs(plan, f"stop server/{SPOT}")) == {
        f"unload adapter/{FAQ}@{SPOT}", f"unload adapter/{OLD}@{SPOT}",
    }  # fmt: skip


def test_a_restarted_server_gets_its_adapters_back_and_no_route_moves() -> None:
    lost = but(LIVE, without=(f"adapter/{OLD}@{SPOT}", f"adapter/{FAQ}@{SPOT}"))
    plan = planned(DECLARED, lost)
    assert {(action, reason) for _, action, reason in told(plan)} == {
        (Action.CREATE, Reason.MISSING)
    }
    assert not any("route" in each for each in steps(plan))
    assert plan.changes[0].why == "the server was restarted and has lost it"


def test_a_server_that_is_gone_is_started_again() -> None:
    routes = [each for each in LIVE.resources.values() if each.address.startswith("route/")]
    plan = planned(DECLARED, state(*routes))
    assert told(plan)[-1] == (f"server/{SPOT}", Action.CREATE, Reason.MISSING)
    assert len(plan.changes) == 3


def test_changed_flags_restart_the_server_and_say_who_is_interrupted() -> None:
    plan = planned(replace(DECLARED, bases={"tiny": base(max_lora_rank=64)}))
    assert told(plan) == [(f"server/{SPOT}", Action.REPLACE, Reason.FLAGS_CHANGED)]
    assert ("max_lora_rank", "8", "64") in plan.changes[0].details
    assert steps(plan)[:2] == [f"stop server/{SPOT}", f"start server/{SPOT}"]
    assert steps(plan)[2:4] == [f"load adapter/{OLD}@{SPOT}", f"load adapter/{FAQ}@{SPOT}"]
    assert [each.interrupted for each in plan.impacts] == [True, True]


def test_a_replica_elsewhere_serves_while_a_server_restarts() -> None:
    other = replace(SERVER, name="tiny-laptop-cpu1", devices=("cpu1",), port=8101)
    routes = route("acme-support", (OLD, 100, f"{SPOT} {other.name}"))
    live = state(SERVER, replace(other), loaded(OLD, SPOT), loaded(OLD, other.name), routes)
    two = host("laptop", device(), device("cpu1", port=8101))
    wrong = replace(FLAGS, dtype="float16")
    live = but(live, replace(SERVER, digest=wrong.digest, flags=wrong))
    plan = planned(fleet(adapter(OLD, replicas=2), hosts=[two]), live)
    assert steps(plan) == [
        "divert route/acme-support", f"drain adapter/{OLD}@{SPOT}", f"stop server/{SPOT}",
        f"start server/{SPOT}", f"load adapter/{OLD}@{SPOT}", f"smoke adapter/{OLD}@{SPOT}",
        "set route/acme-support",
    ]  # fmt: skip
    assert plan.impacts == ()


def test_wrong_bytes_under_a_right_name_get_no_traffic_until_replaced() -> None:
    wrong = LoadedAdapter(OLD, SPOT, None, "/tmp/x")  # noqa: S108 (a path as a server shows it)
    past = replace(history(owned=map(str, LIVE.resources)), established=LIVE.resources)
    plan = planned(DECLARED, but(LIVE, wrong), past)
    assert told(plan) == [(f"adapter/{OLD}@{SPOT}", Action.UPDATE, Reason.WRONG_SOURCE)]
    assert steps(plan) == [
        "divert route/acme-support", f"drain adapter/{OLD}@{SPOT}",
        f"unload adapter/{OLD}@{SPOT}", f"load adapter/{OLD}@{SPOT}",
        f"smoke adapter/{OLD}@{SPOT}",
        "set route/acme-support",
    ]  # fmt: skip
    assert plan.impacts[0].interrupted


def test_what_others_loaded_stays_and_is_told() -> None:
    rogue = LoadedAdapter("test2", SPOT, None, "/home/ana/test2")
    stray = loaded("acme-support-tiny-v1.0.0", SPOT)
    plan = planned(DECLARED, but(LIVE, rogue, stray))
    assert plan.changes == ()
    assert any("test2" in note.text and "not loaded by" in note.text for note in plan.warnings)
    assert any("v1.0.0" in note.text and "fleetctl adopt" in note.text for note in plan.warnings)


def test_a_server_that_does_not_answer_is_left_alone_and_told() -> None:
    routes = [each for each in LIVE.resources.values() if each.address.startswith("route/")]
    live = state(*routes, unknown_servers={SPOT: "timed out after 2 s"})
    plan = planned(DECLARED, live)
    assert plan.changes == ()
    assert [*map(str, plan.unknown)] == [f"server/{SPOT}: timed out after 2 s"]
    newer = planned(fleet(adapter(NEW), adapter(FAQ), known=[OLD]), live)
    assert newer.changes == ()
    assert "its route stays as it is" in newer.held[0].text


@pytest.mark.parametrize(
    ("declared", "live", "expected"),
    [
        ("aa", "bb", [("key/acme/prod", Action.UPDATE, Reason.ROTATED)]),
        ("aa", "aa", []),
        (None, "aa", []),
        ("aa", None, [("key/acme/prod", Action.CREATE, Reason.DECLARED)]),
    ],
)
def test_keys_are_compared_by_fingerprint(
    declared: str | None, live: str | None, expected: list[tuple[str, Action, Reason]]
) -> None:
    keys = {"acme": (ClientKey("prod", "env:ACME", declared),)}
    there = [Key("acme", "prod", "env:ACME", live)] if live else []
    plan = planned(replace(fleet(adapter(OLD), adapter(FAQ), keys=keys)), but(LIVE, *there))
    assert told(plan) == expected
    assert bool(plan.unknown) is (declared is None)


def test_a_renamed_alias_is_served_under_its_new_name_before_the_old_one_goes() -> None:
    new = "acme-helpdesk-tiny-v2.1.0"
    declared = fleet(adapter(new), adapter(FAQ), renames={"acme-helpdesk": "acme-support"})
    plan = planned(declared)
    assert {reason for _, _, reason in told(plan)} == {Reason.RENAMED}
    order = steps(plan)
    assert order.index("set route/acme-helpdesk") < order.index("delete route/acme-support")
    assert order[-1] == f"unload adapter/{OLD}@{SPOT}"


def test_retention_over_unloads_the_old_version_last() -> None:
    live = but(LIVE, loaded(NEW, SPOT), route("acme-support", (NEW, 100, SPOT), (OLD, 0, SPOT)))
    past = history(
        owned=[*map(str, live.resources)], stages=[(NEW, 100, NOON - 8 * DAY)],
        cutovers={OLD: NOON - 8 * DAY},
    )  # fmt: skip
    plan = planned(fleet(adapter(NEW), adapter(FAQ), known=[OLD]), live, past)
    assert {reason for _, _, reason in told(plan)} == {Reason.RETENTION_ENDED}
    assert steps(plan) == [
        "set route/acme-support", f"drain adapter/{OLD}@{SPOT}", f"unload adapter/{OLD}@{SPOT}",
    ]  # fmt: skip


def test_cost_counts_each_device_once_and_is_unknown_where_a_price_is() -> None:
    paid = fleet(adapter(OLD), adapter(FAQ), hosts=[host("laptop", device(price=2.5))])
    assert (planned(paid).cost_before, planned(paid).cost_after) == (2.5, 2.5)
    assert planned(paid, state()).cost_before == 0.0
    moved = fleet(adapter(OLD), adapter(FAQ), hosts=[host("other")])
    assert planned(moved).cost_before is None


def test_equal_states_do_not_differ() -> None:
    assert diff(LIVE, LIVE) == ()


def test_a_fleet_that_does_not_fit_has_no_plan() -> None:
    with pytest.raises(PlacementError):
        planned(fleet(adapter(OLD, replicas=5)))
