"""The SDKs that clients use, before a gateway and a real vLLM."""

from pathlib import Path
from typing import Literal

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionFunctionToolParam as Tool
from openai.types.chat import ChatCompletionMessageParam as Message

from tests.runtime.gateway.live import TEXTS, Served, in_front
from tests.runtime.gateway.stage import OLD, Stage
from tests.runtime.gateway.test_sdks import MODEL, sdks

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("serving_loop")]
TOOL: Tool = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}
ASKED: Message = {"role": "user", "content": TEXTS[0]}
PICTURE: Message = {
    "role": "user",
    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
}
NO_TOOLS = "This model calls no tools"


def test_answers_and_streams_name_the_asked_model(vllm: Served, tmp_path: Path) -> None:
    async def scenario(ours: Stage) -> None:
        async with sdks(ours) as (one, other):
            raw = await one.chat.completions.with_raw_response.create(
                model=MODEL,
                messages=[ASKED],
                max_tokens=24,
                temperature=0,
            )
            whole = raw.parse()
            assert (whole.model, raw.headers["x-fleetctl-version"]) == (MODEL, OLD)
            stream = await one.chat.completions.create(
                model=MODEL,
                messages=[ASKED],
                max_tokens=24,
                temperature=0,
                stream=True,
            )
            parts = [part async for part in stream]
            assert {part.model for part in parts} == {MODEL}
            text = "".join(c.delta.content or "" for part in parts for c in part.choices)
            assert text == whole.choices[0].message.content
            reply = await one.responses.create(model=MODEL, input=TEXTS[0], temperature=0)
            assert (reply.model, reply.output_text) == (MODEL, text)
            async with other.messages.stream(
                model=MODEL, max_tokens=24, messages=[{"role": "user", "content": TEXTS[0]}]
            ) as told:
                message = await told.get_final_message()
            assert message.model == MODEL
            assert message.usage.output_tokens > 0

    in_front(vllm, tmp_path / ".fleetctl", scenario)


def test_tools_and_pictures_are_refused_in_words_that_name_no_flag_and_json_is_served(
    vllm: Served, tmp_path: Path
) -> None:
    async def scenario(ours: Stage) -> None:
        async with sdks(ours) as (one, other):
            choices: tuple[Literal["auto", "required"], ...] = ("auto", "required")
            for choice in choices:
                with pytest.raises(openai.BadRequestError, match=NO_TOOLS):
                    await one.chat.completions.create(
                        model=MODEL,
                        messages=[ASKED],
                        tools=[TOOL],
                        tool_choice=choice,
                    )
            with pytest.raises(anthropic.BadRequestError, match=NO_TOOLS):
                await other.messages.create(
                    model=MODEL,
                    max_tokens=8,
                    messages=[{"role": "user", "content": TEXTS[0]}],
                    tools=[{"name": "look_up", "input_schema": {"type": "object"}}],
                )
            with pytest.raises(openai.BadRequestError, match="This model reads text alone"):
                await one.chat.completions.create(
                    model=MODEL,
                    messages=[PICTURE],
                )
            json_answer = await one.chat.completions.create(
                model=MODEL,
                messages=[ASKED],
                max_tokens=16,
                temperature=0,
                response_format={"type": "json_object"},
            )
            assert (json_answer.choices[0].message.content or "").startswith("{")
        assert [row["status"] for row in ours.rows()] == [400, 400, 400, 400, 200]

    in_front(vllm, tmp_path / ".fleetctl", scenario)
