"""Responses, messages and embeddings through the gateway, on a real vLLM."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runtime.gateway.body.endpoints import MESSAGES
from runtime.usage.row import COUNT_TOKENS, COUNTING, LIVE
from tests.runtime.gateway.live import NAME, TEXTS, Served, in_front, routes
from tests.runtime.gateway.stage import ACME, OLD, Stage, alias, chat

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.usefixtures("serving_loop")]


def text_of(raw: bytes) -> tuple[set[str], str]:
    """Return the types of a stream's events, and its text: how it is cut differs by chance."""
    events = [
        json.loads(line[6:]) for line in raw.decode().split("\n") if line.startswith("data: {")
    ]
    deltas = [event["delta"] for event in events if event["type"].endswith("delta")]
    texts = [delta if isinstance(delta, str) else delta.get("text", "") for delta in deltas]
    return {event["type"] for event in events}, "".join(texts)


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        differs = ("id", "created_at")
        return {name: timeless(each) for name, each in value.items() if name not in differs}
    return [timeless(each) for each in value] if isinstance(value, list) else value


TYPED = {
    "/v1/responses": {"input": TEXTS[0], "max_output_tokens": 6},
    "/v1/messages": {"messages": [{"role": "user", "content": TEXTS[0]}], "max_tokens": 6},
}


LONG = 400
"""Tokens of an answer that lasts."""
NO_END = {"1": -100}
"""Forbids the token that would end an answer early; messages know no such thing."""
_LIST = {"type": "array", "items": {"type": "integer"}, "minItems": LONG, "maxItems": LONG}
LASTING: dict[str, dict[str, Any]] = {
    "/v1/responses": {
        "max_output_tokens": LONG,
        "logit_bias": NO_END,
        "instructions": "Be brief.",
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    },
    "/v1/messages": {
        "max_tokens": LONG,
        "output_config": {"format": {"type": "json_schema", "schema": _LIST}},
    },
}
GENERATED = 'vllm:generation_tokens_total{engine="0",model_name="tiny"}'


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
                expected = timeless(json.loads(direct)) | {"model": "acme-support"}
                assert timeless(through.json) == expected
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


def test_counted_tokens_are_those_of_the_prompt(vllm: Served, tmp_path: Path) -> None:
    asks = TYPED[MESSAGES] | {"model": "acme-support", "system": "Be brief."}
    counted = {name: value for name, value in asks.items() if name != "max_tokens"}

    async def scenario(ours: Stage) -> None:
        reply = await ours.send(counted, path=COUNT_TOKENS)
        answer = await ours.send(asks, path=MESSAGES)
        assert (reply.status, reply.version) == (200, OLD)
        assert reply.json["input_tokens"] == answer.json["usage"]["input_tokens"] > 0
        foreign = await ours.send(counted | {"model": "corvid-dates"}, path=COUNT_TOKENS)
        assert foreign.status == 404
        assert (await ours.send(counted | {"messages": 7}, path=COUNT_TOKENS)).status == 400
        assert [row["purpose"] for row in ours.rows()] == [COUNTING, LIVE, COUNTING, COUNTING]

    in_front(vllm, tmp_path / ".fleetctl", scenario)


def made(metrics: str) -> int:
    """Return the number of tokens that vLLM has generated since its start, for all clients."""
    (line,) = [each for each in metrics.splitlines() if each.startswith(GENERATED)]
    return int(float(line.split()[-1]))


async def settled(ours: Stage, vllm: Served) -> int:
    """Return the tokens that vLLM has generated, once vLLM is idle."""
    async with asyncio.timeout(60):
        while True:
            async with ours.http.get(f"{vllm.url}/metrics") as reply:
                metrics = await reply.text()
            if 'num_requests_running{engine="0",model_name="tiny"} 0.0' in metrics:
                return made(metrics)


@pytest.mark.parametrize("path", TYPED)
def test_a_stream_that_is_left_is_billed_for_what_was_sent_and_no_more_than_vllm_made(
    vllm: Served, tmp_path: Path, path: str
) -> None:
    asks = TYPED[path] | LASTING[path] | {"model": "acme-support", "temperature": 0}

    async def left(ours: Stage) -> list[str]:
        """Leave a stream in the middle; return the pieces that came."""
        pieces: list[str] = []
        async with (
            aiohttp.ClientSession() as leaving,
            leaving.post(
                ours.url + path, json=asks | {"stream": True}, headers={"x-api-key": ACME}
            ) as reply,
        ):
            while len(pieces) < LONG // 8:
                text = text_of(await reply.content.readuntil(b"\n\n"))[1]
                pieces += [text] if text else []
        return pieces

    async def scenario(ours: Stage) -> None:
        idle = await settled(ours, vllm)
        whole = await ours.send(asks, path=path)
        used = whole.json["usage"]
        before = await settled(ours, vllm)
        assert used["output_tokens"] == ours.rows()[0]["output_tokens"] == before - idle == LONG
        pieces = await left(ours)
        async with asyncio.timeout(60):
            while len(ours.rows()) < 2:  # noqa: ASYNC110 (by a gateway in this loop)
                await asyncio.sleep(0)
        row = ours.rows()[-1]
        most = await settled(ours, vllm) - before
        assert (row["status"], row["stream"], row["counted"]) == (499, True, "pieces")
        reported = None if path == "/v1/responses" else used["input_tokens"]  # told at the end only
        assert row["input_tokens"] == reported
        assert len(pieces) <= row["output_tokens"] <= most < LONG

    in_front(vllm, tmp_path / ".fleetctl", scenario)


def test_what_this_base_does_not_serve_is_told_without_names(vllm: Served, tmp_path: Path) -> None:
    async def scenario(ours: Stage) -> None:
        body = {"model": "acme-support", "input": "hello"}
        reply = await ours.send(body, path="/v1/embeddings")
        assert (reply.status, reply.json["error"]["code"]) == (404, "unknown_url")
        assert (await ours.send(chat(max_tokens=1))).status == 200
        assert (await ours.gateways.observe()).missing == ()
        lost = routes(vllm.url, new=0, revision=2)
        gone = alias("acme", ("acme-support-tiny-v9.9.9", 100, (NAME,)))
        await ours.gateways.publish(lost.model_copy(update={"aliases": {"acme-support": gone}}))
        reply = await ours.send(chat(max_tokens=1))
        assert (reply.status, b"fleetctl-" in reply.body) == (503, False)  # vLLM names its aliases
        assert (await ours.gateways.observe()).missing == (("acme-support-tiny-v9.9.9", NAME),)

    in_front(vllm, tmp_path / ".fleetctl", scenario)
