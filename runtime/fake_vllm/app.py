"""The fake server's HTTP face: paths, statuses and texts as vLLM gives them."""

import json
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet.evals import FAKE
from runtime.fake_vllm.flags import FakeConfig
from runtime.fake_vllm.generation import count_tokens, generate, missing_field
from runtime.fake_vllm.metrics import metrics_text
from runtime.fake_vllm.state import Call, FakeModelServer, RefusedError

VERSION = f"0.32.0{FAKE}"
"""The vLLM version whose manners are imitated, and that they are: no evidence of this engine
counts for another."""

Endpoint = Callable[[Request], Awaitable[Response]]


def fake_app(config: FakeConfig, server: FakeModelServer | None = None) -> Starlette:
    """Return the server as an ASGI application.

    Args:
        config: What it is started with.
        server: Its memory, for a test that wants to look inside or ask for faults.
    """
    memory = server or FakeModelServer(config)
    routes = [
        Route("/v1/models", _calling("models", memory, _models)),
        Route("/version", _calling("version", memory, _version)),
        Route("/health", _calling("health", memory, _health)),
        Route("/ping", _calling("health", memory, _health)),
        Route("/metrics", _calling("metrics", memory, _metrics)),
        Route("/metrics/", _calling("metrics", memory, _metrics)),
        Route("/v1/chat/completions", _calling("generate", memory, _chat), methods=["POST"]),
        Route("/v1/completions", _calling("generate", memory, _text), methods=["POST"]),
        Route("/tokenize", _calling("tokenize", memory, _tokenize), methods=["POST"]),
    ]
    if config.runtime_updates and config.enable_lora:
        routes += [
            Route("/v1/load_lora_adapter", _calling("load", memory, _load), methods=["POST"]),
            Route("/v1/unload_lora_adapter", _calling("unload", memory, _unload), methods=["POST"]),
        ]
    return Starlette(
        routes=routes,
        exception_handlers={
            HTTPStatus.NOT_FOUND: _plain_error,
            HTTPStatus.METHOD_NOT_ALLOWED: _plain_error,
        },
    )


def _calling(
    call: Call,
    memory: FakeModelServer,
    action: Callable[[FakeModelServer, Request], Awaitable[Response]],
) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        try:
            memory.check(call)
            response = await action(memory, request)
        except RefusedError as error:
            return _error(error)
        if memory.faults.pop_lost(call):
            return Response(status_code=HTTPStatus.BAD_GATEWAY)
        return response

    return endpoint


def _error(error: RefusedError) -> Response:
    document = {
        "message": error.message,
        "type": error.kind,
        "param": error.parameter,
        "code": int(error.status),
    }
    return JSONResponse({"error": document}, status_code=error.status)


async def _plain_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 (Starlette's signature)
    status = HTTPStatus(getattr(error, "status_code", HTTPStatus.NOT_FOUND))
    return JSONResponse({"detail": status.phrase}, status_code=status)


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        message = "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.0'}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, message, "Bad Request", "body.0")
    return body


def _strings(body: dict[str, Any], *names: str) -> list[str]:
    for name in names:
        if name not in body:
            raise missing_field(name, len(body))
        if not isinstance(body[name], str):
            message = (
                f"1 validation error:\n  {{'type': 'string_type', 'loc': 'body.{name}', "
                "'msg': 'Input should be a valid string'}"
            )
            raise RefusedError(HTTPStatus.BAD_REQUEST, message, "Bad Request", f"body.{name}")
    return [body[name] for name in names]


async def _models(memory: FakeModelServer, _: Request) -> Response:
    base, *_others = memory.config.names
    cards = [
        _card(name, memory.config.model, None, memory.config.max_model_len)
        for name in memory.config.names
    ]
    cards += [_card(name, path, base, None) for name, path in memory.listed.items()]
    return JSONResponse({"object": "list", "data": cards})


def _card(name: str, root: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
    }


async def _version(_memory: FakeModelServer, _request: Request) -> Response:
    return JSONResponse({"version": VERSION})


async def _health(_memory: FakeModelServer, _request: Request) -> Response:
    return Response()


async def _metrics(memory: FakeModelServer, _: Request) -> Response:
    return Response(metrics_text(memory), media_type="text/plain; version=1.0.0")


async def _chat(memory: FakeModelServer, request: Request) -> Response:
    return await generate(memory, await _body(request), chat=True)


async def _text(memory: FakeModelServer, request: Request) -> Response:
    return await generate(memory, await _body(request), chat=False)


async def _tokenize(memory: FakeModelServer, request: Request) -> Response:
    body = await _body(request)
    (prompt,) = _strings(body, "prompt")
    memory.path_of(body.get("model"))
    count = count_tokens(prompt)
    document = {"count": count, "max_model_len": memory.config.max_model_len}
    return JSONResponse(document | {"tokens": list(range(count)), "token_strs": None})


async def _load(memory: FakeModelServer, request: Request) -> Response:
    name, path = _strings(await _body(request), "lora_name", "lora_path")
    memory.load(name, path)
    return Response(f"Success: LoRA adapter '{name}' added successfully.")


async def _unload(memory: FakeModelServer, request: Request) -> Response:
    (name,) = _strings(await _body(request), "lora_name")
    memory.unload(name)
    return Response(f"Success: LoRA adapter '{name}' removed successfully.")
