from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.codec import plan_id
from fleet.errors import FleetError
from fleet.plan import Action, Change, DeviceUse, GateDue, Impact, Plan, Reason
from fleet.planning.upgrades import TargetPattern, parse_criteria, select
from fleet.resources import LoadedAdapter, Resource, Route, Server, Share
from fleet.steps import LoadAdapter, SetRoute, StartServer, Step, UnloadAdapter

OLD_SERVER = Server("tiny-a-cpu0", "tiny", "a", ("cpu0",), 8100, "0" * 12)
NEW_SERVER = Server("tiny-b-cpu0", "tiny", "b", ("cpu0",), 8100, "0" * 12)


def change(action: Action, before: Resource | None, after: Resource | None) -> Change:
    resource = after or before
    assert resource is not None
    return Change(resource.address, action, before, after, Reason.DECLARED, "It is declared.")


def client_changes(client: str, server: Server) -> tuple[list[Change], list[Step]]:
    """A client's first version: load on a server, then its route."""
    adapter = LoadedAdapter(f"{client}-faq-tiny-v1.0.0", server.name, "41b7" * 16)
    route = Route(f"{client}-faq", (Share(adapter.adapter, 100, (server.name,)),), "s")
    start, load = f"start {server.address}", f"load {adapter.address}"
    steps = [
        Step(load, LoadAdapter(adapter), adapter.address, None, (start,), server.name, 2, 60),
        Step(
            f"set_route {route.address}",
            SetRoute(route),
            route.address,
            None,
            (load,),
            "gateway",
            0.1,
            30,
        ),
    ]
    return [change(Action.CREATE, None, adapter), change(Action.CREATE, None, route)], steps


def plan_of(changes: Sequence[Change], steps: Sequence[Step]) -> Plan:
    aliases = [each.address.partition("/")[2] for each in changes if "route/" in each.address]
    uses = [
        DeviceUse(name, "h", (), None, None, None, None, None, 8, 1, 1 + loads, 1 + loads, "")
        for name in (OLD_SERVER.name, NEW_SERVER.name)
        if (loads := sum(each.address.endswith(f"@{name}") for each in changes)) >= 0
    ]
    impacts = [
        Impact(a.partition("-")[0], "standard", a, "new", 100, None, "", "none", None, False)
        for a in aliases
    ]
    made = Plan(
        id="",
        fleet="demo",
        changes=tuple(changes),
        steps=tuple(steps),
        capacity=tuple(uses),
        impacts=tuple(impacts),
        gates=tuple(GateDue(a, "accuracy", "m", "3 pp", "no evidence") for a in aliases),
        cost_before=1.0,
        cost_after=2.0,
        unchanged=3,
        untouched_clients=("zoe",),
        ledger_seq=1,
    )
    return replace(made, id=plan_id(made))


@pytest.fixture
def three_clients() -> Plan:
    """Two clients on a new server, one on a server that runs already."""
    start = f"start {NEW_SERVER.address}"
    changes = [change(Action.CREATE, None, NEW_SERVER)]
    steps = [
        Step(start, StartServer(NEW_SERVER), NEW_SERVER.address, None, (), NEW_SERVER.name, 30, 300)
    ]
    for client, server in (("acme", NEW_SERVER), ("birch", NEW_SERVER), ("dune", OLD_SERVER)):
        more_changes, more_steps = client_changes(client, server)
        if server is OLD_SERVER:
            more_steps[0] = replace(more_steps[0], needs=())
        changes += more_changes
        steps += more_steps
    return plan_of(changes, steps)


def addresses(plan: Plan) -> list[str]:
    return [each.address for each in plan.changes]


def is_closed(plan: Plan) -> bool:
    ids = {each.id for each in plan.steps}
    return all(ids.issuperset(each.needs) for each in plan.steps)


def test_a_client_brings_the_server_that_it_needs_and_nobody_else(three_clients: Plan) -> None:
    selected = select(three_clients, (TargetPattern("client", "acme"),))
    assert addresses(selected) == [
        "server/tiny-b-cpu0",
        "adapter/acme-faq-tiny-v1.0.0@tiny-b-cpu0",
        "route/acme-faq",
    ]
    assert len(selected.steps) == 3
    assert is_closed(selected)
    assert [each.alias for each in selected.impacts] == ["acme-faq"]
    assert [each.alias for each in selected.gates] == ["acme-faq"]
    assert selected.untouched_clients == ("birch", "dune", "zoe")
    assert [*map(str, selected.held)] == [
        "Only client=acme was selected: 4 changes left out, of birch (2), dune (2).",
    ]


def test_slots_are_counted_anew(three_clients: Plan) -> None:
    selected = select(three_clients, (TargetPattern("client", "acme"),))
    counts = {each.server: (each.slots_before, each.slots_during) for each in selected.capacity}
    assert counts == {"tiny-a-cpu0": (1, 1), "tiny-b-cpu0": (1, 2)}
    assert [each.slots_after for each in selected.capacity] == [1, 2]


def test_the_cost_is_unknown_when_a_server_was_left_out(three_clients: Plan) -> None:
    assert select(three_clients, (TargetPattern("client", "acme"),)).cost_after == 2.0
    assert select(three_clients, (TargetPattern("client", "dune"),)).cost_after is None


@pytest.mark.parametrize("value", ["acme-faq", "acme-faq-tiny-v1.0.0"])
def test_an_adapter_is_selected_by_alias_or_full_name(three_clients: Plan, value: str) -> None:
    by_adapter = select(three_clients, (TargetPattern("adapter", value),))
    by_client = select(three_clients, (TargetPattern("client", "acme"),))
    assert by_adapter.changes == by_client.changes
    assert by_adapter.id != by_client.id


