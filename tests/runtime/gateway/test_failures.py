"""Servers that are down, restarted or break off, and clients that leave."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import RoutingTable
from tests.runtime.gateway.stage import (
    ACME,
    CHAT,
    EVENT,
    HEAD,
    LASTING,
    MAIN,
    chat,
    long,
    raw_server,
    running,
    stage,
    table,
    until,
)

pytestmark = pytest.mark.usefixtures("serving_loop")


@pytest.mark.parametrize(
    "answer", [b"", HEAD % b"text/event-stream" + EVENT], ids=["waiting", "in a stream"]
)
def test_a_client_that_leaves_ends_its_request_on_the_server(tmp_path: Path, answer: bytes) -> None:
    async def scenario() -> None:
        async with (
            stage(tmp_path / ".fleetctl") as ours,
            raw_server(answer, waits=True) as (url, seen),
            aiohttp.ClientSession() as leaving,
        ):
            await ours.gateways.publish(table({"s1": url}, revision=2))
            headers = {"Authorization": f"Bearer {ACME}"}
            request = asyncio.create_task(
                leaving.post(ours.url + CHAT, json=chat(stream=bool(answer)), headers=headers)
            )
            async with asyncio.timeout(60):
                while not seen:  # noqa: ASYNC110 (written by a server in this loop)
                    await asyncio.sleep(0)
            await until(ours, 1)
            if answer:
                reply = await request
                assert await reply.content.readuntil(b"\n\n") == b"data: x\n\n"
                reply.close()
            else:
                request.cancel()
            await until(ours, 0)
            async with asyncio.timeout(60):
                while seen[-1] != b"left":  # noqa: ASYNC110 (written by a server in this loop)
                    await asyncio.sleep(0)
            assert [row["status"] for row in ours.rows()] == [499]

    asyncio.run(scenario())


def test_requests_go_to_a_replica_that_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", servers=3) as ours:
            for _ in range(9):
                assert (await ours.send(chat())).status == 200
            assert [len(replica.bodies) for replica in ours.replicas.values()] == [3, 3, 3]
            await ours.replicas["s2"].stop()
            for _ in range(9):
                assert (await ours.send(chat())).status == 200
            assert len(ours.replicas["s2"].bodies) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden"])
def test_a_server_that_refuses_the_gateways_key_is_passed_over_and_clients_get_503(
    tmp_path: Path, status: bytes
) -> None:
    refusal = b'HTTP/1.1 %b\r\nContent-Length: 24\r\n\r\n{"error":"Unauthorized"}\n' % status

    async def scenario() -> None:
        async with (
            stage(tmp_path / ".fleetctl") as ours,
            raw_server(refusal) as (url, seen),
        ):
            await ours.gateways.publish(table({"s0": url, **ours.servers}, revision=2))
            statuses = [(await ours.send(chat())).status for _ in range(4)]
            assert (statuses, len(seen)) == ([200] * 4, 1)
            await ours.gateways.publish(table({"s0": url}, revision=3))
            reply = await ours.send(chat())
            assert (reply.status, b"Unauthorized" in reply.body) == (503, False)
            assert "WWW-Authenticate" not in reply.headers

    asyncio.run(scenario())


def test_the_least_busy_replica_is_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", servers=2, token_seconds=0.01) as ours:
            busy_one = asyncio.create_task(ours.send(long(LASTING)))
            async with asyncio.timeout(60):
                while not (busy := [n for n in ours.replicas if running(ours, n)]):  # noqa: ASYNC110
                    await asyncio.sleep(0)
            for _ in range(4):
                await ours.send(chat(max_tokens=1))
            assert len(ours.replicas[busy[0]].bodies) == 1
            ours.replicas[busy[0]].pace(0)
            assert (await busy_one).status == 200

    asyncio.run(scenario())


def test_without_a_replica_a_client_is_told_to_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", servers=2) as ours:
            for replica in ours.replicas.values():
                await replica.stop()
            reply = await ours.send(chat())
            assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
            assert reply.json["error"]["code"] == "unavailable"
            assert [row["status"] for row in ours.rows()] == [503]

    asyncio.run(scenario())


def test_a_restarted_server_that_lost_its_adapters_is_passed_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", servers=2) as ours:
            ours.replicas["s1"].memory.listed.clear()
            assert [(await ours.send(chat())).status for _ in range(6)] == [200] * 6
            ours.replicas["s2"].memory.listed.clear()
            assert (await ours.send(chat())).status == 503  # and not 404: the alias exists

    asyncio.run(scenario())


BROKEN = {
    "before the answer": b"",
    "in the answer": HEAD % b"application/json" + b'5\r\n{"id"\r\n',
    "in its head": b"HTTP/1.1 200 OK\r\nconte",
    "for another protocol": b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.parametrize("where", BROKEN)
def test_a_server_that_breaks_off_is_never_asked_again(tmp_path: Path, where: str) -> None:
    async def scenario() -> None:
        async with (
            stage(tmp_path / ".fleetctl") as ours,
            raw_server(BROKEN[where]) as (url, seen),
        ):
            servers = {"s1": url, "s2": url}
            await ours.gateways.publish(table(servers, revision=2))
            reply = await ours.send(chat())
            assert (reply.status, reply.json["error"]["code"]) == (502, "bad_gateway")
            assert len(seen) == 1
            assert [row["status"] for row in ours.rows()] == [502]

    asyncio.run(scenario())


def test_a_text_that_imitates_the_end_of_a_stream_does_not_end_the_count(tmp_path: Path) -> None:
    spoken = json.dumps({"choices": [{"delta": {"content": "\n\ndata: [DONE]\n\n"}}]})
    counted = json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}})
    stream = b"".join(b"data: %s\n\n" % each.encode() for each in (spoken, counted, "[DONE]"))
    parts = (stream[:60], stream[60:])
    answer = HEAD % b"text/event-stream"
    answer += b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, raw_server(answer) as (url, _):
            await ours.gateways.publish(table({"s1": url}, revision=2))
            counting = {"include_usage": True}
            reply = await ours.send(chat(stream=True, stream_options=counting))
            assert (reply.status, reply.body) == (200, stream)
            (row,) = ours.rows()
            assert (row["input_tokens"], row["output_tokens"]) == (3, 5)

    asyncio.run(scenario())


@pytest.mark.parametrize("resets", [False, True])
def test_a_stream_that_breaks_off_does_not_look_complete(tmp_path: Path, *, resets: bool) -> None:
    answer = HEAD % b"text/event-stream" + EVENT

    async def scenario() -> None:
        async with (
            stage(tmp_path / ".fleetctl") as ours,
            raw_server(answer, resets=resets) as (url, _),
        ):
            await ours.gateways.publish(table({"s1": url}, revision=2))
            with pytest.raises(aiohttp.ClientError):
                await ours.send(chat(stream=True))
            assert [row["status"] for row in ours.rows()] == [502]

    asyncio.run(scenario())


def test_a_file_changed_by_hand_is_not_called_lag(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            given = table(ours.servers, revision=4)
            await ours.gateways.publish(given)
            edited = given.model_copy(update={"aliases": {}})
            (ours.state / "routes.json").write_text(edited.canonical(), encoding="utf-8")
            found, (note,) = await ours.gateways.read_table()
            assert found == edited
            assert "changed by hand" in str(note)

    asyncio.run(scenario())


def test_whoever_looks_is_told_of_a_gateway_that_answers_no_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        gateways = LocalGateways(tmp_path, {"main": MAIN})
        assert await gateways.read_table() == (RoutingTable(revision=0), ())
        notes = await gateways.publish(table({"s1": "http://127.0.0.1:9"}, revision=1))
        assert "fleetctl gateway start main" in str(notes[0])
        assert (await gateways.read_table())[1] == notes
        await gateways.close()

    asyncio.run(scenario())


def test_a_refusal_has_the_number_of_its_usage_row(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            dead = table({"s1": "http://127.0.0.1:9"}, revision=2)
            replies = [await ours.send(chat("unknown")), await ours.send(b"no JSON")]
            await ours.gateways.publish(dead)
            replies.append(await ours.send(chat()))
            assert [reply.status for reply in replies] == [404, 400, 503]
            numbers = [reply.headers["x-request-id"] for reply in replies]
            assert [row["request_id"] for row in ours.rows()] == numbers

    asyncio.run(scenario())
