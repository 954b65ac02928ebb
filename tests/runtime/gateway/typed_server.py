"""Responses, messages and embeddings beside the fake server's own paths, in vLLM's shapes.

The fake server imitates a base that generates text, which has no embeddings; what stands before
servers is tested with all paths.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.fake_vllm.state import FakeModelServer

RESPONSES: Final = "/v1/responses"
MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"
EMBEDDINGS: Final = "/v1/embeddings"
READ, MADE = 7, 4
"""Tokens of a prompt and of an answer; embeddings make none."""
_COUNTS: Final = {"input_tokens": READ, "output_tokens": MADE}


def _response(name: str) -> dict[str, Any]:
    text = [{"type": "output_text", "text": name}]
    return {"object": "response", "model": name, "output": [{"type": "message", "content": text}]}


def _response_events(name: str) -> list[dict[str, Any]]:
    return [
        {"type": "response.created", "response": _response(name) | {"usage": None}},
        {"type": "response.output_text.delta", "delta": name},
        {"type": "response.completed", "response": _response(name) | {"usage": _COUNTS}},
    ]


def _message(name: str) -> dict[str, Any]:
    content = [{"type": "text", "text": name}]
    return {"type": "message", "role": "assistant", "model": name, "content": content}


def _message_events(name: str) -> list[dict[str, Any]]:
    begun = _message(name) | {"content": [], "usage": _COUNTS | {"output_tokens": 0}}
    return [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": name},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": _COUNTS},
        {"type": "message_stop"},
    ]


def _embeddings(name: str) -> dict[str, Any]:
    counts = {"prompt_tokens": READ, "total_tokens": READ, "completion_tokens": 0}
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    return {"object": "list", "model": name, "data": [vector], "usage": counts}


_WHOLE: Final[dict[str, Callable[[str], dict[str, Any]]]] = {
    RESPONSES: lambda name: _response(name) | {"usage": _COUNTS},
    MESSAGES: lambda name: _message(name) | {"usage": _COUNTS},
    EMBEDDINGS: _embeddings,
    COUNT_TOKENS: lambda _: {"input_tokens": READ},
}
_STREAMED: Final[dict[str, Callable[[str], list[dict[str, Any]]]]] = {
    RESPONSES: _response_events,
    MESSAGES: _message_events,
}


def with_typed(app: ASGIApp, memory: FakeModelServer) -> ASGIApp:
    """Return the fake server with these paths; a model that it does not hold is its own 404."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path not in _WHOLE:
            await app(scope, receive, send)
            return
        asked = json.loads(await Request(scope, receive).body())
        name = asked["model"]
        if name not in memory.listed:
            error = {"message": f"The model `{name}` does not exist.", "code": 404}
            reply: Response = JSONResponse({"error": error}, 404)
        elif asked.get("stream") and path in _STREAMED:
            events = "".join(
                f"event: {each['type']}\ndata: {json.dumps(each)}\n\n"
                for each in _STREAMED[path](name)
            )
            reply = Response(events, media_type="text/event-stream")
        else:
            reply = JSONResponse(_WHOLE[path](name))
        await reply(scope, receive, send)

    return serve
