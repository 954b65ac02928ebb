"""What the loss of a device or host does: versions find other places, or the loss names them."""

from dataclasses import replace
from random import Random

import pytest

from fleet.advice.changes import what_if, what_if_live
from fleet.advice.trial import LossDiagnosis, diagnose_losses
from fleet.history.fold import fold_entries
from fleet.history.values import History
from fleet.placement.losses import Loss, loss_outlook, losses_of, steady_state
from fleet.placement.model.accounts import state_accounts
from fleet.placement.model.causes import Limit
from fleet.placement.search import place
from fleet.plan import LossOutlook
from fleet.planning.desired import desired_state_of
from fleet.planning.pipeline import make_plan
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import AdapterSpec, FleetSpec
from plans.documents import plan_file
from plans.render import RENDERERS
from plans.render.sections import loss
from tests.drawn import examples
from tests.fleet.placement.test_choices import applied, asked, declared, many, on, plan, rack
from tests.fleet.placement.test_latency import QUICK, SLOW, measured
from tests.fleet.placement.test_latency import on as on_cards
from tests.fleet.placement.test_repack import running
from tests.fleet.planning.builders import NOON, state

BOTH = (False, True)


def lost(of: FleetSpec, live: State | None = None) -> dict[str, Loss]:
    found = diagnosed(of, live).losses
    return {loss.place: loss for loss in found}


def diagnosed(of: FleetSpec, live: State | None = None) -> LossDiagnosis:
    return diagnose_losses(of, live or applied(of), History(), NOON, hosts=BOTH)


def halved(*hosts: object) -> tuple[FleetSpec, State]:
    """Return a fleet on two servers, and its live state, after demand has fallen."""
    before = declared(many(4, 600), hosts or [rack("rack1", 2)])  # type: ignore[arg-type]
    after = declared(many(4, 100), hosts or [rack("rack1", 2)])  # type: ignore[arg-type]
    live = applied(before)
    assert len(on(live)) == 2
    return after, live


def test_running_servers_with_room_take_the_versions_of_a_lost_device() -> None:
    found = lost(*halved())
    for where in ("rack1/gpu0", "rack1/gpu1"):
        assert found[where].kept
        assert (found[where].versions, found[where].starts) == (2, ())
    assert len(found["rack1"].unserved) == 4


def test_free_devices_take_what_running_servers_cannot() -> None:
    found = lost(declared(many(4, 600), [rack("rack1", 3)]))
    for where in ("rack1/gpu0", "rack1/gpu1"):
        assert found[where].kept
        assert found[where].starts == ("llama-rack1-gpu2",)
        assert found[where].added_per_hour == 2.5
    assert "rack1/gpu2" not in found


def test_a_loss_that_nothing_takes_over_names_versions_and_limit() -> None:
    loss = lost(declared(many(4, 600), [rack("rack1", 2)]))["rack1/gpu0"]
    assert not loss.kept
    assert loss.unserved == ("c0-a-llama-v1.0.0", "c1-a-llama-v1.0.0")
    assert loss.causes[0].limit is Limit.THROUGHPUT
    assert "llama-rack1-gpu1" in loss.causes[0].text


@pytest.mark.parametrize(("rpm", "served"), [(100, 1), (1200, 1), (1900, 0)])
def test_other_replicas_serve_on_where_they_carry_the_load(rpm: float, served: int) -> None:
    fleet_ = declared([asked("c0-a-llama-v1.0.0", rpm, replicas=2)], [rack("rack1", 2)])
    loss = lost(fleet_)["rack1/gpu0"]
    assert not loss.kept
    assert loss.fewer == (("c0-a-llama-v1.0.0",) if served else ())
    assert loss.unserved == (() if served else ("c0-a-llama-v1.0.0",))


def test_a_pinned_version_is_lost_with_its_host_alone() -> None:
    hosts = [rack("rack1", 2), rack("rack2", 2)]
    found = lost(declared(many(2, 100, pin="rack1"), hosts))
    assert found["rack1/gpu0"].kept
    assert found["rack1"].causes[0].limit is Limit.PIN


def test_a_takeover_that_makes_promised_answers_late_is_no_takeover() -> None:
    quick, slow = measured("h100_80g", QUICK), measured("a100_80g", SLOW)

    def late(slo_s: float) -> tuple[str, ...]:
        who = _demanding(slo_s)
        kinds = ("h100_80g", "a100_80g")
        found = lost(on_cards(quick, slow, who=who, kinds=kinds))
        return (*found["a/gpu0"].late, *found["a/gpu0"].unserved)

    assert not late(60.0)
    assert late(1.0) == ("acme-support-llama-v1.0.0",)


def _demanding(slo_s: float) -> AdapterSpec:
    made = asked("acme-support-llama-v1.0.0", 6)
    return replace(made, slo_s=slo_s, promised=True)


