"""Responses, messages and embeddings through the gateway, on a real vLLM."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.runtime.gateway.live import NAME, TEXTS, Served, in_front, routes
from tests.runtime.gateway.stage import ACME, OLD, Stage, alias, chat

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("transport")]


def text_of(raw: bytes) -> tuple[set[str], str]:
    """Return the types of a stream's events, and its text: how it is cut differs by chance."""
    events = [
        json.loads(line[6:]) for line in raw.decode().split("\n") if line.startswith("data: {")
    ]
    deltas = [each["delta"] for each in events if each["type"].endswith("delta")]
    texts = [each if isinstance(each, str) else each.get("text", "") for each in deltas]
    return {each["type"] for each in events}, "".join(texts)


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        differs = ("id", "created_at")
        return {name: timeless(each) for name, each in value.items() if name not in differs}
    return [timeless(each) for each in value] if isinstance(value, list) else value


TYPED = {
    "/v1/responses": {"input": TEXTS[0], "max_output_tokens": 6},
    "/v1/messages": {"messages": [{"role": "user", "content": TEXTS[0]}], "max_tokens": 6},
}


@pytest.mark.parametrize("path", TYPED)
def test_responses_and_messages_equal_direct_ones_and_are_counted(
    vllm: Served, tmp_path: Path, path: str
) -> None:
    asks = TYPED[path] | {"temperature": 0, "model": "acme-support"}

    async def scenario(ours: Stage) -> None:
        for stream in (False, True):
            body = asks | {"stream": stream}
            through = await ours.send(body, path=path)
            async with ours.http.post(vllm.url + path, json=body | {"model": OLD}) as reply:
                direct = await reply.read()
            assert (through.status, through.version) == (200, OLD)
            if stream:
                assert text_of(through.body) == text_of(direct)
                assert text_of(direct)[1]
            else:
                assert timeless(through.json) == timeless(json.loads(direct))
        rows = [
            (row["stream"], row["input_tokens"] > 0, row["output_tokens"], row["finish"])
            for row in ours.rows()
        ]
        assert rows == [(False, True, 6, "length"), (True, True, 6, "length")]
        stored = await ours.send(asks | {"previous_response_id": "resp_1"}, path="/v1/responses")
        assert stored.status == 400
        foreign = await ours.send(asks | {"model": "corvid-dates"}, path=path)
        assert (foreign.status, foreign.json["error"]["code"]) == (404, "model_not_found")

    in_front(vllm, tmp_path / ".fleetctl", scenario)


@pytest.mark.parametrize("path", TYPED)
def test_a_stream_that_is_left_is_billed_as_far_as_the_server_told(
    vllm: Served, tmp_path: Path, path: str
) -> None:
    most = 200
    asks = TYPED[path] | {"model": "acme-support", "stream": True, "temperature": 0}
    asks |= {name: most for name in ("max_tokens", "max_output_tokens") if name in asks}

    async def left(ours: Stage, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Leave a stream at its first piece; return its first event, and its row."""
        came = b""
        async with (
            aiohttp.ClientSession() as leaving,
            leaving.post(ours.url + path, json=asks, headers={"x-api-key": ACME}) as reply,
        ):
            while b"delta" not in came:
                came += await reply.content.readuntil(b"\n\n")
        async with asyncio.timeout(60):
            while len(ours.rows()) < number:  # noqa: ASYNC110 (by a gateway in this loop)
                await asyncio.sleep(0)
        lines = (each[6:] for each in came.split(b"\n") if each.startswith(b"data: {"))
        return json.loads(next(lines)), ours.rows()[-1]

    async def scenario(ours: Stage) -> None:
        for number in range(1, 9):
            begun, row = await left(ours, number)
            if row["status"] == 499:
                break  # else the model had ended before the client left
        assert (row["status"], row["stream"]) == (499, True)
        assert 1 <= row["output_tokens"] < most  # a lower bound: a piece may be several tokens
        told = begun["message"]["usage"]["input_tokens"] if path == "/v1/messages" else None
        assert row["input_tokens"] == told

    in_front(vllm, tmp_path / ".fleetctl", scenario)


def test_what_this_base_does_not_serve_is_told_without_names(vllm: Served, tmp_path: Path) -> None:
    async def scenario(ours: Stage) -> None:
        body = {"model": "acme-support", "input": "hello"}
        reply = await ours.send(body, path="/v1/embeddings")
        assert (reply.status, reply.json["error"]["code"]) == (404, "unknown_url")
        assert (await ours.send(chat(max_tokens=1))).status == 200
        assert await ours.gateways.missing() == ()
        lost = routes(vllm.url, new=0, revision=2)
        gone = alias("acme", ("acme-support-tiny-v9.9.9", 100, (NAME,)))
        await ours.gateways.publish(lost.model_copy(update={"aliases": {"acme-support": gone}}))
        reply = await ours.send(chat(max_tokens=1))
        assert (reply.status, b"fleetctl-" in reply.body) == (503, False)  # vLLM names its aliases
        assert await ours.gateways.missing() == (("acme-support-tiny-v9.9.9", NAME),)

    in_front(vllm, tmp_path / ".fleetctl", scenario)
