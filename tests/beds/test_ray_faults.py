"""Faults of a Ray cluster, on the engine: what is refused, what is unknown, what goes on."""

import asyncio
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.errors import EngineError, EngineRejectedError, EngineUnreachableError
from fleet.names import adapter_address
from fleet.resources import Server, State
from runtime.engines.protocol import Engine
from runtime.engines.ray.engine import RayEngine
from runtime.engines.recognition import FleetMark
from runtime.state_folder import STORE
from tests.beds.counted_requests import counted
from tests.beds.ray_bench import NODES, TOKEN, fake_python, trust_nodes
from tests.beds.rays import HEAD, running

if TYPE_CHECKING:
    from tests.beds.ray_bench import RayBench

pytestmark = [pytest.mark.ray, pytest.mark.proof]


@pytest.fixture
def shared_bench(ray_bench: "RayBench") -> "RayBench":
    """One server for the whole file."""
    return ray_bench


async def do(name: str, server: Server, engine: Engine) -> None:
    await getattr(engine, name)(server)


def code_of(error: EngineError) -> str:
    return str(error.diagnostics[0].code)


def test_a_launch_that_ends_at_once_is_told_with_its_log_and_taken_back(
    ray_bench: "RayBench",
) -> None:
    bench, fail = ray_bench, ray_bench.python.with_name("fail")
    bench.run(lambda engine: engine.stop(bench.server.name))
    fail.touch()
    try:
        with pytest.raises(EngineError, match="no room for the base") as caught:
            bench.run(lambda engine: engine.start(bench.server))
    finally:
        fail.unlink()
    assert code_of(caught.value) == "FC4012"
    seen = bench.observe()
    assert (seen.resources, seen.unknown_servers, seen.ended, seen.notes) == ({}, {}, {}, ())


def test_an_interpreter_that_is_not_there_is_told(ray_bench: "RayBench") -> None:
    host = replace(ray_bench.host, python="/nowhere/bin/python")
    with pytest.raises(EngineError, match="No such file or directory: '/nowhere") as caught:
        replace(ray_bench, host=host).run(lambda engine: engine.start(ray_bench.server))
    assert code_of(caught.value) == "FC4125"


def test_all_hosts_of_a_cluster_cost_two_requests(ready: "RayBench") -> None:
    async def looks() -> tuple[list[str], list[State]]:
        async with counted(HEAD, 8265) as requests:
            found = (replace(ready.on(node).host, cluster=requests.url) for node in (1, 2))
            engines = [replace(ready, host=host).engine() for host in found]
            states = await asyncio.gather(*(engine.observe() for engine in engines))
            for engine in engines:
                await engine.close()
            return sorted(requests.seen), states

    seen, (first, second) = asyncio.run(looks())
    assert seen == ["GET /api/v0/actors", "GET /api/v0/nodes"]
    assert set(first.servers()) == {ready.server.name}
    assert second.resources == {}


def test_an_actor_of_a_fleet_with_another_id_is_left_alone(ready: "RayBench") -> None:
    async def use() -> None:
        memory = ready.state_dir / "other.json"
        ids = ("a" * 12, "b" * 12)
        ours, others = (
            RayEngine(ready.on(2).host, ready.root, ready.state_dir / STORE, memory,
                      FleetMark("bench", drawn), ready.secret)
            for drawn in ids
        )  # fmt: skip
        server = ready.on(2).server
        await ours.start(server)
        seen = await others.observe()
        told = f"Actor {server.name} serves fleet `bench` (id {ids[0]}), not fleet `bench` "
        assert (seen.resources, seen.notes) == ({}, (f"{told}(id {ids[1]}); it is left alone.",))
        for refused in (others.start(server), others.check_start(server)):
            with pytest.raises(EngineRejectedError) as caught:
                await refused
            assert code_of(caught.value) == "FC4101"
        await others.stop(server.name)
        assert set((await ours.observe()).servers()) == {server.name}
        await ours.stop(server.name)

    asyncio.run(use())


def test_another_launch_at_the_address_has_another_key_and_gets_no_load(ready: "RayBench") -> None:
    name, folder = ready.adapter("acme")
    record = ready.record()
    words = [
        word.replace(record.served_launch, "0" * 12) if word.startswith("fleetctl-") else word
        for word in record.arguments
    ]
    newer = record.model_copy(update={"arguments": tuple(words), "launch": "0" * 32})

    async def use(engine: Engine) -> None:
        with pytest.raises(EngineRejectedError) as caught:
            await engine.load(ready.server.name, name, folder)
        assert code_of(caught.value) == "FC4024"

    ready.records.write(newer)
    try:
        ready.run(use)
    finally:
        ready.records.write(record)


