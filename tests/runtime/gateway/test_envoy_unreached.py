"""An Envoy that takes clients and cannot be asked has not acknowledged; a stopped one is absent."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import EngineUnreachableError
from runtime.gateway.admin import admin_socket
from tests.ports import free_port
from tests.runtime.gateway.envoy_stage import ENVOY, gateways_of, in_front, needs_envoy
from tests.runtime.gateway.stage import OLD, table

pytestmark = needs_envoy
URL = {"s1": "http://127.0.0.1:9"}


def test_one_whose_socket_is_gone_holds_an_apply_up_until_it_is_stopped(tmp_path: Path) -> None:
    envoy = replace(ENVOY, listen=f"127.0.0.1:{free_port()}")

    async def scenario() -> None:
        async with in_front(tmp_path, table(URL), envoy) as ours:
            assert await ours.gateways.publish(table(URL, revision=2)) == ()
            socket = admin_socket.socket_path(ours.state, envoy)
            socket.unlink()
            later = gateways_of(ours.state, envoy)
            done = await later.publish_and_report(table(URL, revision=3))
            assert (done.acknowledged, done.absent) == ((), ())
            ((name, error),) = done.failures
            (told,) = error.diagnostics
            assert (name, told.code) == ("main", "FC6016")
            assert f"takes clients' connections on `{envoy.listen}`" in told.detail
            assert f"{socket.name}` is gone" in told.detail
            assert "end what listens" in told.hint
            with pytest.raises(EngineUnreachableError, match="cannot be told"):
                await later.in_flight("s1", OLD)
            assert "does not answer" in (await later.observe()).faults["main"].what
            ours.process.terminate()
            await ours.process.wait()
            done = await later.publish_and_report(table(URL, revision=4))
            assert (done.absent, done.failures) == (("main",), ())
            assert await later.in_flight("s1", OLD) == 0
            await later.close()

    asyncio.run(scenario())
