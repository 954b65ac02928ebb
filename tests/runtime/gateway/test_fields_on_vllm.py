"""The fields that the installed vLLM reads, and those that would end or stall it."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runtime.gateway.body.fields import KNOWN
from tests.runtime.gateway.live import CORVID, Served, in_front
from tests.runtime.gateway.stage import Stage, chat
from tests.runtime.gateway.test_schemas import form, matching, schema

pytestmark = pytest.mark.live
_FIELDS = """
import json, typing
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.pooling.embed.protocol import EmbeddingRequest

def models(kind):
    inner = [model for part in typing.get_args(kind) for model in models(part)]
    return [kind] if hasattr(kind, "model_fields") else inner

found = {}
for kind in (ChatCompletionRequest, CompletionRequest, ResponsesRequest, AnthropicMessagesRequest,
             AnthropicCountTokensRequest, EmbeddingRequest):
    for model in models(kind):
        for name, field in model.model_fields.items():
            aliases = {field.alias, field.validation_alias} - {None}
            found.update(dict.fromkeys([name, *map(str, aliases)], model.__name__))
print(json.dumps(found))
"""


def test_every_field_that_vllm_reads_is_in_a_list(vllm_python: Path) -> None:
    """A new field is passed on, bounded, dropped or refused on purpose, in `fields.py`."""
    ran = subprocess.run(
        [vllm_python, "-c", _FIELDS], capture_output=True, text=True, check=True, timeout=300
    )
    found: dict[str, str] = json.loads(ran.stdout.splitlines()[-1])
    assert {"messages", "prompt", "input", "max_tokens", "stop_token_ids"} <= found.keys()
    assert {name: model for name, model in found.items() if name not in KNOWN} == {}


@pytest.mark.usefixtures("serving_loop")
def test_what_would_end_or_stall_vllm_is_refused_and_a_neighbour_is_answered(
    vllm: Served, tmp_path: Path
) -> None:
    attacks: list[dict[str, Any]] = [
        {"response_format": form(matching("^[a-z]{3,40}$", 3000))},
        {"response_format": form(schema(256, minProperties=1))},
        {"structured_outputs": {"regex": "[a-z]?" * 80 + "[a-z]" * 80}},
        {"stop_token_ids": list(range(200)), "min_tokens": 2},
        {"logit_bias": {str(number): 1 for number in range(2000)}},
        {"allowed_token_ids": list(range(2000))},
        {"bad_words": ["abc"] * 200},
        {"min_tokens": 2**31},
    ]

    async def scenario(ours: Stage) -> None:
        neighbour = chat(
            "corvid-dates", "Invoice dated March 14, 2031", max_tokens=8, temperature=0
        )
        quiet = (await ours.send(neighbour, secret=CORVID)).text
        sent = [ours.send(chat(max_tokens=4, **attack)) for attack in attacks]
        replies = await asyncio.gather(ours.send(neighbour, secret=CORVID), *sent)
        assert [reply.status for reply in replies] == [200] + [400] * len(attacks)
        assert replies[0].text == quiet
        for attack, reply in zip(attacks, replies[1:], strict=True):
            assert reply.json["error"]["param"] in attack

        allowed: list[dict[str, Any]] = [
            {"response_format": form(schema(20, required=["p0"]))},
            {"stop_token_ids": list(range(120)), "min_tokens": 2},
            {"bad_words": ["abcdefg"] * 64},
            {"logit_bias": {str(number): 1 for number in range(200)}},
        ]
        for fields in allowed:
            assert (await ours.send(chat(max_tokens=4, **fields))).status == 200, fields

    in_front(vllm, tmp_path / ".fleetctl", scenario)
