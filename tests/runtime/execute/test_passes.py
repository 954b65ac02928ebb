"""No traffic without a pass: what failed its smoke test, or never came to it, is asked again."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.codec import plain
from fleet.history import Adopted, Entry, StepFinished, StepStarted, fold_entries
from fleet.planning.modes import advances
from fleet.planning.pipeline import make_plan
from fleet.spec import FleetSpec
from tests.fleet.planning.builders import DAY, adapter, fleet
from tests.runtime.execute.bench import Bench, Killed
from tests.runtime.execute.small_fleet import LAPTOP, NEW, OLD, on, verdicts

SERVER = "tiny-laptop-cpu0"
SMOKE = f"smoke adapter/{NEW}@{SERVER}"
ROUTE = "set route/acme-support"


def declared(version: str, *smoke: str) -> FleetSpec:
    return fleet(adapter(version, smoke=smoke), hosts=[LAPTOP], known=[OLD, NEW])


def planned(bench: Bench, version: str = NEW, *smoke: str) -> list[str]:
    return [step.id for step in asyncio.run(bench.plan(declared(version, *smoke))).steps]


@pytest.mark.parametrize("smoke", [("hello",), ()], ids=["declared", "built-in prompt"])
def test_a_version_that_failed_its_smoke_test_gets_no_traffic_at_the_next_apply(
    smoke: tuple[str, ...], bench: Bench
) -> None:
    """Red before: the second plan set the route alone, and 10 of 100 users got an empty answer.

    With no declared `smoke` the first one did.
    """
    asyncio.run(bench.apply(declared(OLD)))
    bench.engines["laptop"].mute.add(NEW)
    for number in (1, 2, 3):
        outcome = asyncio.run(bench.apply(declared(NEW, *smoke)))
        assert (outcome.exit_code, bench.shares("acme-support")) == (4, {"1.0.0": 100}), number
        assert (verdicts(outcome)[SMOKE], verdicts(outcome)[ROUTE]) == ("failed", "blocked")
    bench.engines["laptop"].mute.clear()
    assert planned(bench, NEW, *smoke) == [SMOKE, ROUTE]
    assert asyncio.run(bench.apply(declared(NEW, *smoke))).exit_code == 0
    assert bench.shares("acme-support") == {"1.1.0": 10, "1.0.0": 90}


@pytest.mark.parametrize("mute", [False, True], ids=["answers", "answers nothing"])
def test_killed_at_any_point_no_version_gets_traffic_without_a_pass(
    mute: bool,  # noqa: FBT001 (a parameter)
    tmp_path: Path,
) -> None:
    """Red before: killed after the load, the next apply gave 10 % to a version never asked.

    `MemoryGateways.publish` refuses traffic without a pass.
    """

    def prepared(name: str) -> Bench:
        (tmp_path / name).mkdir()
        made = Bench(tmp_path / name)
        asyncio.run(made.apply(declared(OLD)))
        if mute:
            made.engines["laptop"].mute.add(NEW)
        return made

    whole = prepared("whole")
    with whole.faults(lambda _number, _label: None):
        asyncio.run(whole.apply(declared(NEW)))
    points = list(dict.fromkeys(whole.passed))
    assert any("after load" in point for point in points)
    for number, point in enumerate(points):
        bench = prepared(str(number))
        with bench.faults(on(point, Killed())), suppress(Killed):
            asyncio.run(bench.apply(declared(NEW)))
        again = asyncio.run(bench.apply(declared(NEW)))
        answered = {"1.0.0": 100} if mute else {"1.1.0": 10, "1.0.0": 90}
        assert (again.exit_code, bench.shares("acme-support")) == (4 if mute else 0, answered), (
            point
        )


def test_a_pass_is_of_a_launch_and_of_bytes(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD)))
    asyncio.run(bench.apply(declared(NEW)))
    bench.now += DAY
    assert planned(bench) == [ROUTE]  # from 10 to 50 percent
    live, past = asyncio.run(bench.observe()), bench.history()
    passed = past.passes[SERVER]
    for digest in ("e" * 64, None):  # None: loaded from elsewhere, so that nobody knows
        other = {**passed, NEW: replace(passed[NEW], digest=digest)}
        plan = make_plan(declared(NEW), live, replace(past, passes={SERVER: other}), bench.now)
        assert [step.id for step in plan.steps] == [SMOKE, ROUTE]
    bench.engines["laptop"].boots[SERVER] += 1  # another launch that the ledger knows nothing of
    assert planned(bench) == [SMOKE, ROUTE]


def test_a_pass_of_a_server_without_a_launch_ends_with_its_boot(bench: Bench) -> None:
    """A vLLM of others that starts with `--lora-modules` has the version again by itself.

    Red before: the plan raised the share on the pass of the boot before.
    """
    bench.engines["laptop"].shows_launches = False
    asyncio.run(bench.apply(declared(OLD)))
    asyncio.run(bench.apply(declared(NEW)))
    bench.now += DAY
    assert planned(bench) == [ROUTE]
    bench.engines["laptop"].boots[SERVER] += 1
    assert planned(bench) == [SMOKE, ROUTE]
    assert asyncio.run(bench.apply(declared(NEW))).exit_code == 0
    assert bench.shares("acme-support") == {"1.1.0": 50, "1.0.0": 50}
    bench.now += DAY
    assert ROUTE in planned(bench)
    assert SMOKE not in planned(bench)


def test_a_saved_plan_is_stale_where_its_smoke_test_became_void(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD)))
    asyncio.run(bench.apply(declared(NEW)))
    bench.now += DAY
    plan = asyncio.run(bench.plan(declared(NEW)))
    bench.engines["laptop"].boots[SERVER] += 1
    outcome = asyncio.run(bench.apply(declared(NEW), plan=plan))
    assert (outcome.exit_code, verdicts(outcome)) == (4, {ROUTE: "failed"})
    assert outcome.results[ROUTE].diagnostics[0].code == "FC5119"
    assert bench.shares("acme-support") == {"1.1.0": 10, "1.0.0": 90}


def entries_of_an_earlier_release(bench: Bench, *, with_smoke: bool) -> list[Entry]:
    """Return the ledger as releases wrote it that recorded no launch of a smoke test."""
    kept = []
    for entry in bench.ledger().read():
        event = entry.event
        is_smoke = isinstance(event, StepStarted | StepFinished) and event.step.startswith("smoke")
        if is_smoke and not with_smoke:
            continue
        document = {name: field for name, field in plain(event).items() if name != "launch"}
        kept.append(replace(entry, event=type(event)(**document)))
    return kept


@pytest.mark.parametrize(("with_smoke", "steps"), [(True, [ROUTE]), (False, [SMOKE, ROUTE])])
def test_old_ledgers_keep_their_routes_and_their_smoke_tests_count(
    with_smoke: bool,  # noqa: FBT001 (a parameter)
    steps: list[str],
    bench: Bench,
) -> None:
    asyncio.run(bench.apply(declared(OLD)))
    asyncio.run(bench.apply(declared(NEW)))
    past = fold_entries(entries_of_an_earlier_release(bench, with_smoke=with_smoke))
    live = asyncio.run(bench.observe())
    assert make_plan(declared(NEW), live, past, bench.now).steps == ()
    plan = make_plan(declared(NEW), live, past, bench.now + DAY)
    assert [step.id for step in plan.steps] == steps
    onward = advances(plan)  # what `reconcile` does by itself
    assert [step.id for step in onward.steps] == steps
    assert asyncio.run(bench.apply(declared(NEW), plan=onward)).exit_code == 0
    assert bench.shares("acme-support") == {"1.1.0": 50, "1.0.0": 50}


def test_what_was_adopted_stays_and_is_asked_before_its_share_rises(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD)))
    asyncio.run(bench.apply(declared(NEW)))
    live = asyncio.run(bench.observe())
    found = [
        Entry(number, bench.now, Adopted(at, plain(what), ""), "run", "ana", 1, "", "")
        for number, (at, what) in enumerate(live.resources.items(), 1)
    ]
    plan = make_plan(declared(NEW), live, fold_entries(found), bench.now)
    assert plan.steps == ()
    later = make_plan(declared(NEW), live, fold_entries(found), bench.now + DAY)
    assert [step.id for step in later.steps] == [SMOKE, ROUTE]


def test_a_way_back_of_a_plan_waits_for_no_smoke_test(bench: Bench) -> None:
    """The version that answers already gets back what the newer one loses, pass or none."""
    asyncio.run(bench.apply(declared(OLD)))
    asyncio.run(bench.apply(declared(NEW)))
    past = fold_entries(entries_of_an_earlier_release(bench, with_smoke=False))
    live = asyncio.run(bench.observe())
    plan = make_plan(declared(OLD), live, past, bench.now)
    (route,) = (step for step in plan.steps if step.id == ROUTE)
    assert route.needs == ()
