"""A server that hangs is replaced once its traffic has gone elsewhere, where that is possible."""

from collections.abc import Mapping
from dataclasses import replace

from fleet.names import Address
from fleet.planning import DriftAction, DriftCause, classify_drift, outages_of, repair
from fleet.resources import Fault, OutageKind, State
from fleet.steps import SetRoute, StopServer, UnloadAdapter
from tests.fleet.planning.builders import loaded, route
from tests.fleet.planning.test_drift import ALL, FAQ, KEY, OLD, established, live, server


def hung(*unknown: str) -> State:
    """Return the state while servers, all of them hung for long enough, do not answer."""
    gone = [text for name in unknown for text in (f"server/{name}", f"@{name}")]
    both = route("acme-support", (OLD, 100, "a b"))
    faults = {
        Address(f"server/{name}"): Fault("hangs", "x", OutageKind.SERVER_HUNG, heals=True)
        for name in unknown
    }
    return replace(
        live("route", *gone, more=(both,)),
        unknown_servers=dict.fromkeys(unknown, "timeout"),
        faults=faults,
    )


def steps_of(
    now: State, causes: tuple[DriftCause, ...], substitutes: Mapping[str, str] | None = None
) -> list[str]:
    plan = repair("test", causes, established(*ALL[:5], KEY), now, {}, substitutes)
    position = {step.id: number for number, step in enumerate(plan.steps)}
    assert all(position[need] < position[step.id] for step in plan.steps for need in step.needs)
    return [step.id for step in plan.steps]


def test_a_hung_server_is_replaced_once_its_traffic_has_gone_elsewhere() -> None:
    (cause,) = outages_of(established(), hung("a"))
    assert (cause.remedy, cause.outage) == (DriftAction.HEAL, OutageKind.SERVER_HUNG)
    assert steps_of(hung("a"), (cause,)) == [
        "divert route/acme-support", "stop server/a", "start server/a",
        f"load adapter/{OLD}@a", f"load adapter/{FAQ}@a", f"smoke adapter/{OLD}@a",
        f"smoke adapter/{FAQ}@a", "set route/acme-support",
    ]  # fmt: skip


def test_no_traffic_goes_to_a_server_that_does_not_answer_either() -> None:
    causes = outages_of(established(), hung("a", "b"))
    alone = [cause for cause in causes if cause.subject == "server/a"]
    done = steps_of(hung("a", "b"), tuple(alone))
    assert [step for step in done if "route" in step] == []
    assert done[:2] == ["stop server/a", "start server/a"]


def test_a_hung_server_that_the_ledger_cannot_start_is_left_to_people() -> None:
    past = established(replace(server("a"), flags=None), *ALL[1:])
    (cause,) = (cause for cause in outages_of(past, hung("a")) if cause.subject == "server/a")
    assert cause.remedy is DriftAction.ALERT


def test_versions_of_a_hung_server_go_to_a_server_with_room_and_its_stop_waits_for_none() -> None:
    now = hung("a")
    only = route("acme-support", (OLD, 100, "a"))
    copy = Address(f"adapter/{OLD}@b")
    kept = {name: each for name, each in now.resources.items() if name != copy}
    now = replace(now, resources={**kept, only.address: only})
    (cause,) = outages_of(established(), now)
    plan = repair("test", (cause,), established(*ALL[:5], KEY), now, {}, {OLD: "b"})
    needs = {step.id: set(step.needs) for step in plan.steps}
    assert list(needs) == [
        "stop server/a", "start server/a", f"load adapter/{OLD}@a", f"load {copy}",
        f"load adapter/{FAQ}@a", f"smoke adapter/{OLD}@a", f"smoke {copy}",
        f"smoke adapter/{FAQ}@a", "divert route/acme-support", "set route/acme-support",
    ]  # fmt: skip
    assert needs["stop server/a"] == set()
    assert needs["divert route/acme-support"] == {f"smoke {copy}"}
    divert = next(step for step in plan.steps if step.id == "divert route/acme-support")
    assert isinstance(divert.operation, SetRoute)
    assert divert.operation.route.shares[0].servers == ("b",)


def test_a_repair_says_of_a_stop_and_of_an_unload_that_the_same_comes_back() -> None:
    unsure = live(more=(replace(loaded(OLD, "a"), unsure=True),))
    for now in (hung("a"), unsure):
        plan = repair("test", classify_drift(established(), now), established(), now, {})
        operations = (step.operation for step in plan.steps)
        ways = (way for way in operations if isinstance(way, StopServer | UnloadAdapter))
        assert [way.again for way in ways] == [True]
