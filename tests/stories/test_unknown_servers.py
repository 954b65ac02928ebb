"""No plan moves traffic to a server that did not answer, whatever else the plan does."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import combinations
from pathlib import Path

import pytest

from fleet.errors import PlacementError
from fleet.names import server_address, server_of_address
from fleet.plan import Plan, Reason
from fleet.planning.pipeline import make_plan
from fleet.resources import Route, State
from fleet.steps import SetRoute
from plans.documents import live_file
from runtime.project.load import load_project
from tests.stories.test_stories import _HISTORY, PLANNED, given


def with_unknown(live: State, names: tuple[str, ...]) -> State:
    """Return the state as it is observed while servers do not answer."""
    theirs = {server_address(name) for name in names}
    resources = {
        address: resource
        for address, resource in live.resources.items()
        if address not in theirs and server_of_address(address) not in names
    }
    unknown = {**live.unknown_servers, **dict.fromkeys(names, "no answer")}
    return replace(live, resources=resources, unknown_servers=unknown)


def on_servers(route: Route | None) -> Counter[str]:
    """Return by server the percent of an alias's requests that may go there."""
    found: Counter[str] = Counter()
    for share in route.shares if route else ():
        for server in share.servers:
            found[server] += share.percent
    return found


def moved_to(
    before: Route | None, after: Route, unknown: frozenset[str], *, is_way_back: bool
) -> Iterator[str]:
    """Yield what servers without an answer get more of: traffic, or traffic of a version.

    A way back between versions on the same server moves no traffic to a server.
    """
    for server in unknown:
        if on_servers(after)[server] > on_servers(before)[server]:
            yield server
    had = {
        (share.adapter, server): share.percent
        for share in (before.shares if before else ())
        for server in share.servers
    }
    for share in after.shares if not is_way_back else ():
        for server in share.servers:
            if server in unknown and share.percent > had.get((share.adapter, server), 0):
                yield f"{share.adapter} on {server}"


def plan_with(story: Path, live: State) -> Plan | None:
    declared = load_project(story, given(story, "env.txt").strip() or None, {})
    history = _HISTORY.validate_json(given(story, "history.json", "{}"))
    now = datetime.fromisoformat(given(story, "now.txt").strip())
    try:
        return make_plan(declared.fleet, live, history, now)
    except PlacementError:  # without the servers that do not answer there may be no room
        return None


@pytest.mark.parametrize("story", PLANNED, ids=lambda story: story.name)
def test_no_step_moves_traffic_to_a_server_that_did_not_answer(story: Path) -> None:
    live = live_file.load(given(story, "live.json"))
    names = tuple(live.servers())
    chosen = [*combinations(names, 1), *combinations(names, 2), names]
    for unknown in filter(None, chosen):
        seen = with_unknown(live, unknown)
        plan = plan_with(story, seen)
        if plan is None:
            continue
        routes = live.routes()
        back = {change.address for change in plan.changes if change.reason is Reason.ROLLED_BACK}
        wrong: dict[str, list[str]] = {}
        for step in plan.steps:
            if isinstance(step.operation, SetRoute):
                route, is_back = step.operation.route, step.address in back
                before = routes.get(route.alias)
                moved = moved_to(before, route, frozenset(unknown), is_way_back=is_back)
                wrong |= {step.id: found} if (found := list(moved)) else {}
        assert wrong == {}, json.dumps({"unknown": unknown, "wrong": wrong}, indent=1)
        touched = {step.lane for step in plan.steps}
        assert touched.isdisjoint(unknown)
