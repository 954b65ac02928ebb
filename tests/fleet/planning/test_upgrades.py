"""New settings of a base: a canary, golden sets of all clients, then a server after another."""

from dataclasses import replace
from random import Random

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fleet.gates import Verdict, judge_paired
from fleet.names import Address
from fleet.plan import Action, Plan
from fleet.planning.pipeline import make_plan
from fleet.policies import GateSpec, GoldenFacts
from fleet.resources import Server
from fleet.rollouts import Upgrade, decide_upgrades, upgrade_trials
from fleet.spec import FleetSpec
from tests.drawn import drawn, examples
from tests.fleet.planning.builders import (
    DAY,
    MIB,
    NOON,
    STANDARD,
    adapter,
    base,
    device,
    fleet,
    host,
)
from tests.fleet.planning.simulator import World
from tests.fleet.planning.test_replacements import served_by, watch

SUPPORT, FAQ, LEGAL = (f"{name}-tiny-v1.0.0" for name in ("acme-support", "birch-faq", "cedar-law"))
GATE = GateSpec("accuracy", "accuracy_drop", 3.0, "pp")
GATED, BARE = replace(STANDARD, gates=("accuracy",)), replace(STANDARD, name="bare")
A, B, C = (f"tiny-laptop-cpu{number}" for number in range(3))
ALIASES = {"acme-support", "birch-faq", "cedar-law"}


def declared(kv_cache: int = 64, devices: int = 3, gates: str = "standard") -> FleetSpec:
    """Declare three clients on two servers, and further devices."""
    made = fleet(
        adapter(SUPPORT, golden="g.jsonl", rollout=gates, replicas=2),
        adapter(FAQ, golden="g.jsonl", rollout=gates),
        adapter(LEGAL, rollout="bare"),
        rollouts=(GATED, BARE),
        gates=(GATE,),
        hosts=[host("laptop", *(device(f"cpu{n}", port=8100 + n) for n in range(devices)))],
        bases=[base(kv_cache_bytes=kv_cache * MIB)],
    )
    return replace(made, golden={"g.jsonl": GoldenFacts("d" * 64, 100)})


def applied(devices: int = 3) -> World:
    world = World(NOON)
    world.apply(world.plan(declared(devices=devices)))
    assert {*world.live().servers()} == {A, B}
    watch(world, ALIASES)
    return world


def upgrade_of(world: World, made: FleetSpec) -> Upgrade:
    (found,) = decide_upgrades(made, world.live(), world.history(), world.now)
    return found


def judge(world: World, made: FleetSpec, alias: str, *, good: bool, items: int = 300) -> Verdict:
    """Write down what the golden set of a client finds on the canary."""
    upgrade = upgrade_of(world, made)
    due = upgrade_trials(made, world.live(), [upgrade])
    trial = next(trial for trial in due if trial.alias == alias)
    finding = judge_paired(GATE, (1.0,) * items, (float(good),) * items)
    world._append(
        "upgrade_judged",
        {
            "base": upgrade.base, "settings": upgrade.settings, "old": upgrade.old_settings,
            "canary": upgrade.canary, "alias": alias, "adapter": trial.adapter,
            "gate": "accuracy", "finding": finding.plain(),
            "digests": {**trial.digests, "golden": "d" * 64, "terms": GATE.terms},
        },
    )  # fmt: skip
    return finding.verdict


def mark(world: World, made: FleetSpec, word: str) -> None:
    upgrade = upgrade_of(world, made)
    world._append(
        "upgrade_decided",
        {"base": "tiny", "settings": upgrade.settings, "mark": word, "reason": "test",
         "old": upgrade.old_settings},
    )  # fmt: skip


def notes(plan: Plan) -> str:
    return "\n".join(map(str, plan.upgrades))


def routed(world: World) -> set[str]:
    """Return the servers that routes send requests to."""
    return {
        server
        for alias in ALIASES
        for servers in served_by(world.resources, alias).values()
        for server in servers
    }


def settings_of(world: World) -> set[int | None]:
    flags = (server.flags for server in world.live().servers().values())
    return {known.kv_cache_bytes for known in flags if known}


def test_a_canary_starts_beside_the_old_servers_and_no_route_changes() -> None:
    world, made = applied(), declared(48)
    plan = world.plan(made)
    assert {c.address for c in plan.changes if isinstance(c.after, Server)} == {f"server/{C}"}
    assert {change.action for change in plan.changes} == {Action.CREATE}
    assert plan.impacts == ()
    assert f"canary {C} starts beside {A}" in notes(plan)
    assert "nothing judges cedar-law: no golden set is a gate there" in notes(plan)
    world.apply(plan)
    held = {a.adapter for a in world.live().adapters().values() if a.server == C}
    assert held == {SUPPORT, FAQ, LEGAL}
    assert routed(world) == {A, B}
    assert world.plan(made).steps == ()


def test_without_a_free_device_servers_keep_their_settings_until_a_person_says_otherwise() -> None:
    world, made = applied(devices=2), declared(48, devices=2)
    plan = world.plan(made)
    assert plan.steps == ()
    assert "no free device for a canary, so nothing is judged" in notes(plan)
    assert "a further device" in notes(plan)
    mark(world, made, "advance")
    plan = world.plan(made)
    assert [c.action for c in plan.changes if isinstance(c.after, Server)] == [Action.REPLACE] * 2
    assert "no free device, so servers restart in their place: test" in notes(plan)


