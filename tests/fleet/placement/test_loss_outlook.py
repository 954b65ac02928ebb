"""A plan says whether any device can be lost, or that it does not know; it is never wrong."""

from dataclasses import replace

import pytest

from fleet.history.values import History
from fleet.placement.accounting import state_accounts
from fleet.placement.survival import loss_outlook
from fleet.plan import LossOutlook
from fleet.resources import State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import AdapterSpec, FleetSpec
from plans.documents import plan_file
from plans.render import RENDERERS
from plans.render.sections import loss
from tests.fleet.placement.test_choices import applied, asked, declared, many, plan, rack
from tests.fleet.placement.test_losses import halved, lost
from tests.fleet.planning.builders import NOON

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
