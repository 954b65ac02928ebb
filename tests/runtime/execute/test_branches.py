"""Which steps are not begun where others cannot succeed: nothing is taken for their sake."""

from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.codec import operation_result, plain
from fleet.names import Address, server_of_address, step_parts
from fleet.resources import LoadedAdapter, Resource, Route, State
from fleet.steps import TIMES, SetRoute, Step
from plans.documents import live_file, plan_file
from runtime.execute.scheduler import not_begun
from tests.drawn import drawn, examples
from tests.stories.test_stories import PLANNED
from tests.stories.test_stories import given as told_in

Situation = tuple[tuple[Step, ...], State]


def _stories() -> dict[str, Situation]:
    return {
        story.name: (
            plan_file.load(told_in(story, "plan.json")).steps,
            live_file.load(told_in(story, "live.json")),
        )
        for story in PLANNED
    }


STORIES = {name: found for name, found in _stories().items() if found[0]}


def after(steps: tuple[Step, ...], live: State, begun: Collection[str]) -> dict[Address, Resource]:
    """Return the resources after the steps that were begun; a server takes its adapters along."""
    resources = dict(live.resources)
    for step in steps:
        if step.id not in begun:
            continue
        changes, made = operation_result(plain(step.operation))
        if changes and made is not None:
            resources[step.address] = made
        elif changes:
            resources.pop(step.address, None)
            if step.address.startswith("server/"):
                name = step.address.removeprefix("server/")
                for address in [each for each in resources if server_of_address(each) == name]:
                    del resources[address]
    return resources


def serving(resources: dict[Address, Resource]) -> set[tuple[str, str, str, str | None]]:
    """Return alias, version, server and bytes of every share with traffic that can be answered."""
    loaded = {
        (each.adapter, each.server): each.digest
        for each in resources.values()
        if isinstance(each, LoadedAdapter) and Address(f"server/{each.server}") in resources
    }
    return {
        (route.alias, share.adapter, server, loaded[share.adapter, server])
        for route in resources.values()
        if isinstance(route, Route)
        for share in route.shares
        if share.percent
        for server in share.servers
        if (share.adapter, server) in loaded
    }


def dangling(resources: dict[Address, Resource]) -> set[tuple[str, str, str]]:
    """Return alias, version and server of every share with traffic that nothing answers."""
    answered = {each[:3] for each in serving(resources)}
    return {
        (route.alias, share.adapter, server)
        for route in resources.values()
        if isinstance(route, Route)
        for share in route.shares
        if share.percent
        for server in share.servers
    } - answered


def components(steps: tuple[Step, ...]) -> dict[str, int]:
    """Return by step id the number of the steps that hang together with the step."""
    number = {step.id: index for index, step in enumerate(steps)}
    while True:
        before = dict(number)
        for step in steps:
            least = min(number[each] for each in (step.id, *step.needs))
            number.update(dict.fromkeys((step.id, *step.needs), least))
        if number == before:
            return number


def check(situation: Situation, impossible: frozenset[str]) -> frozenset[str]:
    """Check the rules that always hold; return the steps that are begun."""
    steps, live = situation
    left_out = not_begun(steps, impossible, live)
    assert not left_out.keys() & impossible
    assert set(left_out.values()) <= impossible
    begun = frozenset(step.id for step in steps) - impossible - left_out.keys()
    for step in steps:
        if step.id in begun:
            assert begun >= {*step.needs}, f"{step.id} is begun without what it needs"
    apart = components(steps)
    hit = {apart[step] for step in impossible}
    assert {step for step in left_out if apart[step] not in hit} == set(), "another branch"
    then = after(steps, live, begun)
    assert dangling(then) <= dangling(dict(live.resources)), "an alias lost what answered it"
    final = {
        step.operation.route
        for step in steps
        if isinstance(step.operation, SetRoute) and step_parts(step.id)[0] == "set"
    }
    for address, route in then.items():
        if isinstance(route, Route):
            assert route == live.resources.get(address) or route in final, "left diverted"
    return begun


@pytest.mark.parametrize("story", STORIES)
def test_nothing_is_left_out_of_a_plan_in_which_all_is_possible(story: str) -> None:
    steps, live = STORIES[story]
    assert not_begun(steps, (), live) == {}


@pytest.mark.parametrize("story", STORIES)
def test_any_one_step_of_a_story_may_be_impossible(story: str) -> None:
    for step in STORIES[story][0]:
        check(STORIES[story], frozenset({step.id}))


@drawn
@settings(max_examples=examples(100, 2000), deadline=None)
@given(story=st.sampled_from(sorted(STORIES)), data=st.data())
def test_any_steps_of_a_story_may_be_impossible(story: str, data: st.DataObject) -> None:
    ids = [step.id for step in STORIES[story][0]]
    check(STORIES[story], data.draw(st.frozensets(st.sampled_from(ids), max_size=4)))


def test_the_stories_divert_reload_restart_and_retire() -> None:
    verbs = {step_parts(step.id)[0] for steps, _ in STORIES.values() for step in steps}
    assert verbs == set(TIMES)
