"""At every step of an apply, what is loaded fits, and routes name what is there."""

from dataclasses import replace

import pytest

from fleet.hardware import AttachedServerSpec
from fleet.placement.verify.steps import verify_steps
from fleet.placement.verify.view import Constraint
from fleet.plan import Plan
from fleet.planning.pipeline import make_plan
from fleet.resources import Server, State
from fleet.spec import FleetSpec
from fleet.steps import (
    DeleteRoute,
    LoadAdapter,
    SetRoute,
    StartServer,
    Step,
    StopServer,
    UnloadAdapter,
)
from tests.fleet.placement.placements import (
    A0,
    A1,
    ACME,
    BIRCH,
    CEDAR,
    GOOD,
    IDLE,
    ONE,
    PLAIN,
    TWO,
    card,
    declared,
    placed,
    server,
    with_rank,
)
from tests.fleet.placement.test_verify import broken, found
from tests.fleet.planning.builders import (
    NOON,
    adapter,
    attached,
    history,
    host,
    loaded,
    route,
    state,
)

SERVED = state(
    A0,
    loaded(ACME, A0.name),
    loaded(BIRCH, A0.name),
    route("acme-support", (ACME, 100, A0.name)),
    route("birch-support", (BIRCH, 100, A0.name)),
)


def steps(*operations: object, of: FleetSpec = PLAIN, live: State = SERVED) -> list[Constraint]:
    """Replay operations in their order; give what is found broken."""
    plan = make_plan(of, state(), history(), NOON)
    made = tuple(
        Step(f"step {number}", operation, "adapter/x", None, (), "lane", 1.0, 1)  # type: ignore[arg-type]
        for number, operation in enumerate(operations)
    )
    return [
        each.constraint for each in verify_steps(replace(plan, steps=made, impacts=()), of, live)
    ]


def test_a_plan_of_the_planner_is_sound_at_every_step() -> None:
    plan: Plan = make_plan(PLAIN, state(), history(), NOON)
    assert verify_steps(plan, PLAIN, state()) == ()


def test_a_route_names_only_what_is_loaded() -> None:
    moved = route("birch-support", (BIRCH, 100, A1.name))
    start, load = StartServer(A1), LoadAdapter(loaded(BIRCH, A1.name))
    assert steps(start, load, SetRoute(moved)) == []
    assert steps(start, SetRoute(moved), load) == [Constraint.ROUTE, Constraint.ANSWERED]
    assert steps(SetRoute(route("birch-support", (CEDAR, 0, A1.name), (BIRCH, 100, A0.name)))) == []


def test_nothing_is_unloaded_or_stopped_under_a_route() -> None:
    gone = UnloadAdapter(loaded(BIRCH, A0.name))
    assert steps(gone) == [Constraint.ROUTE, Constraint.ANSWERED]
    assert [*steps(StopServer(A0))][:2] == [Constraint.ROUTE, Constraint.ROUTE]
    to = route("birch-support", (CEDAR, 100, A1.name), (BIRCH, 0, A0.name))
    assert steps(StartServer(A1), LoadAdapter(loaded(CEDAR, A1.name)), SetRoute(to), gone) == []


def test_what_a_server_answers_goes_on_to_be_answered() -> None:
    both = route("birch-support", (BIRCH, 100, f"{A0.name} {A1.name}"))
    copies = (A0, A1, loaded(BIRCH, A0.name), loaded(BIRCH, A1.name), both)
    known = state(*copies)
    silent = state(A0, loaded(BIRCH, A0.name), both, unknown_servers={A1.name: "timed out"})
    to_one = SetRoute(route("birch-support", (BIRCH, 100, A1.name)))
    fewer = to_one, UnloadAdapter(loaded(BIRCH, A0.name))
    assert steps(*fewer, live=known) == []
    assert steps(*fewer, live=silent) == [Constraint.ANSWERED]
    assert steps(DeleteRoute(both), live=known) == [Constraint.ANSWERED]
    without = declared(TWO)
    assert steps(DeleteRoute(both), of=without, live=known) == []
    dead = state(both, unknown_servers=dict.fromkeys((A0.name, A1.name), "timed out"))
    assert steps(to_one, live=dead) == []


