"""Errors of servers, in the words that a client gets."""

import asyncio
import json
from pathlib import Path

import pytest

from runtime.gateway.body.errors import refusal_of_server
from tests.runtime.gateway.live import Served, in_front
from tests.runtime.gateway.sockets import Script, asked, on
from tests.runtime.gateway.stage import Stage, chat, raw_server, stage, table

TOO_LONG = [
    "This model's maximum context length is 512 tokens. However, your prompt contains 900 tokens.",
    "Input length (900) exceeds model's maximum context length (512).",
]


@pytest.mark.parametrize("text", TOO_LONG)
def test_a_prompt_that_is_too_long_has_the_code_of_openai(text: str) -> None:
    error = refusal_of_server(400, json.dumps({"error": {"message": text}}).encode())
    assert error is not None
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert "context is 512 tokens" in error.message


@pytest.mark.parametrize(
    ("status", "text"),
    [(400, "`temperature` is wrong"), (500, "a defect"), (429, "Internal server error"), (200, "")],
)
def test_other_errors_keep_their_words(status: int, text: str) -> None:
    assert refusal_of_server(status, text.encode()) is None


def failing(message: str) -> Script:
    body = json.dumps({"error": {"message": message, "code": 500}}).encode()
    answer = b"HTTP/1.1 500 Error\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await asked(reader)
            writer.write(answer)

    return script


@pytest.mark.usefixtures("serving_loop")
@pytest.mark.parametrize(
    "message", ["Internal server error", "EngineCore encountered an issue. See stack trace"]
)
def test_a_server_that_is_being_stopped_is_503_with_a_time_to_wait(
    tmp_path: Path, message: str
) -> None:
    async def scenario(ours: Stage) -> None:
        reply = await ours.send(chat())
        assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
        assert reply.json["error"]["code"] == "unavailable"
        assert message.encode() not in reply.body
        assert [row["status"] for row in ours.rows()] == [503]

    on(tmp_path, failing(message), scenario)


@pytest.mark.usefixtures("serving_loop")
@pytest.mark.parametrize("status", [b"301 Moved Permanently", b"302 Found", b"307 Temporary"])
def test_a_server_that_sends_elsewhere_is_passed_over(tmp_path: Path, status: bytes) -> None:
    moved = b"HTTP/1.1 %b\r\nLocation: http://10.0.0.7/\r\nContent-Length: 0\r\n\r\n" % status

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, raw_server(moved) as (url, seen):
            await ours.gateways.publish(table({"s0": url, **ours.servers}, revision=2))
            statuses = [(await ours.send(chat())).status for _ in range(4)]
            assert (statuses, len(seen)) == ([200] * 4, 1)
            await ours.gateways.publish(table({"s0": url}, revision=3))
            reply = await ours.send(chat())
            assert (reply.status, b"10.0.0.7" in reply.body) == (503, False)
            assert "Location" not in reply.headers

    asyncio.run(scenario())


@pytest.mark.live
@pytest.mark.usefixtures("serving_loop")
def test_vllm_says_that_a_prompt_is_too_long(vllm: Served, tmp_path: Path) -> None:
    async def scenario(ours: Stage) -> None:
        reply = await ours.send(chat(text="word " * 2000))
        assert reply.status == 400
        assert reply.json["error"]["code"] == "context_length_exceeded"
        assert b"512" in reply.body

    in_front(vllm, tmp_path / ".fleetctl", scenario)
