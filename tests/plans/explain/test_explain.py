from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.errors import FleetError, Position
from fleet.names import AdapterName
from fleet.plan import Plan, PlanNote
from fleet.policies import RolloutPolicy
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State
from fleet.spec import AdapterFacts, AdapterSpec, ClientKey, ClientSpec, FleetSpec
from plans.explain.figures import render_text
from plans.explain.resource import ExplainInput, find
from plans.explain.resource import explain as facts_of

NAME = "acme-support-tiny-v2.2.0"


def explain(scene: ExplainInput, name: str) -> str:
    return render_text(facts_of(scene, name))


def state_of(*resources: Resource) -> State:
    return State({each.address: each for each in sorted(resources, key=lambda r: r.address)})


@pytest.fixture
def scene(canary: Plan) -> ExplainInput:
    adapter = AdapterSpec(
        AdapterName.parse(NAME), "standard", None, "short_generation", 1, None, None, ()
    )
    fleet = FleetSpec(
        name="quickstart",
        clients={"acme": ClientSpec("acme", "premium", None, (ClientKey("prod", "env:K", None),))},
        tiers={},
        bases={},
        hosts={},
        adapters={"acme-support": adapter},
        rollouts={"standard": RolloutPolicy("standard", (10, 100), timedelta(), timedelta(), ())},
        gates={},
        gateways={},
        versions={NAME: AdapterFacts("41b7" * 16, 8, 80 << 20, ("q_proj", "v_proj"))},
        origins={"clients.acme.adapters.support.version": Position("clients/acme.yaml", 9, 18)},
    )
    server = Server("tiny-laptop-cpu0", "tiny", "laptop", ("cpu0",), 8100, "0a1b2c3d4e5f")
    load, route = canary.changes[0].after, canary.changes[1].after
    before = canary.changes[1].before
    assert isinstance(load, LoadedAdapter)
    assert isinstance(route, Route)
    assert isinstance(before, Route)
    key = Key("acme", "prod", "env:K", "123456789abc")
    old = LoadedAdapter(before.shares[0].adapter, server.name, "aa" * 32)
    return ExplainInput(
        fleet=fleet,
        plan=canary,
        desired=state_of(server, load, old, route, key),
        live=state_of(server, old, before),
    )


def test_an_adapter_is_explained_from_its_declaration_to_its_steps(scene: ExplainInput) -> None:
    assert explain(scene, f"adapter/{NAME}@tiny-laptop-cpu0") == (
        "adapter/acme-support-tiny-v2.2.0@tiny-laptop-cpu0\n"
        "  What      version 2.2.0 of acme-support on tiny-laptop-cpu0\n"
        "  Locked    sha256 41b741b741b7, rank 8, 80.0 MiB, modules q_proj, v_proj\n"
        "  Declared  clients/acme.yaml:9:18\n"
        "  Live      does not exist\n"
        "  Why here  tiny-laptop-cpu0 is the only server of base tiny\n"
        "  Change    + load: Version 2.2.0 is declared and not loaded yet.\n"
        "  Used by   acme-support (10 %)\n"
        "  Steps     load adapter/acme-support-tiny-v2.2.0@tiny-laptop-cpu0 (2 s)\n"
        "            smoke adapter/acme-support-tiny-v2.2.0@tiny-laptop-cpu0 (1 s), after load "
        "adapter/acme-support-tiny-v2.2.0@tiny-laptop-cpu0\n"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("acme-support", ["route/acme-support", "90 % 2.1.0 on tiny-laptop-cpu0", "(premium)"]),
        ("route/acme-support", ["100 % 2.1.0", "~ shift", "Rests on"]),
        ("tiny-laptop-cpu0", ["server/tiny-laptop-cpu0", "2 adapters", "Serves    acme-support"]),
        ("acme/prod", ["key/acme/prod", "env:K", "123456789abc", "Opens", "does not exist"]),
        (NAME, [f"adapter/{NAME}@tiny-laptop-cpu0"]),
    ],
)
def test_a_resource_is_found_by_address_or_by_name(
    scene: ExplainInput, name: str, words: list[str]
) -> None:
    shown = explain(scene, name)
    for word in words:
        assert word in shown


def test_what_is_live_and_not_wanted_is_to_go(scene: ExplainInput) -> None:
    rogue = LoadedAdapter("test2", "tiny-laptop-cpu0", None, "/x")
    live = state_of(*scene.live.resources.values(), rogue)
    shown = explain(replace(scene, live=live), "test2")
    assert "Wanted    no" in shown
    assert "nowhere in the files" in shown
    assert "loaded from another path" in shown
    assert "no route" in shown


def test_what_could_not_be_observed_is_called_unknown(scene: ExplainInput) -> None:
    live = replace(scene.live, unknown_servers={"tiny-laptop-cpu0": "no answer"})
    assert "unknown: it could not be observed" in explain(replace(scene, live=live), NAME)


@pytest.mark.parametrize("typed", ["acme-suport", "server/nope"])
def test_a_wrong_name_is_an_error_with_the_nearest_right_one(
    scene: ExplainInput, typed: str
) -> None:
    with pytest.raises(FleetError) as caught:
        find(scene, typed)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "FC5011"
    assert "acme-support" in diagnostic.hint or typed == "server/nope"


def test_a_route_says_what_is_held_back_and_only_its_own(scene: ExplainInput) -> None:
    held = (
        PlanNote("2.2.0 stays at 10 %, baking until noon", "acme-support"),
        PlanNote("not this", "acme-other"),
    )
    waiting = replace(scene, plan=replace(scene.plan, held=held))
    text = explain(waiting, "route/acme-support")
    assert "  Held back  2.2.0 stays at 10 %, baking until noon\n" in text
    assert "not this" not in text


OLD = "acme-support-tiny-v2.1.0@tiny-laptop-cpu0"
NEW = f"{NAME}@tiny-laptop-cpu0"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (f"adapter/{NEW}", [f"adapter/{NEW}"]),
        (NEW, [f"adapter/{NEW}"]),
        (f"adapter/{NAME}", [f"adapter/{NEW}"]),
        (NAME, [f"adapter/{NEW}"]),
        ("acme-support@2.2.0", [f"adapter/{NEW}"]),
        ("acme-support@v2.2.0", [f"adapter/{NEW}"]),
        ("adapter/acme-support@2.2.0", [f"adapter/{NEW}"]),
        ("acme-support@2.2.0@tiny-laptop-cpu0", [f"adapter/{NEW}"]),
        ("adapter/acme-support", [f"adapter/{OLD}", f"adapter/{NEW}"]),
        ("acme-support@tiny-laptop-cpu0", [f"adapter/{OLD}", f"adapter/{NEW}"]),
        ("adapter/acme-support@tiny-laptop-cpu0", [f"adapter/{OLD}", f"adapter/{NEW}"]),
        ("acme-support", ["route/acme-support"]),
        ("acme/support", ["route/acme-support"]),
        ("client/acme", ["key/acme/prod", "route/acme-support"]),
        ("key/acme/prod", ["key/acme/prod"]),
        ("laptop/cpu0", ["server/tiny-laptop-cpu0"]),
        ("host/laptop", ["server/tiny-laptop-cpu0"]),
        ("base/tiny", ["server/tiny-laptop-cpu0"]),
        ("server/tiny-laptop-cpu0", ["server/tiny-laptop-cpu0"]),
    ],
)
def test_every_way_in_which_people_call_it_finds_a_resource(
    scene: ExplainInput, typed: str, meant: list[str]
) -> None:
    assert find(scene, typed) == meant
