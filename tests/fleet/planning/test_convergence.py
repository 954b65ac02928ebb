"""Whatever happens to a fleet, plans carry it where it should be, safely at every step."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import assert_never

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from fleet.errors import PlacementError
from fleet.planning.diff import diff
from fleet.planning.pipeline import desired_state
from fleet.policies import RolloutPolicy
from fleet.resources import Server
from fleet.spec import FleetSpec
from tests.drawn import drawn, examples
from tests.fleet.planning.builders import (
    DAY,
    GIB,
    NOON,
    STANDARD,
    adapter,
    base,
    device,
    fleet,
    host,
    route,
    state,
)
from tests.fleet.planning.happenings import (
    Break,
    Declare,
    Event,
    Pass,
    Relaunch,
    Release,
    Remove,
    RollBack,
    Silence,
    Slots,
    Tamper,
)
from tests.fleet.planning.plan_checks import (
    AnswersCheck,
    check_budget,
    check_bytes,
    check_rollouts,
    check_ways_back,
    others,
)
from tests.fleet.planning.simulator import World

ALIASES = ("acme-support", "acme-triage", "birch-faq", "cedar-dates", "dune-orders")
VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "2.0.0")
KNOWN = tuple(
    f"{alias}-{base_}-v{version}"
    for alias in ALIASES
    for base_ in ("tiny", "mini")
    for version in VERSIONS
)
RANKS = {name: 8 if name.endswith("0.0") else 16 for name in KNOWN}
FILE = 8_192
"""Bytes of a version for each of its ranks."""
SHARED = RolloutPolicy("shared", (20, 100), DAY, 2 * DAY, ())


ONE_SILENT = [
    Declare("acme-triage", "tiny", "1.0.0", 2),
    Silence(0, True),
    Slots("tiny", None, True),
]
"""The only replica that answers gets other flags."""
ONE_ALTERED = [Declare("acme-support", "tiny", "1.0.0", 2), Silence(0, True), Tamper(0)]
"""The only replica that answers has other bytes, and is loaded again."""
SILENT_BESIDE_ANOTHER = [
    Declare("acme-triage", "mini", "1.0.0", 2), Silence(0, True),
    Declare("acme-support", "tiny", "1.0.0", 2), Silence(0, False),
]  # fmt: skip
"""A server starts while the second server of another device, on a port of its own, is silent."""
SILENT_AND_TOO_LARGE = [
    Declare("acme-support", "tiny", "1.1.0", 2), Silence(0, True), Slots("tiny", 8, False),
]  # fmt: skip
"""The only replica that answers gets slots for which its host has no memory."""
RAISED_IN_ANOTHER_LAUNCH = [
    Declare("acme-support", "tiny", "1.1.0", 1), Relaunch(1), Pass(1),
]  # fmt: skip
"""A stage is due on a server that others have started anew since the last one."""
aliases = st.sampled_from(ALIASES)
declares = st.builds(
    Declare,
    aliases,
    st.sampled_from(("tiny", "tiny", "tiny", "mini")),
    st.sampled_from(VERSIONS),
    st.sampled_from((1, 1, 2)),
)
small = st.integers(0, 9)
events = st.one_of(
    declares,
    declares,
    st.builds(Pass, st.sampled_from((0, 1, 1, 8))),
    st.builds(Pass, st.sampled_from((1, 3, 8))),
    st.builds(Remove, aliases),
    st.builds(Slots, st.sampled_from(("tiny", "mini")), st.sampled_from((None, 8)), st.booleans()),
    st.builds(Break, small, st.booleans()),
    st.builds(Relaunch, small),
    st.builds(Silence, small, st.booleans()),
    st.builds(RollBack, aliases),
    st.builds(Release, aliases),
    st.builds(Tamper, small),
)
HARDWARE = (
    host("left", device("cpu0", memory=4 * GIB), device("gpu1", kind="l4", port=8200)),
    host("right", device("gpu0", kind="l4", price=1.0, port=8300)),
)


def start(memory: int | None = None) -> FleetSpec:
    first = adapter("acme-support-tiny-v1.0.0")
    amount = None if memory is None else memory * 4 * 16 * FILE
    made = fleet(
        first, bases=(base("tiny"), base("mini")), rollouts=(STANDARD, SHARED),
        hosts=[replace(each, memory_bytes=amount) for each in HARDWARE], known=KNOWN, ranks=RANKS,
    )  # fmt: skip
    sized = {name: replace(each, bytes=FILE * each.rank) for name, each in made.versions.items()}
    return replace(made, versions=sized)


def happen(each: Event, declared: FleetSpec, world: World) -> FleetSpec:  # noqa: C901, PLR0912 (a case each)
    """Let an event change the declarations (returned) or the world."""
    servers = sorted(world.live().servers())
    match each:
        case Declare(alias, base_, version, replicas):
            rollout = "shared" if alias.startswith("birch") else "standard"
            made = adapter(f"{alias}-{base_}-v{version}", replicas=replicas, rollout=rollout)
            return with_adapters(declared, {**declared.adapters, alias: made})
        case Remove(alias):
            rest = {name: one for name, one in declared.adapters.items() if name != alias}
            return with_adapters(declared, rest)
        case Slots(base_, slots, whole):
            kv = None if whole else declared.bases["tiny"].kv_cache_bytes or 64 << 20
            changed = replace(declared.bases[base_], slots=slots, kv_cache_bytes=kv)
            return replace(declared, bases={**declared.bases, base_: changed})
        case Pass(days):
            world.pass_time(timedelta(days=days))
        case Break(index, process):
            if servers:
                world.lose(servers[index % len(servers)], process=process)
        case Relaunch(index):
            if servers:
                world.relaunch(servers[index % len(servers)])
        case Silence(index, silent):
            world.silent.clear()
            if servers and silent:
                world.silent[servers[index % len(servers)]] = "no answer"
        case RollBack(alias):
            world.roll_back(alias)
        case Release(alias):
            world.release(alias)
        case Tamper(index):
            loaded = list(world.live().adapters().values())
            if loaded:
                wrong = replace(loaded[index % len(loaded)], digest=None)
                world.resources[wrong.address] = wrong
        case _:
            assert_never(each)
    return declared


def with_adapters(declared: FleetSpec, adapters: Mapping[str, object]) -> FleetSpec:
    return replace(declared, adapters=dict(sorted(adapters.items())))  # type: ignore[arg-type]


@drawn
@settings(max_examples=examples(40, 160), suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events, max_size=14), st.booleans(), st.sampled_from((None, 1, 2, 3, 4)))
@example(ONE_SILENT, False, None)
@example(ONE_ALTERED, True, None)
@example(RAISED_IN_ANOTHER_LAUNCH, False, None)
@example(SILENT_BESIDE_ANOTHER, False, None)
@example(SILENT_AND_TOO_LARGE, False, 2)
def test_every_plan_is_safe_step_by_step_and_ends_where_nothing_is_left_to_do(
    happenings: list[Event],
    backwards: bool,  # noqa: FBT001 (drawn by hypothesis)
    memory: int | None,
) -> None:
    """I1, I3, I7: at each step shares are whole and name what is loaded, see `simulator`.

    `memory`: halves of what a server that lists 8 of the largest versions takes of its host.
    """
    world, declared, codes = World(NOON), start(memory), list[str]()
    for each in (Pass(0), *happenings):
        asked = happen(each, declared, world)
        try:
            plan = world.plan(asked)
        except PlacementError as error:
            codes.append(error.diagnostics[0].code)
            event(codes[-1])
            continue
        declared = asked
        for verb in {f"{each.action} {each.reason}" for each in plan.changes}:
            event(verb)
        check_rollouts(plan, declared)
        check_budget(plan)
        before, past = dict(world.resources), world.history()
        answers = AnswersCheck(world, plan, declared)
        world.watch = answers.after
        world.apply(plan, backwards=backwards)
        answers.at_the_end()
        check_ways_back(before, past, world)
        assert (
            diff(desired_state(declared, world.live(), world.history(), world.now), world.live())
            == ()
        )
        again = world.plan(declared)
        assert again.changes == ()
        assert again.steps == ()
        check_bytes(world, again)
    assert "FC2090" not in codes


@drawn
@settings(max_examples=examples(20, 40), suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events, max_size=10), st.lists(declares, max_size=3), aliases, small)
def test_a_rollback_of_one_alias_leaves_what_is_due_for_all_others_as_it_is(
    happenings: list[Event], due: list[Declare], alias: str, days: int
) -> None:
    world, declared = World(NOON), start()
    for each in (Pass(0), *happenings):
        asked = happen(each, declared, world)
        with suppress(PlacementError):
            world.apply(world.plan(asked))
            declared = asked
    for each in due:
        declared = happen(each, declared, world) if each.alias != alias else declared
    world.pass_time(timedelta(days=days))
    try:
        before, routes = world.plan(declared), world.live().routes()
    except PlacementError:
        return
    if not world.roll_back(alias):
        return
    event(f"{len(others(before, alias)['steps'])} steps for others")  # type: ignore[arg-type]
    assert others(world.plan(declared), alias) == others(before, alias)
    now = world.live().routes()
    assert {key for key in now if now[key] != routes[key]} <= {alias}


def test_altered_bytes_that_have_to_stay_where_they_are_are_told() -> None:
    name, world = "acme-support-tiny-v1.0.0", World(NOON)
    declared = replace(start(), adapters={"acme-support": adapter(name, pin="left")})
    world.apply(world.plan(declared))
    (there,) = world.live().adapters().values()
    world.resources[there.address] = replace(there, digest=None)
    elsewhere = replace(start(), adapters={"acme-support": adapter(name, pin="right")})
    world.silent["tiny-right-gpu0"] = "no answer"
    plan = world.plan(elsewhere)
    assert plan.changes == ()
    assert str(plan.held[-1]) == (
        f"acme-support: {name} on tiny-left-cpu0 has other bytes than the lock pins, and 100 % of "
        "the requests go there until it can be loaded again"
    )
    assert [each.action for each in world.plan(declared).changes] == ["update"]  # said by the step


def test_the_events_above_reach_the_cases_they_are_made_for() -> None:
    world, declared = World(NOON), start()
    world.apply(world.plan(declared))
    declared = happen(Declare("acme-support", "tiny", "2.0.0", 1), declared, world)
    world.apply(world.plan(declared))
    first, second = "acme-support-tiny-v1.0.0", "acme-support-tiny-v2.0.0"
    spot = "tiny-left-cpu0"
    assert state(*world.resources.values()).routes()["acme-support"] == route(
        "acme-support", (second, 10, spot), (first, 90, spot), salt=second
    )
    assert any(isinstance(each, Server) for each in world.resources.values())