def test_old_and_new_fit_together_while_both_are_there() -> None:
    beside = server("a/gpu0", of=replace(PLAIN.bases["llama"], name="mini"), port=8005)
    assert steps(StartServer(beside)) == [Constraint.SHARES]
    large = replace(beside.flags, memory_share=None, max_loras=128, max_lora_rank=512)  # type: ignore[type-var]
    bases = [PLAIN.bases["llama"], replace(PLAIN.bases["llama"], name="mini")]
    both = declared(TWO, ONE, IDLE, bases=bases)
    assert steps(StartServer(replace(beside, flags=large)), of=both) == [Constraint.MEMORY]
    clash = replace(A1, port=A0.port)
    assert steps(StartServer(clash)) == [Constraint.PORT]
    other = server("a/gpu1", port=8001)
    assert steps(StartServer(other)) == []


@pytest.mark.parametrize(
    ("slots", "listed", "expected"),
    [(3, 4, []), (2, 4, [Constraint.SLOTS]), (3, 2, [Constraint.CPU_CACHE])],
)
def test_a_load_needs_a_slot_and_a_place(
    slots: int, listed: int, expected: list[Constraint]
) -> None:
    tight = server("a/gpu0", max_loras=slots, max_cpu_loras=listed)
    live = state(*[tight if each == A0 else each for each in SERVED.resources.values()])
    assert steps(LoadAdapter(loaded(CEDAR, A0.name)), live=live) == expected
    again = LoadAdapter(loaded(BIRCH, A0.name))
    assert steps(again, live=live) == []


def test_a_load_needs_its_server() -> None:
    assert steps(LoadAdapter(loaded(CEDAR, A1.name))) == [Constraint.SERVER]
    silent = replace(SERVED, unknown_servers={A1.name: "timed out"})
    assert steps(LoadAdapter(loaded(CEDAR, A1.name)), live=silent) == []


def test_what_the_plan_says_is_interrupted_may_dangle() -> None:
    one = declared(ONE)
    plan = make_plan(one, state(), history(), NOON)
    impacts = tuple(replace(each, interrupted=True) for each in plan.impacts)
    stop = Step("stop", StopServer(A0), A0.address, A0, (), A0.name, 1.0, 1)
    live = state(A0, loaded(BIRCH, A0.name), route("birch-support", (BIRCH, 100, A0.name)))
    back = Step("back", StartServer(A0), A0.address, None, ("stop",), A0.name, 1.0, 1)
    adapter_ = loaded(BIRCH, A0.name)
    load = Step("load", LoadAdapter(adapter_), adapter_.address, None, ("back",), A0.name, 1.0, 1)
    away = replace(plan, steps=(stop, back, load))
    assert verify_steps(replace(away, impacts=impacts), one, live) == ()
    (found,) = verify_steps(away, one, live)
    assert found.constraint is Constraint.ROUTE
    (left,) = verify_steps(replace(plan, steps=(stop,), impacts=impacts), one, live)
    assert left.constraint is Constraint.ANSWERED


THEIRS = AttachedServerSpec("big", "http://x", "llama", 1, 16, 1.0)
BIG = Server("big", "llama", "dc", (), 0, None)


def test_an_attached_server_holds_no_more_than_its_declared_slots() -> None:
    of = declared(ONE, IDLE, hosts=[attached("dc", THEIRS)])
    full = placed({BIRCH: ("big",), CEDAR: ("big",)}, BIG)
    assert broken(of, full, state(BIG)) == {Constraint.SLOTS}
    low = with_rank(declared(ONE, hosts=[attached("dc", THEIRS)]), BIRCH, 32)
    assert broken(low, placed({BIRCH: ("big",)}, BIG), state(BIG)) == {Constraint.RANK}


def test_nothing_new_comes_to_a_cordoned_attached_server() -> None:
    of = declared(ONE, hosts=[attached("dc", replace(THEIRS, state="cordoned"))])
    there = placed({BIRCH: ("big",)}, BIG)
    assert broken(of, there, state(BIG)) == {Constraint.CORDONED}
    assert found(of, there, state(BIG, loaded(BIRCH, "big"))) == ()


def test_a_replica_may_be_wanted_more_often_where_there_is_demand() -> None:
    twice = replace(GOOD, bindings={**GOOD.bindings, BIRCH: (A0.name, "llama-b-gpu0")})
    assert found(PLAIN, twice) == ()
    idle = declared(
        TWO, adapter(BIRCH), IDLE, hosts=[host("a", card("gpu0")), host("b", card("gpu0"))]
    )
    assert broken(idle, twice) == {Constraint.REPLICAS}
