"""HTTP on the wire: what a client or a server may send, byte by byte."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.runtime.gateway.sockets import answered, connected, post, raw
from tests.runtime.gateway.stage import LASTING, chat, long, running, stage, until

pytestmark = pytest.mark.usefixtures("serving_loop")

LOAD = b"POST /v1/load_lora_adapter HTTP/1.1\r\nHost: x\r\n\r\n"


def test_requests_sent_ahead_are_answered_in_their_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, connected(ours) as (reader, writer):
            texts = [f"number {number}" for number in range(5)]
            healthz = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            foreign = post(json.dumps(chat("globex-dates")).encode())
            writer.write(b"".join(post(raw(each)) + healthz + foreign for each in texts))
            alone = [(await ours.send(chat(text=each))).text for each in texts]
            for text in alone:
                status, body = await answered(reader)
                assert status == 200
                assert json.loads(body)["choices"][0]["message"]["content"] == text
                assert await answered(reader) == (200, b'{"status":"ok"}')
                assert (await answered(reader))[0] == 404

    asyncio.run(scenario())


def test_a_request_may_arrive_byte_by_byte(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, connected(ours) as (reader, writer):
            chunked = b"%x;a=b\r\n%b\r\n0\r\nX-Trailer: y\r\n\r\n" % (len(raw()), raw())
            for request in (post(raw()), post(chunked, "Transfer-Encoding: chunked", length=None)):
                for byte in request:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0)
                assert (await answered(reader))[0] == 200

    asyncio.run(scenario())


def test_a_client_that_asks_first_is_told_to_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            async with connected(ours) as (reader, writer):
                head, _, body = post(raw(), "Expect: 100-continue").partition(b"\r\n\r\n")
                writer.write(head + b"\r\n\r\n")
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
                writer.write(body)
                assert (await answered(reader))[0] == 200
            # A body that is refused anyway is not asked for.
            async with connected(ours) as (reader, writer):
                head = post(b"", "Expect: 100-continue", length="9999", key="wrong")
                writer.write(head)
                assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
                await reader.read()  # it ends the connection

    asyncio.run(scenario())


UNCLEAR = {
    "a length and chunks": post(b"0\r\n\r\n" + LOAD, "Transfer-Encoding: chunked", length="5"),
    "chunks and a length": post(b"0\r\n\r\n" + LOAD, "Content-Length: 5", length=None).replace(
        b"Content-Length: 5", b"Content-Length: 5\r\nTransfer-Encoding: chunked"
    ),
    "two lengths": post(raw() + LOAD, "Content-Length: 5"),
    "chunks not last": post(b"0\r\n\r\n", "Transfer-Encoding: chunked, gzip", length=None),
    "an encoding before the chunks": post(
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(raw()), raw()),
        "Transfer-Encoding: gzip, chunked",
        length=None,
    ),
    "an unknown encoding": post(b"0\r\n\r\n" + LOAD, "Transfer-Encoding: xchunked", length=None),
    "a signed length": post(raw(), length=f"+{len(raw())}"),
    "a length in hex": post(raw(), length="0x10"),
    "a length with a line folded": post(raw(), "Content-Length: 1\r\n 2", length=None),
    "a space before the colon": post(raw(), "Content-Length : 5", length=None),
    "a null in a header": post(raw(), "X-A: \x00"),
    "a size of a chunk that is none": post(b"-1\r\n", "Transfer-Encoding: chunked", length=None),
    "no host": post(raw()).replace(b"Host: x\r\n", b""),
    "two hosts": post(raw(), "host: y"),
    "two hosts of an old client": post(raw(), "host: y", version="1.0"),
    "another protocol": post(raw(), version="2.0"),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
}


@pytest.mark.parametrize("what", UNCLEAR)
def test_what_two_readers_could_read_differently_ends_the_connection(
    tmp_path: Path, what: str
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, connected(ours) as (reader, writer):
            writer.write(UNCLEAR[what])
            answer = await reader.read()
            assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 501"))
            assert answer.count(b"HTTP/1.") == 1
            assert ours.asked == []

    asyncio.run(scenario())


HUGE = {
    "one header": post(raw(), f"X-A: {'a' * 2**20}"),
    "many headers": post(raw(), *(f"X-A{number}: {'a' * 99}" for number in range(2000))),
    "the path": b"POST /" + b"a" * 2**20 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a head without end": b"POST /v1/chat/completions HTTP/1.1\r\nX-A: " + b"a" * 2**20,
}


@pytest.mark.parametrize("what", HUGE)
def test_a_head_above_the_limit_is_refused(tmp_path: Path, what: str) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, connected(ours) as (reader, writer):
            writer.write(HUGE[what])
            assert int((await reader.readline()).split()[1]) in {400, 414, 431}
            assert ours.asked == []

    asyncio.run(scenario())


def test_an_old_client_gets_its_answer_and_the_end_of_the_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            for body in (raw(), raw(stream=True)):
                async with connected(ours) as (reader, writer):
                    writer.write(post(body, version="1.0").replace(b"Host: x\r\n", b""))
                    head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
                    assert head.split()[1] == b"200"
                    assert b"chunked" not in head.lower()
                    assert rest.endswith((b"}", b"data: [DONE]\n\n"))

    asyncio.run(scenario())


def test_an_offer_to_change_the_protocol_is_ignored(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, connected(ours) as (reader, writer):
            writer.write(post(raw(), "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))
            assert (await answered(reader))[0] == 200

    asyncio.run(scenario())


def test_head_is_answered_without_a_body(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, connected(ours) as (reader, writer):
            writer.write(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"content-length: 15\r\n" in head.lower()
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await answered(reader) == (200, b'{"status":"ok"}')

    asyncio.run(scenario())


def test_a_client_that_leaves_while_it_sends_leaves_a_row(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            async with connected(ours) as (_, writer):
                writer.write(post(b'{"model":', length="100"))
                await ours.send(path="/healthz", method="GET")  # lets the gateway read it
            async with asyncio.timeout(60):
                while not ours.rows():  # noqa: ASYNC110 (written by a gateway in this loop)
                    await asyncio.sleep(0)
            (row,) = ours.rows()
            assert (row["status"], row["client"], ours.asked) == (499, "acme", [])

    asyncio.run(scenario())


def test_a_stream_that_is_left_is_billed_for_what_was_generated(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            async with connected(ours) as (reader, writer):
                writer.write(post(json.dumps(long(LASTING, stream=True)).encode()))
                for _ in range(9):  # the role and eight tokens
                    event = await reader.readuntil(b"\n\n")
                    assert b"usage" not in event
            await until(ours, 0)
            (row,) = ours.rows()
            assert row["status"] == 499
            assert 8 <= row["output_tokens"] < LASTING
            assert row["input_tokens"] > 0
            async with asyncio.timeout(60):
                while running(ours):  # noqa: ASYNC110 (a server in this loop)
                    await asyncio.sleep(0)

    asyncio.run(scenario())


@pytest.mark.parametrize("asks", [None, {}, {"include_usage": False}, {"include_usage": True}])
def test_counts_reach_a_client_only_if_it_asked(
    tmp_path: Path, asks: dict[str, bool] | None
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            more = {} if asks is None else {"stream_options": asks}
            reply = await ours.send(long(5, stream=True, **more))
            events = reply.body.decode().split("\n\n")
            counted = [event for event in events if "usage" in event]
            wanted = bool(asks and asks.get("include_usage"))
            assert len(counted) == (1 if wanted else 0)
            assert len(events) == (10 if wanted else 9)
            assert all(json.loads(event[6:])["choices"] for event in events[:-3])
            (row,) = ours.rows()
            assert (row["output_tokens"], row["status"]) == (5, 200)
            (sent,) = ours.replicas["s1"].bodies
            assert json.loads(sent)["stream_options"] == {
                "include_usage": True,
                "continuous_usage_stats": True,
            }

    asyncio.run(scenario())


@pytest.mark.parametrize("first", [raw(), b"{", b"\x00"], ids=["answered", "refused", "no json"])
def test_nothing_behind_the_last_request_of_a_connection_reaches_a_server(
    tmp_path: Path, first: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    sent = post(first, "Connection: keep-alive", version="1.0") + post(raw())

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, connected(ours) as (reader, writer):
            writer.write(sent)
            other = await ours.send(chat())
            writer.write_eof()
            answers = (await reader.read()).count(b"HTTP/1.")
            assert other.status == 200
            assert len(ours.asked) == answers - (first != raw()) + 1
            assert len([row for row in ours.rows() if row["status"] != 499]) == answers + 1

    asyncio.run(scenario())
    assert "Traceback" not in capfd.readouterr().err
