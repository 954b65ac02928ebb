"""A gateway that runs and cannot be reached never counts as a gateway that does not run."""

import asyncio
import os
import resource
from pathlib import Path

import pytest

from fleet.errors import EngineUnreachableError
from fleet.spec import GatewaySpec
from runtime.gateway.admin import admin_socket
from runtime.gateway.control import faults, supervisor
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from runtime.rollback.publish import Written
from tests.ports import free_port
from tests.runtime.gateway.sockets import at_most
from tests.runtime.gateway.stage import LASTING, MAIN, NEW, OLD, chat, long, stage, table, until


@pytest.mark.parametrize("replaced", [False, True])
def test_a_gateway_whose_socket_is_lost_has_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, replaced: bool
) -> None:
    monkeypatch.setattr(faults, "END_S", 0.0)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            request = asyncio.create_task(ours.send(long(LASTING)))
            await until(ours, 1)
            path = admin_socket.socket_path(ours.state, MAIN)
            path.unlink()
            if replaced:
                path.mkdir()
            later = LocalGateways(ours.state, {"main": MAIN})
            before, after = table(ours.servers), table(ours.servers, new=100, revision=2)
            done = await later.publish_and_report(after)
            assert (done.acknowledged, done.absent) == ((), ())
            (told,) = Written(after, before, done).failures
            assert f"Process {os.getpid()}" in told
            assert (f"`{path}` is gone" in told) is not replaced
            assert "gateway stop main && fleetctl gateway start main" in told
            with pytest.raises(EngineUnreachableError, match="with the routes that it had"):
                await later.in_flight("s1", OLD)
            assert "does not answer" in (await later.observe()).faults["main"].what
            ours.replicas["s1"].pace(0)
            assert (await request).version == OLD
            assert (await ours.send(chat())).version == OLD
            await later.close()

    asyncio.run(scenario())


def test_one_that_has_ended_is_absent(tmp_path: Path) -> None:
    async def scenario() -> None:
        gateways = LocalGateways(tmp_path, {"main": MAIN})
        async with serving(tmp_path, MAIN) as url:
            assert url.startswith("http://127.0.0.1:")
        done = await gateways.publish_and_report(table({"s1": "http://127.0.0.1:9"}))
        assert (done.absent, done.failures) == (("main",), ())
        assert await gateways.in_flight("s1", NEW) == 0
        assert await gateways.shares(["main"]) == ()
        await gateways.close()

    asyncio.run(scenario())


def test_a_process_raises_its_limit_on_open_files(tmp_path: Path) -> None:
    gateway = GatewaySpec("main", f"127.0.0.1:{free_port()}", "")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with at_most(256):
        found = supervisor.start(tmp_path, gateway)
    try:
        assert resource.prlimit(found.pid, resource.RLIMIT_NOFILE) == (most, most)
    finally:
        supervisor.stop(tmp_path, "main")
