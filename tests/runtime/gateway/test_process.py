"""The gateway as a process of its own: what a signal does to running requests and rows."""

import asyncio
import json
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from fleet.errors import EngineRejectedError
from fleet.spec import GatewaySpec
from runtime.gateway.control import supervisor
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.control.supervisor import GatewayProcess, find_process
from tests.ports import free_port
from tests.runtime.gateway.admin_side import admin_of
from tests.runtime.gateway.sockets import post, raw
from tests.runtime.gateway.stage import ACME, CHAT, LASTING, NEW, OLD, chat, long, replica, table

pytestmark = pytest.mark.usefixtures("serving_loop")
HEADERS = {"Authorization": f"Bearer {ACME}"}


async def started(state: Path, url: str) -> tuple[GatewayProcess, LocalGateways]:
    gateway = GatewaySpec("main", f"127.0.0.1:{free_port()}", "")
    gateways = LocalGateways(state, {"main": gateway})
    await gateways.publish(table({"s1": url}))
    return await asyncio.to_thread(supervisor.start, state, gateway), gateways


async def readiness_to_end(state: Path) -> None:
    async with admin_of(state) as admin:
        while True:
            await admin.get("/-/readyz")


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def test_told_to_stop_it_finishes_the_requests_that_run(tmp_path: Path) -> None:
    state = tmp_path / ".fleetctl"

    async def scenario() -> None:
        async with (
            replica(OLD, NEW, token_seconds=0.01) as server,
            aiohttp.ClientSession() as http,
        ):
            running, gateways = await started(state, server.url)
            request = asyncio.create_task(
                http.post(
                    running.url + CHAT,
                    json=long(LASTING),
                    headers=HEADERS,
                )
            )
            async with asyncio.timeout(60):
                while not await gateways.in_flight("s1", OLD):  # noqa: ASYNC110 (over HTTP)
                    await asyncio.sleep(0)
            async with admin_of(state) as admin:
                assert await admin.get("/-/readyz") == {"ready": True}
            stopping = asyncio.create_task(asyncio.to_thread(supervisor.stop, state, "main"))
            with pytest.raises(EngineRejectedError, match="503"):
                await readiness_to_end(state)
            assert not request.done()
            server.pace(0)
            assert await stopping
            reply = await request
            assert reply.status == 200
            assert (await reply.json())["usage"]["completion_tokens"] == LASTING
            assert find_process(state, "main") is None
            await gateways.close()

    asyncio.run(scenario())


def test_killed_under_load_it_has_logged_all_that_it_answered(tmp_path: Path) -> None:
    state = tmp_path / ".fleetctl"

    async def scenario() -> None:
        async with replica(OLD, NEW) as server, aiohttp.ClientSession() as http:
            running, gateways = await started(state, server.url)
            answered = 0

            async def client(number: int) -> None:
                nonlocal answered
                body = chat(user=f"user-{number}", stream=bool(number % 2))
                try:
                    while True:
                        async with http.post(
                            running.url + CHAT, json=body, headers=HEADERS
                        ) as reply:
                            content = await reply.read()
                            assert reply.status == 200
                            assert content
                            answered += 1
                            if answered == 200:
                                os.kill(running.pid, signal.SIGKILL)
                except aiohttp.ClientError:
                    return

            await asyncio.gather(*(client(number) for number in range(8)))
            text = (state / "gateways/main/usage.jsonl").read_text(encoding="utf-8")
            rows = [json.loads(line) for line in text.splitlines()]
            assert len(rows) >= answered >= 200
            assert {row["status"] for row in rows} == {200}
            await gateways.close()

    asyncio.run(scenario())


def test_told_to_stop_it_takes_the_body_that_is_on_its_way(tmp_path: Path) -> None:
    state = tmp_path / ".fleetctl"

    async def scenario() -> None:
        async with replica(OLD, NEW) as server:
            running, gateways = await started(state, server.url)
            port = int(running.url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            request = post(raw(), "Expect: 100-continue")
            writer.write(request[:-10])
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            stopping = asyncio.create_task(asyncio.to_thread(supervisor.stop, state, "main"))
            with pytest.raises(EngineRejectedError, match="503"):
                await readiness_to_end(state)
            async with asyncio.timeout(60):
                while await listens(port):  # noqa: ASYNC110 (another process)
                    await asyncio.sleep(0.01)
            writer.write(request[-10:])
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer.lower()
            assert await stopping
            text = (state / "gateways/main/usage.jsonl").read_text(encoding="utf-8")
            assert [json.loads(line)["status"] for line in text.splitlines()] == [200]
            writer.close()
            await gateways.close()

    asyncio.run(scenario())


def test_told_twice_to_stop_it_waits_for_no_answer(tmp_path: Path) -> None:
    state = tmp_path / ".fleetctl"

    async def scenario() -> None:
        async with (
            replica(OLD, NEW, token_seconds=0.01) as server,
            aiohttp.ClientSession() as http,
        ):
            running, gateways = await started(state, server.url)
            body = long(LASTING)
            request = asyncio.create_task(http.post(running.url + CHAT, json=body, headers=HEADERS))
            async with asyncio.timeout(60):
                while not await gateways.in_flight("s1", OLD):  # noqa: ASYNC110 (over HTTP)
                    await asyncio.sleep(0)
            os.kill(running.pid, signal.SIGTERM)
            with pytest.raises(EngineRejectedError, match="503"):
                await readiness_to_end(state)
            os.kill(running.pid, signal.SIGINT)
            with pytest.raises(aiohttp.ClientError):  # the server has not answered
                await request
            async with asyncio.timeout(60):
                while find_process(state, "main"):  # noqa: ASYNC110 (a process)
                    await asyncio.sleep(0)
            text = (state / "gateways/main/usage.jsonl").read_text(encoding="utf-8")
            assert [json.loads(line)["status"] for line in text.splitlines()] == [499]
            await gateways.close()

    asyncio.run(scenario())
