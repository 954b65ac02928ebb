"""An apply checks its end before its beginning: nothing is taken for what cannot be done."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import ConfigError, EngineError, EngineRejectedError, LibraryError, problem
from fleet.spec import FleetSpec
from plans.reports.apply_progress import line
from runtime.execute import run
from runtime.gateway.admin.protocol import GatewayStatus
from tests.fleet.planning.builders import base, digest_of
from tests.runtime.execute.bench import Bench
from tests.runtime.execute.small_fleet import FAQ, NEW, OLD, declared, kinds, on, verdicts

SERVER = "tiny-laptop-cpu0"
OTHER_BYTES = "f" * 64


def without(*digests: str) -> Callable[[str, str], Path]:
    """Return a library that lacks the bytes of some digests."""

    def publish(name: str, digest: str) -> Path:
        if digest in digests:
            raise LibraryError(problem("FC3002", "Adapter bytes are not those of the lock", name))
        return Path("/store") / digest

    return publish


def repinned(fleet: FleetSpec, name: str) -> FleetSpec:
    """Return a fleet whose lock has another digest for a version."""
    facts = replace(fleet.versions[name], digest=OTHER_BYTES)
    return replace(fleet, versions={**fleet.versions, name: facts})


@pytest.mark.parametrize("replicas", [1, 2])
def test_other_bytes_under_a_served_name_change_nothing(bench: Bench, replicas: int) -> None:
    good = declared(OLD, FAQ, replicas=replicas)
    asyncio.run(bench.apply(good))
    table, paths = bench.gateways.table, dict(bench.engines["laptop"].paths)
    with pytest.raises(ConfigError, match="other bytes") as refused:
        asyncio.run(bench.apply(repinned(good, OLD), publish=without(OTHER_BYTES)))
    assert [problem.code for problem in refused.value.diagnostics] == ["FC1281"]
    assert bench.engines["laptop"].paths == paths
    assert bench.gateways.table.aliases == table.aliases
    assert asyncio.run(bench.plan(good)).changes == ()


def test_a_new_version_whose_bytes_are_not_here_leaves_the_others_serving(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD)))
    outcome = asyncio.run(bench.apply(declared(NEW, FAQ), publish=without(digest_of(NEW))))
    assert outcome.exit_code == 4
    assert {"failed", "blocked"} < set(verdicts(outcome).values())
    assert bench.shares("acme-support") == {"1.0.0": 100}
    assert bench.shares("birch-faq") == {"1.0.0": 100}
    assert bench.engines["laptop"].paths[SERVER, OLD] == f"/store/{digest_of(OLD)}"


def test_a_server_does_not_restart_without_the_bytes_that_it_holds(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    boots = dict(bench.engines["laptop"].boots)
    flags = replace(declared(OLD, FAQ), bases={"tiny": base(slots=32)})
    outcome = asyncio.run(bench.apply(flags, publish=without(digest_of(FAQ))))
    assert outcome.exit_code == 4
    assert bench.engines["laptop"].boots == boots
    assert (SERVER, FAQ) in bench.engines["laptop"].paths
    assert verdicts(outcome)[f"stop server/{SERVER}"] == "blocked"
    assert asyncio.run(bench.apply(flags)).exit_code == 0
    assert bench.engines["laptop"].boots != boots


def test_a_taken_port_is_found_before_the_old_server_stops(bench: Bench) -> None:
    taken = EngineError(problem("FC4011", "A port is taken", "By another."))
    with bench.faults(on(f"check start {SERVER}", taken)):
        outcome = asyncio.run(bench.apply(declared(OLD, FAQ)))
    assert outcome.exit_code == 4
    assert verdicts(outcome)[f"start server/{SERVER}"] == "failed"
    assert bench.engines["laptop"].servers == {}
    assert kinds(bench, f"start server/{SERVER}") == ["step_failed"]
    assert asyncio.run(bench.apply(declared(OLD, FAQ))).exit_code == 0


def test_a_server_that_ended_since_the_plan_was_made_takes_nothing_along(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    plan = asyncio.run(bench.plan(declared(NEW, FAQ)))
    bench.engines["laptop"].crash(SERVER)
    table = bench.gateways.table.aliases
    hosts = {SERVER: "laptop"}
    outcome = asyncio.run(bench.apply(declared(NEW, FAQ), plan=plan, hosts=hosts))
    assert outcome.exit_code == 4
    load = outcome.results[f"load adapter/{NEW}@{SERVER}"]
    assert load.diagnostics[0].code == "FC5160"
    assert bench.gateways.table.aliases == table


def test_a_route_that_not_every_gateway_would_acknowledge_is_not_begun(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))

    async def hung() -> tuple[GatewayStatus, ...]:
        return (GatewayStatus("main", problem="it does not answer"),)

    monkeypatch.setattr(bench.gateways, "statuses", hung)
    outcome = asyncio.run(bench.apply(declared(NEW, FAQ)))
    assert outcome.exit_code == 4
    found = outcome.results["set route/acme-support"]
    assert found.diagnostics[0].code == "FC5161"
    assert (SERVER, NEW) not in bench.engines["laptop"].paths
    assert bench.shares("acme-support") == {"1.0.0": 100}


def test_a_server_that_fails_in_the_middle_leaves_the_alias_served(bench: Bench) -> None:
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    died = EngineRejectedError(problem("T", "Died", "It died."), status=500)
    with bench.faults(on(f"before load {NEW}", died)):
        outcome = asyncio.run(bench.apply(declared(NEW, FAQ)))
    assert outcome.exit_code == 4
    assert bench.shares("acme-support") == {"1.0.0": 100}
    assert (SERVER, OLD) in bench.engines["laptop"].paths


def test_a_check_that_takes_long_says_what_it_checks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "TOLD_AFTER_S", 0.0)
    asyncio.run(bench.apply(declared(OLD, FAQ)))
    texts = [line(event) for event in bench.events if event.type == "checking"]
    assert texts == ["Checks 2 adapters and 1 port before the first step"]
