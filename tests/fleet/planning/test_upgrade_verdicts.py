"""Verdicts of canary servers: which count, and what waits for a person."""

from dataclasses import replace

import pytest

from fleet.gates import Verdict
from fleet.policies import GoldenFacts
from fleet.rollouts import decide_upgrades, upgrade_trials
from tests.fleet.planning.test_upgrades import (
    FAQ,
    C,
    applied,
    declared,
    judge,
    mark,
    notes,
    upgrade_of,
)


def test_a_set_without_a_verdict_lets_nobody_move_until_a_person_approves() -> None:
    world, made = applied(), declared(48)
    world.apply(world.plan(made))
    judge(world, made, "birch-faq", good=True)
    assert not upgrade_of(world, made).passed
    assert judge(world, made, "acme-support", good=True, items=10) is Verdict.INCONCLUSIVE
    assert world.plan(made).steps == ()
    assert "acme-support is undecided" in notes(world.plan(made))
    mark(world, made, "approve")
    assert world.plan(made).steps


@pytest.mark.parametrize("change", ["golden", "engine"])
def test_a_verdict_on_another_golden_set_or_engine_does_not_count(change: str) -> None:
    world, made = applied(), declared(48)
    world.apply(world.plan(made))
    judge(world, made, "acme-support", good=True)
    judge(world, made, "birch-faq", good=True)
    live = world.live()
    if change == "golden":
        made = replace(made, golden={"g.jsonl": GoldenFacts("e" * 64, 100)})
    else:
        live = replace(live, versions={C: "0.33.0"})
    (upgrade,) = decide_upgrades(made, live, world.history(), world.now)
    assert [result.evidence for result in upgrade.results] == [None, None]


def test_a_version_that_is_not_in_the_lock_is_not_asked_and_nobody_moves() -> None:
    world, made = applied(), declared(48)
    made = replace(made, versions={n: facts for n, facts in made.versions.items() if n != FAQ})
    world.apply(world.plan(made))
    judge(world, made, "acme-support", good=True)
    upgrade = upgrade_of(world, made)
    assert (upgrade_trials(made, world.live(), [upgrade]), upgrade.passed) == ((), False)
    assert "birch-faq accuracy: no evidence yet" in notes(world.plan(made))


def test_a_client_without_a_golden_set_waits_for_a_person_when_all_others_have_passed() -> None:
    world, made = applied(), declared(48)
    world.apply(world.plan(made))
    judge(world, made, "acme-support", good=True)
    judge(world, made, "birch-faq", good=True)
    upgrade = upgrade_of(world, made)
    assert (upgrade.unguarded, upgrade.awaited, upgrade.passed) == (("cedar-law",), (), False)
    plan = world.plan(made)
    assert plan.steps == ()
    assert (
        "nothing judges cedar-law, and the upgrade waits: fleetctl upgrade approve tiny"
        in notes(plan)
    )


def test_a_verdict_that_does_not_follow_from_its_counts_is_no_verdict() -> None:
    world, made = applied(), declared(48)
    world.apply(world.plan(made))
    judge(world, made, "birch-faq", good=True)
    judge(world, made, "acme-support", good=True, items=10)
    history = world.history()
    record = history.upgrades["tiny"]
    ((settings, verdicts),) = record.verdicts.items()
    forged = tuple(replace(v, finding=replace(v.finding, verdict=Verdict.PASS)) for v in verdicts)
    told = replace(history, upgrades={"tiny": replace(record, verdicts={settings: forged})})
    (upgrade,) = decide_upgrades(made, world.live(), told, world.now)
    assert [result.alias for result in upgrade.awaited] == ["acme-support"]
