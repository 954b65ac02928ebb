"""A gateway that runs and cannot be reached is never taken for one that does not run."""

import asyncio
import os
import resource
from pathlib import Path

import pytest

from fleet.errors import EngineError, EngineUnreachableError
from fleet.spec import GatewaySpec
from runtime.gateway import places, processes, unreached
from runtime.gateway.control import LocalGateways
from runtime.gateway.serving import serving
from runtime.rollback.publish import Written
from tests.ports import free_port
from tests.runtime.gateway.sockets import at_most
from tests.runtime.gateway.stage import LASTING, MAIN, NEW, OLD, chat, long, stage, table, until


def test_a_gateway_whose_socket_is_lost_for_good_has_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreached, "COMES_BACK_S", 0.0)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            request = asyncio.create_task(ours.send(long(LASTING)))
            await until(ours, 1)
            places.socket_path(ours.state, MAIN).unlink()
            places.socket_path(ours.state, MAIN).mkdir()  # in its place
            later = LocalGateways(ours.state, {"main": MAIN})
            before, after = table(ours.servers), table(ours.servers, new=100, revision=2)
            done = await later.publish_and_report(after)
            assert (done.acknowledged, done.absent) == ((), ())
            (told,) = Written(after, before, done).failures
            assert f"Process {os.getpid()}" in told
            assert "gateway stop main && fleetctl gateway start main" in told
            with pytest.raises(EngineUnreachableError, match="with the routes that it had"):
                await later.in_flight("s1", OLD)
            assert "does not answer" in (await later.faults())["main"].what
            ours.replicas["s1"].pace(0)
            assert (await request).version == OLD
            assert (await ours.send(chat())).version == OLD
            await later.close()

    asyncio.run(scenario())


def test_one_that_has_ended_is_absent(tmp_path: Path) -> None:
    async def scenario() -> None:
        gateways = LocalGateways(tmp_path, {"main": MAIN})
        async with serving(tmp_path, MAIN):
            pass
        done = await gateways.publish_and_report(table({"s1": "http://127.0.0.1:9"}))
        assert (done.absent, done.failures) == (("main",), ())
        assert await gateways.in_flight("s1", NEW) == 0
        await gateways.close()

    asyncio.run(scenario())


def test_a_process_raises_its_limit_on_open_files(tmp_path: Path) -> None:
    gateway = GatewaySpec("main", f"127.0.0.1:{free_port()}", "")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with at_most(256):
        found = processes.start(tmp_path, gateway)
    try:
        assert resource.prlimit(found.pid, resource.RLIMIT_NOFILE) == (most, most)
    finally:
        processes.stop(tmp_path, "main")


def test_a_table_is_not_handed_over_on_a_socket_in_a_folder_of_anybodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_SHORT", tmp_path)
    state = tmp_path / ("long" * 30) / ".fleetctl"
    path = places.socket_path(state, MAIN)
    given: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        given.append(await reader.read(1))
        writer.close()

    async def scenario() -> None:
        path.parent.mkdir()
        path.parent.chmod(0o755)
        server = await asyncio.start_unix_server(keep, path)
        gateways = LocalGateways(state, {"main": MAIN})
        done = await gateways.publish_and_report(table({"s1": "http://127.0.0.1:9"}))
        ((name, error),) = done.failures
        assert (name, error.diagnostics[0].code) == ("main", "FC6001")
        with pytest.raises(EngineError, match="must be a folder of yours"):
            await gateways.in_flight("s1", OLD)
        await gateways.close()
        server.close()

    asyncio.run(scenario())
    assert given == []
