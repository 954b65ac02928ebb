"""What moves after demand has changed: off overloaded servers, or to save money where asked."""

from dataclasses import replace

import pytest

from fleet.history.values import History
from fleet.packing import Effort
from fleet.placement.model.state import SearchLimits
from fleet.plan import Saving
from fleet.planning.pipeline import desired_state
from fleet.spec import AdapterSpec, FleetSpec
from plans.documents import plan_file
from plans.render import RENDERERS
from tests.fleet.placement.test_choices import applied, asked, declared, many, on, plan, rack
from tests.fleet.planning.builders import NOON


def grown(of: FleetSpec, rpm: float) -> FleetSpec:
    return replace(of, adapters={
        name: replace(each, demand=replace(each.demand, peak_rpm=rpm))
        for name, each in of.adapters.items() if each.demand
    })  # fmt: skip


def test_a_little_more_demand_moves_nothing_and_an_overload_moves_the_fewest() -> None:
    fleet_ = declared(many(4, 400))
    live = applied(fleet_)
    assert len(live.servers()) == 1
    assert plan(grown(fleet_, 450), live).changes == ()
    moves = plan(grown(fleet_, 600), live).moves
    assert len(moves) == 1
    assert moves[0].forced
    assert "is overloaded at 09:00 UTC" in moves[0].why


def test_lighter_versions_leave_an_overloaded_server_where_the_heaviest_finds_no_place() -> None:
    def of(heavy: float, *others: AdapterSpec) -> FleetSpec:
        mine = [asked("c0-a-llama-v1.0.0", heavy), *many(3, 250)[1:], *others]
        return declared(mine, [rack("rack1", 2)])

    beside = asked("c9-a-llama-v1.0.0", 1150)
    one = applied(of(1150))
    two = desired_state(of(1150, beside), one, History(), NOON)
    assert {name: len(there) for name, there in on(two).items()} == {
        "llama-rack1-gpu0": 3, "llama-rack1-gpu1": 1,
    }  # fmt: skip
    made = plan(of(1750, beside), two)
    assert [(move.adapter[:2], move.forced) for move in made.moves] == [("c1", True)]
    assert "`llama-rack1-gpu0` is overloaded at 09:00 UTC" in made.moves[0].why
    assert not any("overloaded" in note.text for note in made.warnings)


def test_the_heaviest_version_gets_a_replica_where_half_of_it_finds_room_and_keeps_it() -> None:
    def of(heavy: float, other: float) -> FleetSpec:
        loads = {"c0": heavy, "c1": 800, "c2": other}
        mine = [asked(f"{name}-a-llama-v1.0.0", load) for name, load in loads.items()]
        return declared(mine, [rack("rack1", 2)])

    before = desired_state(of(800, 950), applied(of(800, 950)), History(), NOON)
    grown_, small = of(1300, 950), of(1300, 1300)
    made = plan(grown_, before)
    assert [change.address for change in made.changes if change.address.startswith("adapter")] == [
        "adapter/c0-a-llama-v1.0.0@llama-rack1-gpu1"
    ]
    assert not any("overloaded" in note.text for note in made.warnings)
    after = desired_state(grown_, before, History(), NOON)
    assert on(after) == {"llama-rack1-gpu0": ("c0-a", "c1-a"), "llama-rack1-gpu1": ("c0-a", "c2-a")}
    assert plan(grown_, after).changes == ()
    told = plan(small, before)
    assert told.changes == ()
    assert any("a further server on `h100_80g`" in note.text for note in told.warnings)


@pytest.mark.parametrize(
    "search", [SearchLimits(), SearchLimits(max_moves=5), SearchLimits(repack=True)]
)
def test_a_heavy_version_whose_room_another_one_takes_stays_on_its_server(
    search: SearchLimits,
) -> None:
    """It was put back beside that other version: FC2090, and no plan for any client."""
    first, second = "llama-rack1-gpu0", "llama-rack1-gpu1"
    places = {"c0": first, "c1": first, "c2": second, "c3": second, "c4": second}
    loads = {"c0": 750, "c1": 350, "c2": 500, "c3": 300, "c4": 300}

    def of(times: float, **pins: str) -> FleetSpec:
        mine = [
            asked(f"{name}-a-llama-v1.0.0", times * load, pin=pins.get(name))
            for name, load in loads.items()
        ]
        return declared(mine, [rack("rack1", 2)])

    live = applied(of(1, **places))
    assert on(live) == {first: ("c0-a", "c1-a"), second: ("c2-a", "c3-a", "c4-a")}
    made = plan(of(2), live, search)
    assert made.moves == ()
    assert any("more load than the declared 70 %" in note.text for note in made.warnings)