def test_advice_keeps_all_losses_and_the_cheapest_comes_first() -> None:
    fleet_ = declared(many(4, 600), [rack("rack1", 2)])
    live = applied(fleet_)
    found = diagnosed(fleet_, live)
    assert not found.kept
    prices = [advice.added_per_hour for advice in found.remedies]
    assert prices == sorted(prices, key=lambda price: price or 0)
    assert ("gpu h100_80g +2",) in [advice.what_if for advice in found.remedies]
    for advice in found.remedies:
        assert diagnosed(what_if(fleet_, advice.what_if), live).kept


def test_looking_at_losses_changes_nothing() -> None:
    fleet_ = declared([*many(5, 300), asked("d-b-llama-v1.0.0", 50, replicas=2)])
    targets = decide_rollouts(fleet_, state(), History(), NOON)
    placed = place(fleet_, targets, state())
    desired = desired_state_of(fleet_, targets, placed, state())
    steady = steady_state(fleet_, targets, desired)
    before = {name: sorted(servers) for name, servers in steady.bound.items()}
    first = [loss for hosts in BOTH for loss in losses_of(steady, desired, hosts=hosts)]
    assert {name: sorted(servers) for name, servers in steady.bound.items()} == before
    assert before == {name: sorted(servers) for name, servers in placed.bindings.items()}
    assert first == [loss for hosts in BOTH for loss in losses_of(steady, desired, hosts=hosts)]


@pytest.mark.parametrize("seed", range(examples(5, 25)))
def test_the_planner_finds_places_after_every_loss_that_is_kept(seed: int) -> None:
    declared_, world = running(Random(seed))  # noqa: S311 (draws fleets)
    live, past = world.live(), fold_entries(world.entries)
    kept = [
        loss.place
        for loss in diagnose_losses(declared_, live, past, NOON, hosts=(True,)).losses
        if loss.kept
    ]
    for name in kept:
        without = what_if(declared_, (f"host {name} gone",))
        plan = make_plan(without, what_if_live(without, live), past, NOON)
        there = {own.adapter for own in live.adapters().values() if f"-{name}-" in own.server}
        assert {move.adapter for move in plan.moves} <= there


QUESTION = "Survives the loss of any one device: "
COMMAND = "fleetctl diagnose --loss gpu"


def told(of: FleetSpec, live: State | None = None) -> str:
    text = RENDERERS["text"](plan(of, live))
    return text.partition(QUESTION)[2].partition("\n")[0]


def test_a_fleet_with_room_on_other_servers_or_devices_survives() -> None:
    assert plan(*halved()).loss == LossOutlook(kept=True)
    assert told(declared(many(4, 600), [rack("rack1", 3)])) == "yes"


def test_a_fleet_without_room_names_the_device_and_the_aliases_that_suffer() -> None:
    tight = declared(many(4, 600), [rack("rack1", 2)])
    assert told(tight) == f"no, without rack1/gpu0 c0-a, c1-a would have no server: {COMMAND}"
    both = declared([asked("c0-a-llama-v1.0.0", 100, replicas=2)], [rack("rack1", 2)])
    assert told(both) == f"no, without rack1/gpu0 c0-a would have fewer replicas: {COMMAND}"


def test_the_loss_of_the_only_device_needs_no_telling() -> None:
    assert plan(declared(many(1), [rack("rack1", 1)])).loss is None


def test_a_silent_server_leaves_the_answer_open() -> None:
    fleet_ = declared(many(4, 600), [rack("rack1", 3)])
    live, name = applied(fleet_), "llama-rack1-gpu0"
    answered = {its: r for its, r in live.resources.items() if not its.endswith(name)}
    silent = replace(live, resources=answered, unknown_servers={name: "it does not answer"})
    made = plan(fleet_, silent)
    assert made.loss == LossOutlook(None)
    assert [*loss(made)] == [f"{QUESTION}not known without a search: {COMMAND}"]


@pytest.mark.parametrize(
    ("adapters", "cards", "kept"),
    [
        (many(4, 600), 2, False),
        (many(4, 600), 3, True),
        (many(2, 100, pin="rack1"), 3, None),
        ([asked("c0-a-llama-v1.0.0", 1400, replicas=2)], 2, None),
    ],
)
def test_sums_alone_say_what_the_search_says_or_that_it_is_not_known(
    adapters: list[AdapterSpec], cards: int, kept: object
) -> None:
    fleet_ = declared(adapters, [rack("rack1", cards)])
    live = applied(fleet_)
    targets = decide_rollouts(fleet_, live, History(), NOON)
    accounts = state_accounts(fleet_, live).values()
    found = loss_outlook(fleet_, targets, live, accounts, few=0)
    assert found is not None
    assert found.kept is kept
    devices = [own for place, own in lost(fleet_, live).items() if "/" in place]
    assert kept in (None, all(own.kept for own in devices))


def test_the_answer_stands_in_every_rendering_and_in_the_plan_file() -> None:
    made = plan(declared(many(4, 600), [rack("rack1", 2)]))
    for form in ("text", "md", "html"):
        assert QUESTION in RENDERERS[form](made), form
    assert plan_file.load(plan_file.dump(made)) == made