def test_a_set_that_fails_for_one_client_ends_the_canary_and_everybody_stays() -> None:
    world, made = applied(), declared(48)
    before = dict(world.resources)
    world.apply(world.plan(made))
    judge(world, made, "birch-faq", good=True)
    assert judge(world, made, "acme-support", good=False) is Verdict.FAIL
    plan = world.plan(made)
    assert "stopped for all clients: acme-support, accuracy: drop of 100.0 pp" in notes(plan)
    world.apply(plan)
    assert world.resources == before
    assert world.plan(made).steps == ()
    mark(world, made, "release")
    assert f"canary {C} starts" in notes(world.plan(made))


def test_another_declared_engine_is_tried_on_a_canary_that_answers_its_version() -> None:
    world, made = applied(), declared()
    made = replace(made, hosts={"laptop": replace(made.hosts["laptop"], vllm="0.33")})
    running = {A: "0.32.0+cpu", B: "0.32.0+cpu"}

    def plan(versions: dict[str, str]) -> Plan:
        live = replace(world.live(), versions=versions)
        return make_plan(made, live, world.history(), world.now)

    begun = plan(running)
    assert "vllm: 0.32.0+cpu -> 0.33" in notes(begun)
    world.apply(begun)
    wrong = notes(plan({**running, C: "0.32.0+cpu"}))
    assert f"{C} runs vLLM 0.32.0+cpu, and another version is declared" in wrong
    assert f"canary {C} runs beside {A}" in notes(plan({**running, C: "0.33.1+cpu"}))
    assert plan({A: "0.33.0", B: "0.33.1", C: "0.33.1"}).upgrades == ()


def test_another_declared_engine_changes_no_server_where_there_is_no_room() -> None:
    world, made = applied(devices=2), declared(devices=2)
    made = replace(made, hosts={"laptop": replace(made.hosts["laptop"], vllm="0.33.0")})
    live = replace(world.live(), versions={A: "0.32.0", B: "0.32.0"})
    plan = make_plan(made, live, world.history(), world.now)
    assert plan.steps == ()
    assert "nothing is judged and servers go on as they are" in notes(plan)
    assert "advance" not in notes(plan)


def approved(world: World, made: FleetSpec) -> None:
    world.apply(world.plan(made))
    mark(world, made, "approve")


def test_servers_follow_one_after_another_and_no_client_is_without_a_server() -> None:
    world, made = applied(), declared(48)
    approved(world, made)
    moves = []
    for _ in range(12):
        plan = world.plan(made)
        assert not any(impact.interrupted for impact in plan.impacts)
        stopped = [c for c in plan.changes if isinstance(c.before, Server) and c.after is None]
        assert len(stopped) <= 1
        moves.append(len(plan.steps))
        world.apply(plan, backwards=True)
        world.pass_time(DAY)
    assert settings_of(world) == {48 * MIB}
    assert moves[-1] == 0
    assert world.plan(made).upgrades == ()


def test_the_way_back_is_a_change_of_routes_while_the_old_server_is_kept() -> None:
    world, made = applied(), declared(48)
    approved(world, made)
    plan = world.plan(made)
    assert f"{A} is kept loaded until 2026-03-03 12:00 UTC" in notes(plan)
    world.apply(plan)
    assert routed(world) == {B, C}
    assert Address(f"server/{A}") in world.resources
    mark(world, made, "stop")
    back = world.plan(made)
    first = [step for step in back.steps if step.id.startswith("set ")]
    assert first
    assert not any(need.startswith(("load", "start")) for step in first for need in step.needs)
    world.apply(back)
    assert routed(world) == {A, B}
    assert settings_of(world) == {64 * MIB}
    assert world.plan(made).steps == ()


def test_old_settings_that_are_declared_again_need_no_golden_set() -> None:
    world, made = applied(), declared(48)
    approved(world, made)
    world.apply(world.plan(made))
    assert routed(world) == {B, C}
    world.apply(world.plan(declared()))
    assert routed(world) == {A, B}
    assert settings_of(world) == {64 * MIB}
    assert world.plan(declared()).steps == ()


@drawn
@settings(max_examples=examples(25, 200), suppress_health_check=[HealthCheck.too_slow])
@example(Random(2), [0, 11, 4, 0, 0, 0], "stop", 3)  # noqa: S311 (a test)
@given(
    st.randoms(use_true_random=False),
    st.lists(st.integers(0, 14), max_size=6),
    st.sampled_from(("approve", "stop", "fail", "declared again")),
    st.integers(0, 3),
)
def test_an_upgrade_that_is_killed_anywhere_ends_and_serves_everybody_meanwhile(
    chance: Random, killed: list[int], end: str, when: int
) -> None:
    """`killed`: steps of every apply before it is killed; `end` comes after `when` applies."""
    world, made = applied(), declared(48)
    world.apply(world.plan(made))
    mark(world, made, "approve")
    for number in range(16):
        if number == when and end in {"stop", "fail"} and world.plan(made).upgrades:
            mark(world, made, "stop")
        if number == when and end == "declared again":
            made = declared()
        plan = world.plan(made)
        assert not any(impact.interrupted for impact in plan.impacts)
        most = killed[number] if number < len(killed) else None
        world.apply(plan, chance=chance, most=most)
        world.pass_time(DAY)
    assert world.plan(made).steps == ()
    # A stop leaves clients where they are: a server that had begun to take some stays beside them.
    most = 3 if end in {"stop", "fail"} and when > 0 else 2
    assert 2 <= len(world.live().servers()) <= most