@pytest.mark.parametrize(
    ("loads", "after"),
    [
        ((800, 300, 300), ("c0-a c1-a", "c2-a")),
        ((800, 1000, 300), ("c1-a", "c0-a c2-a")),
        ((800, 300, 1000), ("c0-a c1-a", "c2-a")),
        ((800, 1000, 1000), ("c0-a c1-a", "c0-a c2-a")),
    ],
)
def test_a_version_that_needs_fewer_servers_leaves_the_busiest_and_keeps_all_that_it_needs(
    loads: tuple[int, int, int], after: tuple[str, str]
) -> None:
    """Before, the version stayed on its first server alone: 74 % of its throughput, and FC2090."""

    def of(*loads: int) -> FleetSpec:
        mine = [asked(f"c{index}-a-llama-v1.0.0", load) for index, load in enumerate(loads)]
        return declared(mine, [rack("rack1", 2)])

    live = applied(of(2600, 300, 300))
    assert [" ".join(there) for there in on(live).values()] == ["c0-a c1-a", "c0-a c2-a"]
    assert plan(of(*loads), live).moves == ()
    planned = desired_state(of(*loads), live, History(), NOON)
    assert tuple(" ".join(there) for there in on(planned).values()) == after


@pytest.mark.parametrize(
    ("adapters", "after", "helps", "servers"),
    [
        (many(4, 400), 700, "a further server on `h100_80g` would take `c0-a`, 29 %", 2),
        (many(1, 1500), 2300, "a further server on `h100_80g` would give `c0-a` 2", 2),
        (many(1, 1500), 4000, "2 further servers on `h100_80g` would give `c0-a` 3", 3),
    ],
)
def test_an_overload_that_nothing_can_relieve_is_left_and_told(
    adapters: list[AdapterSpec], after: float, helps: str, servers: int
) -> None:
    fleet_ = declared(adapters, [rack("rack1", 1)])
    made = plan(grown(fleet_, after), applied(fleet_))
    assert made.changes == ()
    assert any("more load than the declared 70 %" in note.text for note in made.warnings)
    assert any(note.text.endswith(helps) for note in made.warnings)
    roomy = declared(adapters, [rack("rack1", servers)])
    helped = plan(grown(roomy, after), applied(fleet_))
    assert helped.cost_after == 2.5 * servers
    assert not any("more load than" in note.text for note in helped.warnings)


@pytest.mark.parametrize(
    ("search", "cost", "moved"),
    [
        (SearchLimits(), 5.0, 0),
        (SearchLimits(max_moves=1), 5.0, 0),
        (SearchLimits(max_moves=3), 2.5, 2),
        (SearchLimits(repack=True), 2.5, 2),
    ],
)
def test_servers_are_emptied_only_where_that_is_asked(
    search: SearchLimits, cost: float, moved: int
) -> None:
    fleet_ = declared(many(4, 600))
    made = plan(grown(fleet_, 100), applied(fleet_), search)
    assert made.cost_after == cost
    assert len([each for each in made.moves if not each.forced]) == moved


@pytest.mark.parametrize(
    ("effort", "basis"), [("fast", "resources"), ("balanced", "whole servers")]
)
def test_a_plan_says_how_the_bound_of_its_price_was_found(effort: Effort, basis: str) -> None:
    fleet_ = declared(many(4, 600))
    made = plan(grown(fleet_, 100), applied(fleet_), SearchLimits(effort=effort))
    assert made.bound_by == basis
    text = RENDERERS["text"](replace(made, cost_before=2.5, changes=plan(fleet_).changes))
    assert f"no placement costs less than 2.50 (a bound by {basis})" in text
    assert plan_file.load(plan_file.dump(made)) == made


@pytest.mark.parametrize(("rpm", "told"), [(600, None), (450, None), (100, Saving(2, 2.5))])
def test_a_plan_tells_what_optional_moves_would_save(rpm: float, told: Saving | None) -> None:
    fleet_ = declared(many(4, 600))
    live, after = applied(fleet_), grown(fleet_, rpm)
    made = plan(after, live)
    assert made.changes == ()
    assert made.saving == told
    if told is None:
        assert "--max-moves" not in RENDERERS["text"](made)
        return
    with_moves = plan(after, live, SearchLimits(max_moves=told.moves))
    assert (with_moves.cost_before, with_moves.cost_after) == (5.0, 5.0 - told.per_hour)
    assert with_moves.saving is None
    for text in (RENDERERS["text"](made), RENDERERS["md"](made)):
        assert "Up to 2 moves would save 2.50 per hour: fleetctl plan --max-moves 2" in text
    assert plan_file.load(plan_file.dump(made)) == made
