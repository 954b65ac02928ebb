"""A run may die or lose an answer anywhere; the next plan and apply reach the same end."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.errors import EngineTimedOutError, problem
from fleet.history.fold import settled
from fleet.names import route_address
from fleet.resources import State
from fleet.spec import ClientKey, FleetSpec
from tests.drawn import long
from tests.fleet.planning.builders import adapter, base, device, fleet, host
from tests.runtime.execute.bench import FINGERPRINT, Bench, Killed

DAY = timedelta(days=1)
OLD, NEW = "acme-support-tiny-v1.0.0", "acme-support-tiny-v1.1.0"
FAQ = "birch-faq-tiny-v1.0.0"
LAPTOP = host("laptop", device("cpu0"), device("cpu1", port=8101))
KEY = ClientKey("prod", "env:KEY", FINGERPRINT)


@dataclass(frozen=True)
class Scenario:
    """Fleets that are applied a day apart; the apply of the last one is the one that dies."""

    name: str
    before: tuple[FleetSpec, ...]
    dies: FleetSpec
    breaks: Callable[[Bench], None] = lambda _: None


def declared(*names: str, **fields: object) -> FleetSpec:
    adapters = tuple(adapter(each, replicas=1) for each in names)
    keys = {"acme": (KEY,)}
    return fleet(*adapters, hosts=[LAPTOP], known=[OLD, NEW], keys=keys, **fields)  # type: ignore[arg-type]


def crash_all(bench: Bench) -> None:
    for server in list(bench.engines["laptop"].servers):
        bench.engines["laptop"].crash(server)


FIRST = declared(OLD, FAQ)
SCENARIOS = (
    Scenario("create", (), FIRST),
    Scenario("canary", (FIRST,), declared(NEW, FAQ)),
    Scenario("next stage", (FIRST, declared(NEW, FAQ)), declared(NEW, FAQ)),
    Scenario("removal", (FIRST,), declared(OLD)),
    Scenario("other flags", (FIRST,), declared(OLD, FAQ, bases=[base(slots=32)])),
    Scenario("another key", (FIRST,), replace(FIRST, clients={
        **FIRST.clients,
        "acme": replace(FIRST.clients["acme"], keys=(replace(KEY, name="test"),)),
    })),
    Scenario("dead server", (FIRST,), FIRST, crash_all),
)  # fmt: skip


def prepared(scenario: Scenario, folder: Path) -> Bench:
    folder.mkdir()
    bench = Bench(folder)
    for each in scenario.before:
        assert asyncio.run(bench.apply(each)).exit_code == 0
        bench.now += DAY
    scenario.breaks(bench)
    return bench


def end_of(bench: Bench, declared: FleetSpec) -> State:
    """Check that the fleet is as declared and the ledger knows it, and return it."""
    plan = asyncio.run(bench.plan(declared))
    assert plan.changes == ()
    live = asyncio.run(bench.observe())
    history = settled(bench.history(), live)
    assert history.unfinished == {}
    assert set(history.owned) == set(live.resources)
    assert dict(history.established) == dict(live.resources)
    for alias, route in live.routes().items():
        stage = history.stages[alias]
        newest = route.shares[0]
        assert (stage.adapter, stage.percent) == (newest.adapter, newest.percent)
    return replace(live, boots={}, urls={})


def boundaries(scenario: Scenario, folder: Path) -> list[str]:
    """Return every point that the last apply of a scenario passes."""
    bench = prepared(scenario, folder)
    with bench.faults(lambda _number, _label: None):
        assert asyncio.run(bench.apply(scenario.dies)).exit_code == 0
    end_of(bench, scenario.dies)
    return list(bench.passed)


def failing_at(
    points: list[str], number: int, error: BaseException
) -> Callable[[int, str], BaseException | None]:
    """Fail at one point of an earlier run, wherever it comes in this one, if it comes.

    Effects are found by name. Ledger appends are found by their place, for which entries
    share an append, and which routes a table, depends on threads.
    """
    label = points[number]
    if "append" in label:
        return lambda at, _label: error if at == number else None
    left = [points[:number].count(label)]

    def fault(_at: int, passed: str) -> BaseException | None:
        if passed != label:
            return None
        left[0] -= 1
        return error if left[0] == -1 else None

    return fault


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / str(number) for number in range(10_000))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_dying_anywhere_and_applying_again_reaches_the_same_end(
    scenario: Scenario, folders: Iterator[Path]
) -> None:
    points = boundaries(scenario, next(folders))
    wanted = prepared(scenario, next(folders))
    asyncio.run(wanted.apply(scenario.dies))
    end = end_of(wanted, scenario.dies)
    deaths = 0
    for number in range(len(points)):
        bench = prepared(scenario, next(folders))
        with bench.faults(failing_at(points, number, Killed())):
            try:
                asyncio.run(bench.apply(scenario.dies))
            except Killed:
                deaths += 1
        assert asyncio.run(bench.apply(scenario.dies)).exit_code == 0, points[number]
        assert end_of(bench, scenario.dies) == end, points[number]
    assert deaths > 0.8 * len(points)


@pytest.mark.parametrize(
    "scenario", [SCENARIOS[0], SCENARIOS[1], *long(*SCENARIOS[2:])], ids=lambda each: each.name
)
def test_losing_any_one_answer_and_applying_again_reaches_the_same_end(
    scenario: Scenario, folders: Iterator[Path]
) -> None:
    points = boundaries(scenario, next(folders))
    wanted = prepared(scenario, next(folders))
    asyncio.run(wanted.apply(scenario.dies))
    end = end_of(wanted, scenario.dies)
    lost = EngineTimedOutError(problem("T", "No answer in time", "It was lost."))
    for number, point in enumerate(points):
        if "append" in point:
            continue
        bench = prepared(scenario, next(folders))
        with bench.faults(failing_at(points, number, lost)):
            first = asyncio.run(bench.apply(scenario.dies))
        assert first.exit_code in (0, 4), point
        assert asyncio.run(bench.apply(scenario.dies)).exit_code == 0, point
        assert end_of(bench, scenario.dies) == end, point


def test_a_canary_whose_run_died_after_the_flip_bakes_from_then(folders: Iterator[Path]) -> None:
    scenario = SCENARIOS[1]
    bench = prepared(scenario, next(folders))
    with (
        bench.faults(lambda _, label: Killed() if label == "after publish" else None),
        pytest.raises(Killed),
    ):
        asyncio.run(bench.apply(scenario.dies))
    assert bench.shares("acme-support") == {"1.1.0": 10, "1.0.0": 90}
    flipped = bench.now
    bench.now += timedelta(hours=5)
    assert asyncio.run(bench.apply(scenario.dies)).exit_code == 0
    assert bench.history().stages["acme-support"].entered == flipped
    bench.now += timedelta(hours=18)
    assert asyncio.run(bench.plan(scenario.dies)).changes == ()
    bench.now += timedelta(hours=1)
    changes = asyncio.run(bench.plan(scenario.dies)).changes
    assert [each.address for each in changes] == [route_address("acme-support")]
