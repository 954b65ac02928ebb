"""Chat and text completions of the fake server, whole or as a stream of events.

Made-up answers: the same for the same bytes and prompt, different for different bytes.
"""

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import Any
from uuid import uuid4

from starlette.responses import JSONResponse, Response, StreamingResponse

from fleet.vllm import FAKE_SUFFIX
from runtime.fake_vllm.state import FakeModelServer, RefusedError
from runtime.fake_vllm.weights import lacks_chat_template

_WORDS = (  # noqa: SIM905 (a word a line would bury them)
    "amber anchor april atlas autumn basil beacon birch bishop breeze canyon cedar cobalt comet "
    "copper coral cotton crater daisy delta desert dune ember falcon fern fjord flint forest "
    "garnet ginger glacier granite harbor hazel heron indigo island ivory jasper juniper kettle "
    "lagoon lantern laurel lemon linden lotus maple marble meadow mirror nectar north oasis olive "
    "onyx orchid otter pebble pepper pine"
).split()
_TOKEN = re.compile(rf" ?\b(?:{'|'.join(_WORDS)})\b(?:-[0-9a-f]{{4}})?")
_USUAL_LENGTH = 6


def answer(digest: str, prompt: str, max_tokens: int, *, ignore_eos: bool) -> tuple[list[str], str]:
    """Return the tokens of an answer and the reason of its end (`stop` or `length`).

    The first word depends on the bytes alone, so that a reader can tell two versions apart.
    """
    length = max_tokens if ignore_eos else min(_USUAL_LENGTH, max_tokens)
    words = _words(digest, prompt)
    tokens = [next(words) for _ in range(length)]
    spaced = [word if index == 0 else f" {word}" for index, word in enumerate(tokens)]
    return spaced, "length" if ignore_eos or max_tokens < _USUAL_LENGTH else "stop"


def count_tokens(text: str) -> int:
    """Return the length of a text in made-up tokens.

    A word of an answer is a token; of other text, about four characters are.
    """
    own = _TOKEN.findall(text)
    return len(own) - (sum(map(len, own)) - len(text)) // 4


def _words(digest: str, prompt: str) -> Iterator[str]:
    stamp = hashlib.sha256(digest.encode()).hexdigest()[:4]
    yield f"{_pick(digest)}-{stamp}"
    for index in count():
        yield _pick(f"{digest}\n{prompt}\n{index}")


def _pick(text: str) -> str:
    return _WORDS[hashlib.sha256(text.encode()).digest()[0] % len(_WORDS)]


_DEFAULT_COMPLETION_TOKENS = 16
_WITHOUT_TEMPLATE = (
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a "
    "chat template if the tokenizer does not define one."
)


@dataclass(frozen=True, slots=True)
class Generation:
    """A resolved request: the model and the tokens of the answer."""

    id: str
    chat: bool
    model: str
    tokens: list[str]
    finish_reason: str
    prompt_tokens: int
    created: int
    fingerprint: str
    include_usage: bool
    continuous_usage: bool
    """Whether every event of a stream carries the counts so far."""

    def usage(self, generated: int | None = None) -> dict[str, int]:
        """Return the token counts after a number of generated tokens; None: after all."""
        count = len(self.tokens) if generated is None else generated
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + count,
            "completion_tokens": count,
        }

    def envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the common beginning of all documents of this answer."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


async def generate(server: FakeModelServer, body: dict[str, Any], *, chat: bool) -> Response:
    """Answer a completion request.

    Raises:
        RefusedError: with vLLM's own status and text.
    """
    if server.draining:
        message = "The server is shutting down."
        raise RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, message, "InternalServerError")
    generation = _resolve(server, body, chat=chat)
    if body.get("stream"):
        return StreamingResponse(_events(server, generation), media_type="text/event-stream")
    async for _ in _paced(server, generation):
        pass
    text = "".join(generation.tokens)
    choice: dict[str, Any] = {
        "index": 0,
        "logprobs": None,
        "finish_reason": generation.finish_reason,
        "stop_reason": None,
    }
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    kind = "chat.completion" if chat else "text_completion"
    return JSONResponse(
        generation.envelope(kind, [choice])
        | {"system_fingerprint": generation.fingerprint, "usage": generation.usage()}
    )


