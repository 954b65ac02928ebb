"""An Envoy in front of a real vLLM with the quickstart fleet's adapters."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.gateway.body.fields import DROPPED
from runtime.usage.row import to_usage_row
from tests.runtime.gateway.envoy_stage import in_front, needs_envoy
from tests.runtime.gateway.live import CORVID, DATES, TEXTS, Served, routes
from tests.runtime.gateway.stage import CHAT, NEW, OLD, TEXT, chat
from tests.runtime.gateway.test_endpoints_on_vllm import TYPED, text_of, timeless

pytestmark = [pytest.mark.live, needs_envoy]


def said(raw: bytes) -> tuple[str, list[str]]:
    """Return a stream's text and end: vLLM cuts it into events as time allows."""
    lines = [line[6:] for line in raw.decode().split("\n\n") if line.startswith("data: {")]
    choices = [choice for event in map(json.loads, lines) for choice in event["choices"]]
    pieces = [
        choice.get("delta", {}).get("content") or choice.get("text", "") for choice in choices
    ]
    ends = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    return "".join(pieces), ends


def test_answers_and_streams_equal_direct_ones_and_are_counted(
    vllm: Served, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"temperature": 0, "max_tokens": 24}

    async def scenario() -> None:
        async with in_front(tmp_path, routes(vllm.url, new=0)) as ours:
            tokens = []
            for path, body in (
                *((CHAT, chat(text=text, **settings)) for text in TEXTS),
                (TEXT, {"model": "acme-support", "prompt": "charged twice", **settings}),
            ):
                through = await ours.send(body, path=path)
                async with ours.http.post(vllm.url + path, json=body | {"model": OLD}) as reply:
                    expected = await reply.json()
                assert (through.status, through.version) == (200, OLD)
                assert through.json["choices"] == expected["choices"]
                assert through.json["usage"] == expected["usage"]
                stream = body | {"stream": True}
                streamed = await ours.send(stream, path=path)
                async with ours.http.post(vllm.url + path, json=stream | {"model": OLD}) as reply:
                    assert said(streamed.body) == said(await reply.read())
                assert streamed.body.endswith(b"data: [DONE]\n\n")
                tokens += [expected["usage"]["completion_tokens"]] * 2
            crossing = dict.fromkeys(sorted(DROPPED), "x")  # refused if vLLM saw any of them
            assert (await ours.send(chat(**settings, **crossing))).status == 200
            await ours.publish(routes(vllm.url, new=100, revision=2))
            assert (await ours.send(chat(**settings))).version == NEW
            for model in ("corvid-dates", DATES, OLD, "tiny", ""):
                assert (await ours.send(chat(model))).status == 404
            text = "Invoice dated March 14, 2031"
            dates = await ours.send(chat("corvid-dates", text, **settings), secret=CORVID)
            assert (dates.version, dates.text) == (DATES, "2031-03-14")
            rows = await ours.ended()
            assert [row["output_tokens"] for row in rows[: len(tokens)]] == tokens

    asyncio.run(scenario())


@pytest.mark.parametrize("path", TYPED)
def test_responses_and_messages_equal_direct_ones_and_are_counted(
    vllm: Served, tmp_path: Path, path: str
) -> None:
    asks = TYPED[path] | {"temperature": 0, "model": "acme-support"}
    crossing = dict.fromkeys(sorted(DROPPED), "x")

    async def scenario() -> None:
        async with in_front(tmp_path, routes(vllm.url, new=0)) as ours:
            for stream in (False, True):
                body = asks | {"stream": stream}
                through = await ours.send(body | crossing, path=path)
                async with ours.http.post(vllm.url + path, json=body | {"model": OLD}) as reply:
                    direct = await reply.read()
                assert (through.status, through.version) == (200, OLD)
                if stream:
                    assert text_of(through.body) == text_of(direct)
                else:
                    assert timeless(through.json) == timeless(json.loads(direct))
            rows = [to_usage_row(row) for row in await ours.ended()]
            told = [(row["stream"], row["input_tokens"] > 0, row["output_tokens"]) for row in rows]
            assert told == [(False, True, 6), (True, True, 6)]

    asyncio.run(scenario())
