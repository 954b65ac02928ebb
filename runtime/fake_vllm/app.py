"""The HTTP API of the fake server: paths, statuses, texts and metrics of vLLM."""

import json
import time
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet.vllm import FAKE_SUFFIX
from runtime.fake_vllm.generation import count_tokens, generate, missing_field
from runtime.fake_vllm.state import Call, FakeConfig, FakeModelServer, RefusedError

VERSION = f"0.32.0{FAKE_SUFFIX}"
"""The imitated version of vLLM, marked as fake: evidence of this engine counts for no other."""
_BYTES_PER_TOKEN = 1024

Endpoint = Callable[[Request], Awaitable[Response]]
Action = Callable[[FakeModelServer, Request], Awaitable[Response]]


def fake_app(config: FakeConfig, server: FakeModelServer | None = None) -> Starlette:
    """Return the server as an ASGI application; tests read `server` and inject faults in it."""
    memory = server or FakeModelServer(config)

    def route(path: str, call: Call, action: Action, method: str = "GET") -> Route:
        return Route(path, _endpoint(call, memory, action), methods=[method])

    routes = [
        route("/v1/models", "models", _models),
        route("/version", "version", _version),
        route("/health", "health", _health),
        route("/ping", "health", _health),
        route("/metrics", "metrics", _metrics),
        route("/metrics/", "metrics", _metrics),
        route("/v1/chat/completions", "generate", _generate, "POST"),
        route("/v1/completions", "generate", _generate, "POST"),
        route("/tokenize", "tokenize", _tokenize, "POST"),
    ]
    if config.runtime_updates and config.enable_lora:
        routes += [
            route("/v1/load_lora_adapter", "load", _load, "POST"),
            route("/v1/unload_lora_adapter", "unload", _unload, "POST"),
        ]
    errors = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
    return Starlette(routes=routes, exception_handlers=dict.fromkeys(errors, _plain_error))


def _endpoint(call: Call, memory: FakeModelServer, action: Action) -> Endpoint:
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
    text = "".join(f"{line}\n" for line in _metric_lines(memory))
    return Response(text, media_type="text/plain; version=1.0.0")


def _metric_lines(server: FakeModelServer) -> Iterator[str]:
    """Yield the series of vLLM that others read; like vLLM's, with the name of the base alone."""
    base = f'engine="0",model_name="{server.config.names[0]}"'
    running = sum(server.running.values())
    yield "# TYPE process_start_time_seconds gauge"
    yield f"process_start_time_seconds {server.started!r}"
    yield f"vllm:num_requests_running{{{base}}} {running}.0"
    waiting = {"capacity": sum(not turn.cancelled() for turn in server.waiting), "deferred": 0}
    yield f"vllm:num_requests_waiting{{{base}}} {sum(waiting.values())}.0"
    for reason, count in waiting.items():
        yield f'vllm:num_requests_waiting_by_reason{{{base},reason="{reason}"}} {count}.0'
    yield f"vllm:kv_cache_usage_perc{{{base}}} 0.0"
    yield f"vllm:num_preemptions_total{{{base}}} 0.0"
    yield f"vllm:prompt_tokens_total{{{base}}} {server.counts['prompt tokens']}.0"
    yield f"vllm:generation_tokens_total{{{base}}} {server.counts['generated tokens']}.0"
    for reason in ("stop", "length", "abort", "error"):
        count = server.counts[f"finished {reason}"]
        yield f'vllm:request_success_total{{finished_reason="{reason}",{base}}} {count}.0'
    tokens = 64 * 1024 * 1024 // _BYTES_PER_TOKEN
    yield (
        f'vllm:cache_config_info{{block_size="128",cache_dtype="auto",enable_prefix_caching="True",'
        f'engine="0",gpu_memory_utilization="0.92",kv_cache_size_tokens="{tokens}",'
        f'num_gpu_blocks="{tokens // 128}"}} 1.0'
    )
    names = ",".join(sorted(name for name in server.listed if server.running[name]))
    if server.counts["finished stop"] + server.counts["finished length"] + running:
        yield (
            f'vllm:lora_requests_info{{max_lora="{server.config.max_loras}",'
            f'running_lora_adapters="{names}",waiting_lora_adapters="{names}"}} {server.started!r}'
        )


async def _generate(memory: FakeModelServer, request: Request) -> Response:
    chat = request.url.path == "/v1/chat/completions"
    return await generate(memory, await _body(request), chat=chat)


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
