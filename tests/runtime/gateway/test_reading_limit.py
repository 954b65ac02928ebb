"""Requests that bring more work than a turn of the event loop may take."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.runtime.gateway.sockets import answered, asked, connected, on, post, raw, told
from tests.runtime.gateway.stage import Stage, chat

pytestmark = pytest.mark.usefixtures("serving_loop")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
    """Answer with the text of each request."""
    while True:
        body = json.loads(await asked(reader))
        writer.write(told(body["messages"][0]["content"]))


def in_chunks(text: str, size: int) -> bytes:
    body = raw(text)
    parts = (body[start : start + size] for start in range(0, len(body), size))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return post(b"", "Transfer-Encoding: chunked", length=None) + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize("piece", [1_000, 30_000, 10_000_000])
def test_requests_sent_ahead_are_answered_in_order_however_they_come(
    tmp_path: Path, piece: int
) -> None:
    texts = [f"{number} {'é' * (number * 37 % 9000)}" for number in range(40)]
    requests = [
        in_chunks(text, 3 + number) if number % 3 else post(raw(text))
        for number, text in enumerate(texts)
    ]
    sent = b"".join(requests)

    async def scenario(ours: Stage) -> None:
        async with connected(ours) as (reader, writer):

            async def send() -> None:
                for start in range(0, len(sent), piece):
                    writer.write(sent[start : start + piece])
                    await writer.drain()

            sending = asyncio.create_task(send())
            for text in texts:
                status, body = await answered(reader)
                assert (status, json.loads(body)["text"]) == (200, text)
            await sending

    on(tmp_path, echo, scenario)


def test_others_are_answered_while_bodies_in_small_chunks_come_in(tmp_path: Path) -> None:
    slow, done = in_chunks("x" * 300_000, 8), list[str]()

    async def scenario(ours: Stage) -> None:
        async def upload() -> None:
            async with connected(ours) as (reader, writer):
                writer.write(slow)
                assert (await answered(reader))[0] == 200
                done.append("slow")

        uploads = [asyncio.create_task(upload()) for _ in range(10)]
        while not all(task.done() for task in uploads):
            assert (await ours.send(chat())).status == 200
            done.append("small")
        await asyncio.gather(*uploads)
        assert done[0] == "small"

    on(tmp_path, echo, scenario)


def test_a_client_may_leave_with_requests_unread(tmp_path: Path) -> None:
    async def scenario(ours: Stage) -> None:
        for request in (in_chunks("x" * 300_000, 8), post(raw()) * 900):
            async with connected(ours) as (_, writer):
                writer.write(request)
                await writer.drain()
            assert (await ours.send(chat())).status == 200

    on(tmp_path, echo, scenario)
