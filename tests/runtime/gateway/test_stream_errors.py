"""Streams that end in an error of the server's: the client sees it, and so do row and server."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.gateway.sockets import asked, connected, on, post, raw
from tests.runtime.gateway.stage import ACME, CHAT, GLOBEX, HEAD, Stage, chat
from tests.runtime.gateway.typed_server import MESSAGES, RESPONSES

pytestmark = pytest.mark.usefixtures("serving_loop")

SAID = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
COUNTED = SAID | {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}
LENGTHY = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}], "error": None}
COUNTS = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}
DIED = {"error": {"message": "EngineCore died.", "type": "InternalServerError", "code": 500}}
TOO_LONG = {"error": {"message": "The input is too long.", "type": "BadRequestError", "code": 400}}
NAMELESS = {"error": {"message": "Nobody knows.", "code": "server_error"}}
BEGUN = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 0}}}
ERROR = {"type": "error", "error": {"type": "internal_error", "message": "It died."}}
INVALID = {"type": "error", "error": {"type": "invalid_request_error", "message": "No."}}
FAILED = {"type": "response.failed", "response": {"status": "failed"}}
CREATED = {"type": "response.created", "response": {"error": None}}
ENDED = {"type": "message_stop", "error": None}
DONE = "[DONE]"

CASES: dict[str, tuple[str, list[Any], int]] = {
    "an answer": (CHAT, [SAID, DONE], 200),
    "an answer that is counted": (CHAT, [COUNTED, LENGTHY, DONE], 200),
    "an answer without its end": (CHAT, [SAID], 200),
    "the engine dies": (CHAT, [COUNTED, DIED, DONE], 500),
    "the engine dies and nothing is counted": (CHAT, [SAID, DIED, DONE], 500),
    "the engine dies before the first token": (CHAT, [DIED, DONE], 500),
    "the request is at fault": (CHAT, [TOO_LONG, DONE], 400),
    "an error without a code": (CHAT, [SAID, NAMELESS], 502),
    "only the end": (CHAT, [DONE], 502),
    "only counts": (CHAT, [COUNTS, DONE], 502),
    "nothing": (CHAT, [], 502),
    "a message": (MESSAGES, [BEGUN, ENDED], 200),
    "a message that ends in an error": (MESSAGES, [BEGUN, ERROR], 502),
    "a message that is refused": (MESSAGES, [INVALID], 400),
    "no message": (MESSAGES, [], 502),
    "a response that fails": (RESPONSES, [CREATED, FAILED], 502),
    "an error in the words of chat completions": (RESPONSES, [CREATED, DIED], 500),
}


def stream(events: list[Any]) -> bytes:
    return b"".join(
        b"data: %b\n\n" % (event if isinstance(event, str) else json.dumps(event)).encode()
        for event in events
    )


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


@pytest.mark.parametrize("what", CASES)
def test_a_row_says_how_a_stream_ended(tmp_path: Path, what: str) -> None:
    path, events, status = CASES[what]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await asked(reader)
            writer.write(HEAD % b"text/event-stream" + chunk(stream(events)) + b"0\r\n\r\n")

    async def scenario(ours: Stage) -> None:
        counting = {"include_usage": True, "continuous_usage_stats": True}
        for model, secret in (("acme-support", ACME), ("globex-dates", GLOBEX)) * 2:
            body = chat(model, stream=True, stream_options=counting)
            reply = await ours.send(body, path=path, secret=secret)
            assert (reply.status, reply.body) == (200, stream(events))
        assert [row["status"] for row in ours.rows()] == [status] * 4
        shown = (await ours.shown())["the metrics"].decode()
        assert f'fleetctl_server_up{{server="s1"}} {0 if status >= 500 else 1}' in shown

    on(tmp_path, script, scenario)


def test_a_client_that_leaves_at_an_error_did_not_leave_an_answer(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await asked(reader)
        writer.write(HEAD % b"text/event-stream" + chunk(stream([COUNTED, DIED])))
        await reader.read()

    async def scenario(ours: Stage) -> None:
        async with connected(ours) as (reader, writer):
            writer.write(post(raw(stream=True)))
            await reader.readuntil(b"EngineCore died")
        async with asyncio.timeout(60):
            while not ours.rows():  # noqa: ASYNC110 (written by a gateway in this loop)
                await asyncio.sleep(0)
        (row,) = ours.rows()
        assert (row["status"], row["output_tokens"]) == (500, 1)

    on(tmp_path, script, scenario)
