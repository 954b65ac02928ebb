"""How a plan is carried out: checked, journaled, in lanes, and verified."""

import asyncio
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleet.errors import EngineError, EngineRejectedError, LibraryError, problem
from fleet.history import History
from fleet.names import Address, route_address
from fleet.plan import Plan
from fleet.planning import DriftAction, classify_drift
from fleet.resources import LoadedAdapter, Resource, Route, Share, State
from plans.reports.apply_progress import line, record
from runtime.execute.context import Timings
from runtime.execute.run import keep_for_restart
from runtime.gateway.table.table import RoutingTable
from tests.runtime.execute.bench import Bench, MemoryEngine
from tests.runtime.execute.small_fleet import FAQ, NEW, OLD, declared, kinds, on, verdicts


def test_a_new_fleet_is_brought_up_and_a_second_apply_does_nothing(bench: Bench) -> None:
    first = asyncio.run(bench.apply(declared(OLD, FAQ)))
    assert (first.exit_code, first.due, first.unconverged) == (0, 0, ())
    assert set(verdicts(first).values()) == {"done"}
    second = asyncio.run(bench.apply(declared(OLD, FAQ)))
    assert (second.exit_code, second.results) == (0, {})


def test_the_same_plan_file_applied_twice_adopts_what_is_there(bench: Bench) -> None:
    plan = asyncio.run(bench.plan(declared(OLD)))
    asyncio.run(bench.apply(declared(OLD), plan=plan))
    again = asyncio.run(bench.apply(declared(OLD), plan=plan))
    smoke = f"smoke adapter/{OLD}@tiny-laptop-cpu0"
    assert again.exit_code == 0
    found = verdicts(again)
    assert found.pop(smoke) == "done"
    assert set(found.values()) == {"adopted"}


@dataclass
class Keeping(MemoryEngine):
    kept: frozenset[Address] = frozenset()

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        assert {*kept} <= live.resources.keys()
        self.kept = frozenset(kept)


def test_a_restart_brings_back_what_is_established_or_routed_and_no_others(bench: Bench) -> None:
    """Another checkout has loaded what a route names here and no entry does."""
    loaded = {name: LoadedAdapter(name, "s", "ab", "/store/ab") for name in (OLD, NEW, FAQ)}
    route = Route("acme-support", (Share(NEW, 100, ("s",)),), "salt")
    resources: list[Resource] = [*loaded.values(), route]
    live = State({resource.address: resource for resource in resources})
    engine = Keeping("laptop", lambda _: None, bench.gateways)
    known = History(established={loaded[OLD].address: loaded[OLD]})
    asyncio.run(keep_for_restart({"laptop": engine}, live, known))
    assert engine.kept == {loaded[OLD].address, loaded[NEW].address}


def test_what_is_begun_is_durable_before_it_is_done(bench: Bench) -> None:
    with bench.faults(lambda _number, _label: None):
        asyncio.run(bench.apply(declared(OLD, FAQ)))
    passed = bench.passed
    for name in (OLD, FAQ):
        label = f"{name}@tiny-laptop-cpu0"
        begins, ends = f"step_started load adapter/{label}", f"step_finished load adapter/{label}"
        before = next(each for each in passed if "after append" in each and begins in each)
        after = next(each for each in passed if "before append" in each and ends in each)
        done = passed.index(f"before load {label}")
        assert passed.index(before) < done < passed.index(after)


def test_a_rejected_step_stops_its_branch_and_the_rest_goes_on(bench: Bench) -> None:
    rejected = EngineRejectedError(problem("T", "Refused", "It is refused."), status=400)
    with bench.faults(on(f"before load {OLD}", rejected)):
        outcome = asyncio.run(bench.apply(declared(OLD, FAQ)))
    found = verdicts(outcome)
    assert outcome.exit_code == 4
    assert found[f"load adapter/{OLD}@tiny-laptop-cpu0"] == "failed"
    assert found[f"smoke adapter/{OLD}@tiny-laptop-cpu0"] == "blocked"
    assert found["set route/acme-support"] == "blocked"
    assert found["set route/birch-faq"] == "done"
    assert bench.shares("birch-faq") == {"1.0.0": 100}
    assert "acme-support" not in bench.gateways.table.aliases
    assert route_address("acme-support") in outcome.unconverged
    assert kinds(bench, f"load adapter/{OLD}@tiny-laptop-cpu0") == ["step_started", "step_failed"]
    assert asyncio.run(bench.apply(declared(OLD, FAQ))).exit_code == 0


BROKEN_PROXY = EngineRejectedError(problem("T", "Refused", "502: Bad Gateway."), status=502)


def test_a_load_that_took_effect_behind_a_broken_proxy_is_done(bench: Bench) -> None:
    with bench.faults(on(f"after load {OLD}", BROKEN_PROXY)):
        outcome = asyncio.run(bench.apply(declared(OLD, FAQ)))
    assert outcome.exit_code == 0
    assert verdicts(outcome)[f"load adapter/{OLD}@tiny-laptop-cpu0"] == "done"