def test_a_server_brings_all_that_is_on_it(three_clients: Plan) -> None:
    selected = select(three_clients, (TargetPattern("server", "tiny-a-cpu0"),))
    assert addresses(selected) == [
        "adapter/dune-faq-tiny-v1.0.0@tiny-a-cpu0",
        "route/dune-faq",
    ]


def test_a_selection_has_an_id_of_its_own_and_all_or_nothing_to_select_keeps_the_plan(
    three_clients: Plan,
) -> None:
    selected = select(three_clients, (TargetPattern("client", "acme"),))
    assert selected.id == plan_id(selected) != three_clients.id
    assert select(three_clients, ()) is three_clients
    everyone = parse_criteria(["client=acme", "client=birch", "client=dune"])
    assert select(three_clients, everyone) is three_clients


def test_selecting_what_has_no_changes_leaves_none(three_clients: Plan) -> None:
    selected = select(three_clients, (TargetPattern("client", "zoe"),))
    assert selected.changes == ()
    assert selected.steps == ()
    assert "7 changes left out" in selected.held[0].text


def test_a_restart_brings_everything_that_the_server_holds() -> None:
    other = replace(NEW_SERVER, digest="1" * 12)
    changes, steps = [change(Action.REPLACE, NEW_SERVER, other)], []
    for client in ("acme", "birch"):
        more_changes, more_steps = client_changes(client, NEW_SERVER)
        changes += more_changes
        steps += [replace(more_steps[0], needs=()), more_steps[1]]
    plan = plan_of(changes, steps)
    restart = Step("start x", StartServer(other), other.address, None, (), other.name, 1, 1)
    needing = replace(steps[0], needs=(restart.id,))
    plan = replace(plan, steps=(restart, needing, *steps[1:]))
    assert select(plan, (TargetPattern("client", "acme"),)) is plan


def test_a_client_brings_the_restart_under_it_and_the_impact_on_everybody_there(
    three_clients: Plan,
) -> None:
    other = replace(OLD_SERVER, digest="1" * 12)
    held = [
        LoadedAdapter(f"{name}-tiny-v1.0.0", other.name, None) for name in ("elm-faq", "fir-faq")
    ]
    start = f"start {other.address}"
    plan = replace(
        three_clients,
        changes=(*three_clients.changes, change(Action.REPLACE, OLD_SERVER, other)),
        steps=(
            Step(start, StartServer(other), other.address, OLD_SERVER, (), other.name, 9, 9),
            *three_clients.steps,
            *(
                Step(
                    f"load {each.address}",
                    LoadAdapter(each),
                    each.address,
                    None,
                    (start,),
                    other.name,
                    1,
                    1,
                )
                for each in held
            ),
        ),
        impacts=(
            *three_clients.impacts,
            replace(three_clients.impacts[0], client="elm", alias="elm-faq", interrupted=True),
            replace(three_clients.impacts[0], client="fir", alias="fir-faq", interrupted=True),
        ),
    )
    selected = select(plan, (TargetPattern("client", "elm"),))
    assert "server/tiny-a-cpu0" in addresses(selected)
    assert {each.alias for each in selected.impacts} == {"dune-faq", "elm-faq", "fir-faq"}
    assert sum(each.id.startswith("load") for each in selected.steps) == 3
    assert selected.untouched_clients == ("acme", "birch", "zoe")


def test_a_move_is_one_change_with_steps_on_both_servers(three_clients: Plan) -> None:
    before = LoadedAdapter("elm-faq-tiny-v1.0.0", OLD_SERVER.name, None)
    after = replace(before, server=NEW_SERVER.name)
    load = Step("load elm", LoadAdapter(after), after.address, None, (), NEW_SERVER.name, 1.0, 60)
    unload = Step(
        "unload elm", UnloadAdapter(before), before.address, before, ("load elm",), "a", 1.0, 60
    )
    plan = replace(
        three_clients,
        changes=(*three_clients.changes, change(Action.MOVE, before, after)),
        steps=(*three_clients.steps, load, unload),
    )
    selected = select(plan, (TargetPattern("client", "elm"),))
    assert [each.id for each in selected.steps] == ["load elm", "unload elm"]
    uses = {each.server: each for each in selected.capacity}
    assert uses["tiny-a-cpu0"].slots_after == 1


@given(chosen=st.sets(st.sampled_from(["client=acme", "client=birch", "server=tiny-a-cpu0"])))
def test_any_selection_is_closed_and_in_order(chosen: set[str]) -> None:
    changes = [change(Action.CREATE, None, NEW_SERVER)]
    start = f"start {NEW_SERVER.address}"
    steps = [
        Step(start, StartServer(NEW_SERVER), NEW_SERVER.address, None, (), "b", 30, 300),
    ]
    for client in ("acme", "birch"):
        more = client_changes(client, NEW_SERVER)
        changes += more[0]
        steps += more[1]
    plan = plan_of(changes, steps)
    selected = select(plan, parse_criteria(chosen))
    assert is_closed(selected)
    assert [each for each in plan.steps if each in selected.steps] == list(selected.steps)


@pytest.mark.parametrize("text", ["acme", "client", "client=", "=acme", "clients=acme", "tier=x"])
def test_a_selection_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(FleetError) as caught:
        parse_criteria([text])
    assert caught.value.diagnostics[0].code == "FC5010"
