"""Streams that end before the server has reported their tokens: a piece counts as a token."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleet.traffic import LimitPolicy, TrafficPolicy
from runtime.gateway.body.endpoints import CHAT, MESSAGES, RESPONSES
from runtime.gateway.http import timeouts
from tests.runtime.gateway.sockets import connected, post, raw, scripted
from tests.runtime.gateway.stage import OLD, Stage, alias, stage, table

pytestmark = pytest.mark.usefixtures("serving_loop")
Event = dict[str, Any]
BEGUN = {"input_tokens": 2, "output_tokens": 0, "cache_read_input_tokens": 5}
"""Of a prompt of 7 tokens, most of which the server's cache had."""
EVENTS: dict[str, list[Event]] = {
    MESSAGES: [
        {"type": "message_start", "message": {"usage": BEGUN}},
        {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Hm é "}},
        {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "0f"}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "one two"}},
        {"type": "content_block_delta",
         "delta": {"type": "input_json_delta", "partial_json": '{"a'}},
    ],
    RESPONSES: [
        {"type": "response.created", "response": {"usage": None}},
        {"type": "response.reasoning_text.delta", "delta": "Hm é "},
        {"type": "response.output_text.delta", "delta": "one two"},
        {"type": "response.function_call_arguments.delta", "delta": '{"a'},
    ],
    CHAT: [{"choices": [{"delta": {"content": "x"}}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 1}}],
}  # fmt: skip
PIECES = 3
"""Of reasoning, text and arguments, in the events of messages and of responses."""


@dataclass
class Server:
    """Streams without an end."""

    events: dict[str, list[Event]] = field(default_factory=lambda: EVENTS)
    breaks_off: bool = False
    left: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def play(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int
    ) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split()[0])
        path, body = head.split()[1], json.loads(await reader.readexactly(length))
        self.asked.append((path, body))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        for each in self.events[path]:
            event = f"data: {json.dumps(each)}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        if not self.breaks_off:
            await reader.read()
        self.left.set()


@asynccontextmanager
async def before(
    server: Server, tmp_path: Path, policy: TrafficPolicy | None = None
) -> AsyncIterator[Stage]:
    async with scripted(server.play) as url, stage(tmp_path / ".fleetctl") as ours:
        entry = alias("acme", (OLD, 100, ("s1",)), policy=policy)
        given = table({"s1": url}, revision=2)
        await ours.publish(given.model_copy(update={"aliases": {"acme-support": entry}}))
        yield ours


async def begin(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, last: bytes = b'{\\"a'
) -> None:
    """Ask for a stream, and read until the last of its events."""
    writer.write(post(raw(stream=True)).replace(CHAT.encode(), path.encode(), 1))
    await reader.readuntil(last)


async def leave(ours: Stage, server: Server, path: str, last: bytes = b'{\\"a') -> None:
    """Ask for a stream and leave once its last event is there."""
    async with connected(ours) as (reader, writer):
        await begin(reader, writer, path, last)
    await server.left.wait()


async def the_row(ours: Stage) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while not ours.rows():  # noqa: ASYNC110 (written by a gateway in this loop)
            await asyncio.sleep(0.001)
    (row,) = ours.rows()
    return row


def counts(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("status", "input_tokens", "output_tokens", "counted")
    return tuple(row[name] for name in names)


@pytest.mark.parametrize(
    ("path", "row"),
    [
        (MESSAGES, (499, 7, PIECES, "pieces")),
        (RESPONSES, (499, None, PIECES, "pieces")),
        (CHAT, (499, 7, 1, None)),
    ],
)
def test_a_stream_that_is_left_is_billed_for_its_pieces_where_it_has_told_no_tokens(
    tmp_path: Path, path: str, row: tuple[Any, ...]
) -> None:
    async def scenario() -> None:
        server = Server()
        async with before(server, tmp_path) as ours:
            await leave(ours, server, path, *([b'"x"'] if path == CHAT else []))
            assert counts(await the_row(ours)) == row
            assert [asked for asked, _ in server.asked] == [path]

    asyncio.run(scenario())


def test_a_stream_that_the_server_breaks_off_is_counted_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = Server(breaks_off=True)
        async with before(server, tmp_path) as ours:
            async with connected(ours) as (reader, writer):
                await begin(reader, writer, MESSAGES)
                await reader.read()
            assert counts(await the_row(ours)) == (502, 7, PIECES, "pieces")

    asyncio.run(scenario())


def test_a_stream_that_is_left_before_its_first_piece_has_no_count(tmp_path: Path) -> None:
    async def scenario() -> None:
        begun = {path: EVENTS[path][:1] for path in (MESSAGES, RESPONSES)}
        server = Server(events=begun)
        async with before(server, tmp_path) as ours:
            await leave(ours, server, RESPONSES, b"created")
            assert counts(await the_row(ours)) == (499, None, None, None)
            assert len(server.asked) == 1

    asyncio.run(scenario())


def test_limits_on_tokens_are_charged_for_all_of_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = Server()
        policy = TrafficPolicy(limits=LimitPolicy(tokens_per_minute=6))
        async with before(server, tmp_path, policy) as ours:
            await leave(ours, server, MESSAGES)
            assert counts(await the_row(ours)) == (499, 7, PIECES, "pieces")
            refused = await ours.send(json.loads(raw()))
            assert refused.status == 429
            debt = 7 + PIECES - 6
            assert 10 * (debt - 1) < int(refused.headers["Retry-After"]) <= 10 * (debt + 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("still_there", [False, True])
def test_told_to_stop_it_counts_what_was_left_and_what_it_cuts_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, still_there: bool
) -> None:
    monkeypatch.setattr(timeouts, "GRACE_S", 0.01)

    async def scenario() -> list[dict[str, Any]]:
        server = Server()
        async with AsyncExitStack() as clients:
            async with before(server, tmp_path) as ours:
                reader, writer = await clients.enter_async_context(connected(ours))
                await begin(reader, writer, MESSAGES)
                if not still_there:
                    writer.transport.abort()
                    await server.left.wait()
            return ours.rows()

    (row,) = asyncio.run(scenario())
    assert counts(row) == (499, 7, PIECES, "pieces")