def test_without_the_head_servers_are_known_loaded_and_not_stopped(ready: "RayBench") -> None:
    name, folder = ready.adapter("acme")
    away = replace(ready, host=replace(ready.host, cluster=f"http://{HEAD}:9"))

    async def use(engine: Engine) -> None:
        await engine.load(ready.server.name, name, folder)
        seen = await engine.observe()
        assert set(seen.servers()) == {ready.server.name}
        assert set(seen.adapters()) == {adapter_address(name, ready.server.name)}
        assert [note[:38] for note in seen.notes] == ["The cluster of host node1 is not reach"]
        await engine.unload(ready.server.name, name)
        for change in (engine.stop(ready.server.name), engine.start(ready.server)):
            with pytest.raises(EngineUnreachableError) as caught:
                await change
            assert code_of(caught.value) == "FC4001"

    away.run(use)
    away = replace(away, host=away.on(2).host)
    seen = replace(away, host=replace(away.host, cluster=f"http://{HEAD}:9")).observe()
    assert set(seen.unknown_servers) == {"tiny-node2-cpu0"}


def test_a_token_that_is_wrong_or_missing_is_told(
    ray_bench: "RayBench", monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = TOKEN.removeprefix("env:")
    for token, says in (("0" * 64, "refuses the token"), ("", "is empty or not readable here")):
        monkeypatch.setenv(variable, token)
        with pytest.raises(EngineError, match=says) as caught:
            ray_bench.run(lambda engine: engine.check_start(ray_bench.on(2).server))
        assert code_of(caught.value) == "FC4121"


def test_an_address_that_nobody_trusts_is_not_waited_for(ray_bench: "RayBench") -> None:
    bench = ray_bench.on(2)
    bench = replace(bench, server=replace(bench.server, port=9))
    for name in ("check_start", "start"):
        with pytest.raises(EngineUnreachableError, match="not trusted") as caught:
            bench.run(partial(do, name, bench.server))
        assert code_of(caught.value) == "FC1270"


def test_a_shared_folder_that_is_not_there_is_told(ray_bench: "RayBench") -> None:
    bench = ray_bench.on(2)
    bench = replace(bench, host=replace(bench.host, store="/nowhere/shared"))
    with pytest.raises(EngineError, match="same path") as caught:
        bench.run(lambda engine: engine.check_start(bench.server))
    assert code_of(caught.value) == "FC4124"


def test_a_killed_actor_takes_its_server_along_and_ray_starts_both(ready: "RayBench") -> None:
    before = ready.record()
    old = ready.server_pids()
    ready.bed.kill(1, "ray::Server")
    while {*old} & {*ready.server_pids()}:
        os.sched_yield()
    ready.run(lambda engine: engine.start(ready.server))
    seen = ready.observe()
    assert (seen.launches, seen.unknown_servers) == (
        {ready.server.name: before.served_launch},
        {},
    )


def test_a_server_of_a_lost_node_is_absent_and_none_is_started_there(ready: "RayBench") -> None:
    bench = ready.on(2)
    bench.run(lambda engine: engine.start(bench.server))
    before = bench.observe()
    assert set(before.servers()) == {bench.server.name}
    bench.bed.kill(2, "raylet/raylet")
    seen = bench.observe()
    while "is DEAD, by Ray" not in " ".join(seen.notes):
        seen = bench.observe()
    assert (seen.resources, seen.unknown_servers) == ({}, {})
    assert seen.ended == before.launches
    assert seen.away_hosts == {bench.host.name: f"Ray says of node {bench.host.address}: DEAD"}
    with pytest.raises(EngineUnreachableError, match="Ray says of node") as caught:
        bench.run(lambda engine: engine.start(bench.server))
    assert code_of(caught.value) == "FC4120"


def test_a_node_that_comes_back_starts_what_no_apply_has_taken_away(ready: "RayBench") -> None:
    bench, back = ready.on(2), ready.on(2).bed
    back.kill(2)
    back.start(2)
    bench.run(lambda engine: engine.start(bench.server))
    assert set(bench.observe().servers()) == {bench.server.name}
    back.kill(2)
    while "is DEAD, by Ray" not in " ".join(bench.observe().notes):
        continue
    bench.run(lambda engine: engine.keep_for_restart(State(), ()))
    assert bench.observe().ended == {}
    back.start(2)
    alive = "/api/v0/actors?filter_keys=state&filter_predicates=!%3D&filter_values=DEAD"
    assert bench.server.name not in bench.ask(alive)
    assert bench.server_pids() == []


def test_a_cluster_that_asks_for_no_token_gets_no_job_unless_it_is_declared_so(
    ready: "RayBench", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with running(1, is_open=True) as bed:
        trust_nodes(NODES, (ready.server.port,))
        store = tmp_path / "shared"
        store.mkdir()
        python = str(fake_python(tmp_path / "fake"))
        host = replace(ready.host, store=str(store), python=python)
        refused = replace(ready, bed=bed, host=host)
        for name in ("check_start", "start"):
            with pytest.raises(EngineRejectedError) as caught:
                refused.run(partial(do, name, ready.server))
            assert code_of(caught.value) == "FC4122"
        agreed = replace(refused, host=replace(host, token=""))
        agreed.run(lambda engine: engine.start(ready.server))
        assert set(agreed.observe().servers()) == {ready.server.name}
        agreed.run(lambda engine: engine.stop(ready.server.name))
