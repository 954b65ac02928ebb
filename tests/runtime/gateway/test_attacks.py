"""Work and memory that any body and any answer can take, counted."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.gateway.body import sse
from runtime.gateway.body.body import MAX_COLONS, BodyText, parse_body
from runtime.gateway.body.errors import ApiError
from runtime.gateway.body.sse import LineBuffer
from runtime.gateway.http import proxy
from runtime.gateway.http.write_batch import LARGE_BODY, LoopTurns
from runtime.gateway.request import state
from tests.runtime.gateway.sockets import Script, answered, asked, connected, on, post, raw, told
from tests.runtime.gateway.stage import GLOBEX, HEAD, Stage, chat, until

MIB = 2**20
START = json.dumps(chat()).encode()[:-1]
NAMES = [
    b",".join(b'"%d":1' % number for number in range(300_000)),
    b",".join(b'"%d" \t :1' % number for number in range(MAX_COLONS - 100)),
    b'"%b":1' % (b"x" * 8 * MIB),
    b'"%b":1' % (rb"\u00e4" * MIB),
    b",".join([b'"seed":1'] * 300_000),
]


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("names", NAMES, ids=["many", "spaced", "long", "escaped", "the same"])
def test_names_of_a_body_take_no_more_memory_than_a_few_times_the_body(names: bytes) -> None:
    body = b"%b,%b}" % (START, names)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    with pytest.raises(ApiError, match=r"names|colons|twice"):
        parse_body(body)
    assert tracemalloc.get_traced_memory()[1] - before < max(4 * len(body), 24 * MIB)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("text", ["é" * 4 * MIB, "😀" * 2 * MIB + "x" * MIB])
@pytest.mark.parametrize("spaces", ["", " "])
def test_a_body_is_received_and_checked_with_a_copy_of_its_text_at_most(
    text: str, spaces: str
) -> None:
    given = json.dumps(chat(text=text), ensure_ascii=False)
    body = given.replace('"model":', f'"model"{spaces}:').encode()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    received = BodyText()
    for start in range(0, len(body), MIB // 4):
        received.add(body[start : start + MIB // 4])
    assert parse_body(received).model == "acme-support"
    assert tracemalloc.get_traced_memory()[1] - before < 2.5 * len(body)


def in_chunks(body: bytes, size: int) -> bytes:
    head = post(b"", "Transfer-Encoding: chunked", length=None)
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.usefixtures("serving_loop", "traced")
def test_a_body_in_tiny_chunks_is_refused_early_and_in_small_chunks_takes_its_size(
    tmp_path: Path,
) -> None:
    body = raw("x" * (MIB // 2))
    seen: list[int] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            seen.append(len(await asked(reader)))
            writer.write(told("well"))

    async def scenario(ours: Stage) -> None:
        for size, status in ((2, 400), (8, 200)):
            request = in_chunks(body, size)
            async with connected(ours) as (reader, writer):
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                writer.write(request)
                assert (await answered(reader))[0] == status
                # In this process the sender keeps its request and the server the body, too.
                kept = tracemalloc.get_traced_memory()[1] - before
                assert kept < 2 * len(request) + 4 * len(body)
        assert [len(body) < size < len(body) + 100 for size in seen] == [True]
        assert (await ours.send(in_parts(b'{"model":"acme-support"', 1))).status == 400

    on(tmp_path, script, scenario)


async def in_parts(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def large_answers(size: int, kind: bytes) -> Script:
    """Answer the first request of all with so many bytes, the others with a word."""
    count = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        nonlocal count
        while True:
            await asked(reader)
            count += 1
            if count > 1:
                writer.write(told("well"))
                continue
            writer.write(HEAD % kind)
            for _ in range(size // 2**16):
                writer.write(b"10000\r\n%b\r\n" % (b"x" * 2**16))
                await writer.drain()
            writer.write(b"0\r\n\r\n")

    return script


@pytest.mark.usefixtures("serving_loop", "traced")
@pytest.mark.parametrize(
    ("kind", "streams"), [(b"application/json", False), (b"text/event-stream", True)]
)
def test_an_answer_without_end_is_broken_off_and_its_server_is_not_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes, *, streams: bool
) -> None:
    monkeypatch.setattr(proxy, "MAX_ANSWER", MIB)
    monkeypatch.setattr(sse, "MAX_ANSWER", MIB)

    async def scenario(ours: Stage) -> None:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        async with connected(ours) as (reader, writer):
            writer.write(post(raw(stream=streams)))
            if streams:
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                assert await reader.read() == b""
            else:
                status, body = await answered(reader)
                assert (status, json.loads(body)["error"]["code"]) == (413, "answer_too_large")
        await until(ours, 0)
        assert tracemalloc.get_traced_memory()[1] - before < 8 * MIB
        for _ in range(3):
            assert (await ours.send(chat())).status == 200
        assert [row["status"] for row in ours.rows()] == [413, 200, 200, 200]

    on(tmp_path, large_answers(60 * MIB, kind), scenario)


@pytest.mark.usefixtures("serving_loop")
@pytest.mark.parametrize("streams", [False, True])
def test_answers_count_as_the_memory_of_the_client_who_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, streams: bool
) -> None:
    monkeypatch.setattr(state, "REQUEST_BYTES", 4 * MIB)
    kind = b"text/event-stream" if streams else b"application/json"

    async def scenario(ours: Stage) -> None:
        async with connected(ours) as (reader, writer):
            writer.write(post(raw(stream=streams)))
            assert (await reader.readuntil(b"\r\n"))[9:12] == (b"200" if streams else b"503")
            await until(ours, 0)
        others = chat("globex-dates", text="x" * MIB)
        assert (await ours.send(others, secret=GLOBEX)).status == 200
        assert (await ours.send(chat(text="x" * MIB))).status == 200
        assert [row["status"] for row in ours.rows()] == [503, 200, 200]

    on(tmp_path, large_answers(60 * MIB, kind), scenario)


def test_a_line_that_comes_in_many_parts_is_put_together_once() -> None:
    buffer, part = LineBuffer(), b"x" * 1000
    tracemalloc.start()
    assert [buffer.feed(part) for _ in range(1000)] == [b""] * 1000
    assert buffer.size == 1_000_000
    assert tracemalloc.get_traced_memory()[1] < 100_000  # no part was copied
    tracemalloc.stop()
    assert buffer.feed(b"end\nnext\nrest") == part * 1000 + b"end\nnext\n"
    assert buffer.size == 4
    assert buffer.take() == b"rest"
    assert (buffer.size, buffer.take()) == (0, b"")


def test_large_bodies_are_read_in_turns_of_their_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        loop, seen = asyncio.get_running_loop(), list[str]()
        turns = LoopTurns(loop)
        for name in "abc":
            turns.add(lambda name=name: seen.append(name))  # type: ignore[misc]
        for number in range(4):
            loop.call_soon(seen.append, str(number))
        assert seen == []
        for number in range(4, 10):
            await asyncio.sleep(0)
            loop.call_soon(seen.append, str(number))
        assert seen == ["0", "1", "2", "3", "a", "4", "5", "b", "6", "7", "c", "8"]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await asked(reader)
            writer.write(told("well"))

    async def sending(ours: Stage) -> None:
        bodies = [chat(text=f"{number}" * (LARGE_BODY + 1)) for number in range(6)]
        replies = await asyncio.gather(*map(ours.send, bodies), ours.send(chat()))
        assert [reply.status for reply in replies] == [200] * 7
        async with connected(ours) as (reader, writer):  # in order, the small behind the large
            large = post(raw("x" * (LARGE_BODY + 1)))
            writer.write(large + post(b"{}") + large + post(b"{}"))
            found = [(await answered(reader))[0] for _ in range(4)]
            assert found == [200, 400, 200, 400]
        async with connected(ours) as (_, writer):  # left before its turn
            writer.write(large)
        assert (await ours.send(chat())).status == 200

    asyncio.run(scenario())
    on(tmp_path, script, sending)