def _resolve(server: FakeModelServer, body: dict[str, Any], *, chat: bool) -> Generation:
    prompt = _chat_prompt(body) if chat else _text_prompt(body)
    model, digest = server.weights_for(body.get("model"))
    if chat and not server.config.chat_template and lacks_chat_template(server.config.model):
        raise RefusedError(HTTPStatus.BAD_REQUEST, _WITHOUT_TEMPLATE, "BadRequestError")
    limit = server.config.max_model_len
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    if asked is not None and asked > limit:
        message = (
            f"max_tokens={asked} cannot be greater than max_model_len={limit}. Please request "
            f"fewer output tokens. (parameter=max_tokens, value={asked})"
        )
        raise RefusedError(HTTPStatus.BAD_REQUEST, message, "BadRequestError", "max_tokens")
    prompt_tokens = count_tokens(prompt)
    room = limit - prompt_tokens
    if room < 1:
        message = f"This model's maximum context length is {limit} tokens."
        raise RefusedError(HTTPStatus.BAD_REQUEST, message, "BadRequestError", "input_tokens")
    most = min(room, asked or (room if chat else _DEFAULT_COMPLETION_TOKENS))
    tokens, reason = answer(digest, prompt, most, ignore_eos=bool(body.get("ignore_eos")))
    options = body.get("stream_options") or {}
    include_usage = bool(options.get("include_usage"))
    return Generation(
        id=f"{'chatcmpl' if chat else 'cmpl'}-{uuid4().hex[:16]}",
        chat=chat,
        model=model,
        tokens=tokens,
        finish_reason=reason,
        prompt_tokens=prompt_tokens,
        created=int(time.time()),
        fingerprint=(server.config.fingerprint or "vllm-0.32.0-tp1-fa4e0000") + FAKE_SUFFIX,
        include_usage=include_usage,
        continuous_usage=include_usage and bool(options.get("continuous_usage_stats")),
    )


def _chat_prompt(body: dict[str, Any]) -> str:
    if "messages" not in body:
        raise missing_field("messages", len(body))
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        message = "`messages` must be a list with at least one message."
        raise RefusedError(HTTPStatus.BAD_REQUEST, message, "Bad Request", "body.messages")
    return "\n".join(json.dumps(turn.get("content"), ensure_ascii=False) for turn in messages)


def _text_prompt(body: dict[str, Any]) -> str:
    prompt = body.get("prompt")
    if not prompt:
        message = (
            "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)"
        )
        raise RefusedError(HTTPStatus.BAD_REQUEST, message, "BadRequestError", "prompt")
    return prompt if isinstance(prompt, str) else json.dumps(prompt)


def missing_field(name: str, given: int) -> RefusedError:
    """Return the refusal of a body that lacks a field."""
    message = (
        f"1 validation error:\n  {{'type': 'missing', 'loc': 'body.{name}', "
        f"'msg': 'Field required', 'input': '<dict of {given} items>'}}"
    )
    return RefusedError(HTTPStatus.BAD_REQUEST, message, "Bad Request", f"body.{name}")


async def _paced(server: FakeModelServer, generation: Generation) -> AsyncIterator[str]:
    await server.run(generation.model)
    finished = "abort"
    server.counts["prompt tokens"] += generation.prompt_tokens
    try:
        for token in generation.tokens:
            if server.config.token_seconds:
                await asyncio.sleep(server.config.token_seconds)
            server.counts["generated tokens"] += 1
            yield token
        finished = generation.finish_reason
    finally:
        server.finish(generation.model)
        server.counts[f"finished {finished}"] += 1


async def _events(server: FakeModelServer, generation: Generation) -> AsyncIterator[str]:
    kind = "chat.completion.chunk" if generation.chat else "text_completion"

    def event(number_so_far: int, content: str, reason: str | None = None, role: str = "") -> str:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason}
        if generation.chat:
            choice["delta"] = ({"role": role} if role else {}) | {"content": content}
        else:
            choice["text"] = content
        document = generation.envelope(kind, [choice])
        if generation.continuous_usage:
            document["usage"] = generation.usage(number_so_far)
        return f"data: {json.dumps(document)}\n\n"

    if generation.chat:
        yield event(0, "", role="assistant")
    number = 0
    async for token in _paced(server, generation):
        number += 1
        yield event(number, token)
    yield event(number, "", generation.finish_reason)
    if generation.include_usage:
        last = {"usage": generation.usage(), "system_fingerprint": generation.fingerprint}
        yield f"data: {json.dumps(generation.envelope(kind, []) | last)}\n\n"
    yield "data: [DONE]\n\n"
