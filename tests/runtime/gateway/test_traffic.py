"""Requests through the gateway: sticky, streamed, counted, logged; tables swapped under them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.gateway.table.table import RoutingTable
from runtime.gateway.traffic.accounting import ROWS_AN_HOUR
from tests.runtime.gateway.stage import (
    ACME,
    CHAT,
    LASTING,
    NEW,
    OLD,
    TEXT,
    Reply,
    chat,
    long,
    running,
    stage,
    table,
    until,
)

pytestmark = pytest.mark.usefixtures("serving_loop")


def test_an_answer_arrives_as_it_is_but_for_the_name_of_the_model(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            for path, body in ((CHAT, chat()), (TEXT, {"model": "acme-support", "prompt": "hi"})):
                through = await ours.send(body, path=path)
                url = ours.servers["s1"] + path
                async with ours.http.post(url, json={**body, "model": OLD}) as direct:
                    expected = json.loads(await direct.read())
                got = through.json
                assert (got.pop("id"), got.pop("created")) != (None, None)
                assert (expected.pop("id"), expected.pop("created")) != (None, None)
                assert got == expected | {"model": "acme-support"}

    asyncio.run(scenario())


def test_errors_of_a_server_are_passed_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            reply = await ours.send(chat(max_tokens=10**6))
            assert reply.status == 400
            assert "max_model_len" in reply.json["error"]["message"]

    asyncio.run(scenario())


def test_a_stream_arrives_as_it_is_generated(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.2) as ours:
            body = long(20, stream=True, stream_options={"include_usage": True})
            async with ours.http.post(
                ours.url + CHAT, json=body, headers={"Authorization": f"Bearer {ACME}"}
            ) as reply:
                assert reply.content_type == "text/event-stream"
                assert reply.headers["x-fleetctl-version"] == OLD
                first = await reply.content.readuntil(b"\n\n")
                assert running(ours) == 1  # it has begun to arrive while the server still works
                ours.replicas["s1"].pace(0)
                rest = await reply.content.read()
            events = (first + rest).decode().split("\n\n")
            assert events[-2:] == ["data: [DONE]", ""]
            assert len(events) == 25
            (row,) = ours.rows()
            assert (row["stream"], row["output_tokens"], row["status"]) == (True, 20, 200)
            assert 0 < row["first_byte_s"] < row["latency_s"]

    asyncio.run(scenario())


def test_a_version_is_drained_once_its_requests_have_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            requests = [asyncio.create_task(ours.send(long(LASTING))) for _ in range(5)]
            await until(ours, 5)
            await ours.gateways.publish(table(ours.servers, new=100, revision=2))
            assert (await ours.send(chat())).version == NEW  # new requests go elsewhere
            assert await ours.gateways.in_flight("s1", OLD) == 5  # counted across the swap
            assert await ours.gateways.in_flight("s1", NEW) == 0
            ours.replicas["s1"].pace(0)
            replies = await asyncio.gather(*requests)
            assert {reply.version for reply in replies} == {OLD}
            await until(ours, 0)

    asyncio.run(scenario())


def test_no_request_fails_or_strays_while_tables_are_swapped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", servers=2) as ours:
            swapping = True
            replies: list[Reply] = []
            probes: list[Reply] = []

            async def client(number: int) -> None:
                while swapping:
                    replies.append(await ours.send(chat(user=f"user-{number}")))

            async def prober() -> None:
                while swapping:
                    probes.append(await ours.send(chat("globex-dates")))

            clients = [asyncio.create_task(client(number)) for number in range(8)]
            probing = asyncio.create_task(prober())
            for revision in range(2, 62):
                share = (0, 10, 50, 100)[revision % 4]
                await ours.gateways.publish(table(ours.servers, new=share, revision=revision))
                seen = len(replies)
                while len(replies) <= seen + len(clients):  # noqa: ASYNC110 (clients in this loop)
                    await asyncio.sleep(0)
            swapping = False
            await asyncio.gather(*clients, probing)
            assert {reply.status for reply in replies} == {200}
            assert {reply.version for reply in replies} == {OLD, NEW}
            assert {probe.status for probe in probes} == {404}
            assert set(ours.asked) == {OLD, NEW}
            rows = ours.rows()
            assert len(rows) == len(replies) + min(len(probes), ROWS_AN_HOUR)
            assert {row["revision"] for row in rows} >= set(range(2, 62))

    asyncio.run(scenario())


def test_an_upload_in_chunks_is_a_request_like_any_other(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in json.dumps(chat()).encode():
            yield bytes([byte])

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            headers = {"Authorization": f"Bearer {ACME}", "Content-Type": "application/json"}
            async with ours.http.post(ours.url + CHAT, data=pieces(), headers=headers) as reply:
                assert reply.status == 200
                assert reply.headers["x-fleetctl-version"] == OLD

    asyncio.run(scenario())


def test_a_body_of_two_lengths_is_refused(tmp_path: Path) -> None:
    smuggled = b"POST /v1/load_lora_adapter HTTP/1.1\r\nHost: x\r\n\r\n"
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: %d\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s"
    ) % (ACME.encode(), len(smuggled) + 5, smuggled)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            port = int(ours.url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            answer = await reader.read()
            assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
            assert answer.count(b"HTTP/1.") == 1
            assert ours.asked == []
            writer.close()

    asyncio.run(scenario())


def test_each_request_leaves_one_row(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await ours.send(chat())
            await ours.send(chat("globex-dates"))
            await ours.send(b"{")
            rows = ours.rows()
            kept = [(row["client"], row["alias"], row["version"], row["status"]) for row in rows]
            assert kept == [
                ("acme", "acme-support", OLD, 200),
                ("acme", "", "", 404),
                ("acme", "", "", 400),
            ]
            served = rows[0]
            assert served["server"] == "s1"
            assert served["path"] == CHAT
            assert served["revision"] == 1
            assert served["input_tokens"] > 0
            assert served["output_tokens"] == 6
            assert served["latency_s"] >= served["first_byte_s"] > 0

    asyncio.run(scenario())


def test_a_gateway_without_a_table_answers_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await ours.gateways.publish(RoutingTable(revision=2))
            assert (await ours.send(chat())).status == 401
            assert (await ours.send(path="/healthz", method="GET", secret=None)).status == 200

    asyncio.run(scenario())