def test_a_load_that_takes_effect_after_its_failure_is_ours_from_the_next_apply_on(
    bench: Bench,
) -> None:
    with bench.faults(on(f"before load {OLD}", BROKEN_PROXY)):
        assert asyncio.run(bench.apply(declared(OLD, FAQ))).exit_code == 4
    engine = bench.server("tiny-laptop-cpu0")
    place = ("tiny-laptop-cpu0", OLD)
    engine.paths[place] = f"/store/{declared(OLD, FAQ).versions[OLD].digest}"
    assert asyncio.run(bench.apply(declared(OLD, FAQ))).exit_code == 0
    del engine.paths[place]
    live = asyncio.run(engine.observe())
    (cause,) = [
        each for each in classify_drift(bench.history(), live) if OLD in str(each.addresses)
    ]
    assert cause.remedy is DriftAction.HEAL


def test_wrong_bytes_in_the_library_are_never_loaded(bench: Bench) -> None:
    def publish(name: str, digest: str) -> Path:
        if name == OLD:
            raise LibraryError(problem("FC3002", "Adapter bytes are not those of the lock", name))
        return Path("/store") / digest

    outcome = asyncio.run(bench.apply(declared(OLD, FAQ), publish=publish))
    assert outcome.exit_code == 4
    assert list(bench.engines["laptop"].paths) == [("tiny-laptop-cpu0", FAQ)]


def test_events_have_no_gaps_and_tell_how_every_step_ended(bench: Bench) -> None:
    outcome = asyncio.run(bench.apply(declared(OLD, FAQ)))
    lines = [
        json.loads(record(each, number, bench.now, "run", "plan"))
        for number, each in enumerate(bench.events, start=1)
    ]
    assert [each["seq"] for each in lines] == list(range(1, len(lines) + 1))
    assert {each["v"] for each in lines} == {1}
    done = [each["step"] for each in lines if each["type"] == "step_done"]
    assert sorted(done) == sorted(outcome.results)
    assert lines[-1]["type"] == "run_complete"
    assert lines[-1]["exit_code"] == 0
    shown = [text for each in bench.events if (text := line(each))]
    assert shown[-1].endswith("The fleet is as planned.")
    assert f"[{len(done)}/{len(done)}]" in "".join(shown)


def test_a_long_step_says_that_it_still_runs(bench: Bench) -> None:
    bench.timings = Timings(heartbeat=0.0, drain_poll=0.0, refresh=1e9)
    asyncio.run(bench.apply(declared(OLD)))
    assert "step_progress" in {each.type for each in bench.events}


def test_the_server_that_comes_next_is_looked_at_while_another_is_worked_on(bench: Bench) -> None:
    bench.timings = replace(bench.timings, lanes=1)
    looks: list[int] = []

    def note(_number: int, label: str) -> None:
        if label.startswith("before start"):
            looks.append(bench.engines["laptop"].observed)

    with bench.faults(note):
        asyncio.run(bench.apply(declared(OLD, replicas=2)))
    assert looks == [2, 3]  # a start is looked at once it is done


def test_a_server_of_no_declared_host_fails_its_own_branch(bench: Bench) -> None:
    plan: Plan = asyncio.run(bench.plan(declared(OLD)))
    asyncio.run(bench.apply(declared(OLD), plan=plan))
    later = asyncio.run(bench.plan(declared(NEW)))
    bench.engines["laptop"].crash("tiny-laptop-cpu0")
    outcome = asyncio.run(bench.apply(declared(NEW), plan=later))
    assert outcome.exit_code == 4
    assert bench.shares("acme-support") == {"1.0.0": 100}


@pytest.mark.parametrize(("mute", "code", "exit_code"), [(False, "FC5115", 5), (True, "FC5153", 4)])
def test_what_a_gateway_serves_or_may_serve_is_not_unloaded(
    bench: Bench, *, mute: bool, code: str, exit_code: int
) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    before = bench.gateways.table

    async def served_tables() -> tuple[RoutingTable, ...]:
        if mute:
            raise EngineError(problem("T", "No answer", "Gateway `main` says nothing."))
        return bench.gateways.table, before

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.gateways, "served_tables", served_tables)
        outcome = asyncio.run(bench.apply(declared(OLD)))
    drain = outcome.results[f"drain adapter/{FAQ}@tiny-laptop-cpu0"]
    assert ([each.code for each in drain.diagnostics], outcome.exit_code) == ([code], exit_code)
    assert ("tiny-laptop-cpu0", FAQ) in bench.engines["laptop"].paths
    assert asyncio.run(bench.apply(declared(OLD))).exit_code == 0
    assert ("tiny-laptop-cpu0", FAQ) not in bench.engines["laptop"].paths


@pytest.mark.parametrize("doubted", [True, False])
def test_a_long_answer_keeps_no_version_of_doubtful_bytes_from_being_loaded_again(
    bench: Bench, *, doubted: bool
) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    server = "tiny-laptop-cpu0"
    engine, bench.timings = bench.engines["laptop"], replace(bench.timings, doubted_drain=0.0)
    right = engine.paths[server, FAQ]
    engine.paths[server, FAQ] = "/elsewhere" if doubted else f"/store/{'e' * 64}"
    plan = asyncio.run(bench.plan(declared(OLD, FAQ)))
    bench.gateways.busy[server, FAQ] = 50 if doubted else 3
    outcome = asyncio.run(bench.apply(declared(OLD, FAQ), plan=plan))
    assert outcome.exit_code == 0
    assert engine.paths[server, FAQ] == right
    assert bench.gateways.busy[server, FAQ] == (49 if doubted else 0)
