"""The SDKs that clients use, before the gateway: answers, streams and errors in their own words."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anthropic
import openai
import pytest

from fleet.traffic import LimitPolicy, TrafficPolicy
from tests.runtime.gateway.stage import ACME, OLD, Stage, alias, stage, table
from tests.runtime.gateway.typed_server import MADE, READ

MODEL = "acme-support"
Asked = Callable[[Stage, openai.AsyncOpenAI, anthropic.AsyncAnthropic], Awaitable[None]]


@asynccontextmanager
async def sdks(
    ours: Stage, key: str = ACME
) -> AsyncIterator[tuple[openai.AsyncOpenAI, anthropic.AsyncAnthropic]]:
    """Give both SDKs as docs/client-api.md sets them up, without their own retries."""
    async with (
        openai.AsyncOpenAI(base_url=f"{ours.url}/v1", api_key=key, max_retries=0) as first,
        anthropic.AsyncAnthropic(base_url=ours.url, api_key=key, max_retries=0) as second,
    ):
        yield first, second


def play(tmp_path: Path, asked: Asked) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, sdks(ours) as both:
            await asked(ours, *both)

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
def test_openai_answers_name_the_asked_model_and_the_header_the_version(tmp_path: Path) -> None:
    async def asked(_: Stage, sdk: openai.AsyncOpenAI, __: anthropic.AsyncAnthropic) -> None:
        assert [model.id async for model in sdk.models.list()] == [MODEL]
        assert (await sdk.models.retrieve(MODEL)).id == MODEL
        raw = await sdk.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "hello"}], max_tokens=4
        )
        said = raw.parse()
        assert (said.model, raw.headers["x-fleetctl-version"]) == (MODEL, OLD)
        assert said.choices[0].message.content
        assert said.usage is not None
        assert said.usage.completion_tokens == 4
        text = await sdk.completions.create(model=MODEL, prompt="hello", max_tokens=4)
        assert (text.model, text.usage and text.usage.completion_tokens) == (MODEL, 4)
        reply = await sdk.responses.create(model=MODEL, input="hello")
        assert (reply.model, reply.output_text) == (MODEL, OLD)
        vectors = await sdk.embeddings.create(model=MODEL, input="hello", encoding_format="float")
        assert (vectors.model, vectors.data[0].embedding) == (MODEL, [0.5])

    play(tmp_path, asked)


@pytest.mark.usefixtures("serving_loop")
def test_openai_streams_come_piece_by_piece_with_the_counts_that_were_asked_for(
    tmp_path: Path,
) -> None:
    async def asked(_: Stage, sdk: openai.AsyncOpenAI, __: anthropic.AsyncAnthropic) -> None:
        stream = await sdk.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=4,
            stream=True,
            stream_options={"include_usage": True},
        )
        parts = [part async for part in stream]
        assert {part.model for part in parts} == {MODEL}
        assert len("".join(c.delta.content or "" for p in parts for c in p.choices).split()) == 4
        assert parts[-1].usage is not None
        assert parts[-1].usage.completion_tokens == 4
        events = [each async for each in await sdk.responses.create(
            model=MODEL, input="hello", stream=True
        )]  # fmt: skip
        last = events[-1]
        assert last.type == "response.completed"
        assert last.response.model == MODEL

    play(tmp_path, asked)


@pytest.mark.usefixtures("serving_loop")
def test_anthropic_messages_and_streams_name_the_asked_model(tmp_path: Path) -> None:
    async def asked(_: Stage, __: openai.AsyncOpenAI, sdk: anthropic.AsyncAnthropic) -> None:
        said = await sdk.messages.create(
            model=MODEL, max_tokens=4, messages=[{"role": "user", "content": "hello"}]
        )
        assert (said.model, said.usage.input_tokens, said.usage.output_tokens) == (
            MODEL, READ, MADE,
        )  # fmt: skip
        async with sdk.messages.stream(
            model=MODEL, max_tokens=4, messages=[{"role": "user", "content": "hello"}]
        ) as stream:
            begun = [each.message.model async for each in stream if each.type == "message_start"]
        assert begun == [MODEL]

    play(tmp_path, asked)


@pytest.mark.usefixtures("serving_loop")
def test_errors_are_the_exceptions_of_each_sdk(tmp_path: Path) -> None:
    async def asked(ours: Stage, one: openai.AsyncOpenAI, other: anthropic.AsyncAnthropic) -> None:
        for model in ("globex-dates", OLD, "unknown"):
            with pytest.raises(openai.NotFoundError, match="does not exist or you do not have"):
                await one.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "hello"}]
                )
            with pytest.raises(anthropic.NotFoundError, match="does not exist or you do not have"):
                await other.messages.create(
                    model=model, max_tokens=4, messages=[{"role": "user", "content": "hello"}]
                )
        async with sdks(ours, "wrong") as (stranger, other_stranger):
            with pytest.raises(openai.AuthenticationError, match="Incorrect or missing API key"):
                await stranger.models.list()
            with pytest.raises(anthropic.AuthenticationError, match="Incorrect or missing API"):
                await other_stranger.messages.create(
                    model=MODEL, max_tokens=4, messages=[{"role": "user", "content": "hello"}]
                )
        policy = TrafficPolicy(limits=LimitPolicy(requests_per_minute=1))
        limited = table(ours.servers, revision=2)
        entry = alias("acme", (OLD, 100, ("s1",)), policy=policy)
        limited = limited.model_copy(update={"aliases": {**limited.aliases, MODEL: entry}})
        await ours.publish(limited)
        await one.completions.create(model=MODEL, prompt="hello", max_tokens=1)
        with pytest.raises(openai.RateLimitError, match="retry after the time given") as refused:
            await one.completions.create(model=MODEL, prompt="hello", max_tokens=1)
        assert int(refused.value.response.headers["retry-after"]) > 0

    play(tmp_path, asked)
