"""The control plane's client: what goes wrong, and as which error it comes out."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fleet.errors import (
    EngineError,
    EngineRejectedError,
    EngineTimedOutError,
    EngineUnreachableError,
)
from runtime.json_client import JsonClient
from tests.ports import free_port

Use = Callable[[JsonClient], Awaitable[Any]]
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def slow(_: Request) -> Response:
    await asyncio.Event().wait()
    return Response()


async def broken(_: Request) -> Response:
    document = {"error": {"message": "rank 64 is too high", "code": 500}}
    return JSONResponse(document, status_code=500)


async def detail(_: Request) -> Response:
    return JSONResponse({"detail": "Not Found"}, status_code=404)


async def text(_: Request) -> Response:
    return PlainTextResponse("Success")


async def echo(request: Request) -> Response:
    return JSONResponse({"method": request.method, "body": (await request.body()).decode()})


APP = Starlette(
    routes=[
        Route("/slow", slow, methods=["GET", "POST"]),
        Route("/broken", broken, methods=["GET", "POST"]),
        Route("/detail", detail),
        Route("/text", text, methods=["GET", "POST"]),
        Route("/echo", echo, methods=["GET", "POST", "PUT", "DELETE"]),
    ]
)


def in_process(use: Use) -> Any:
    async def body() -> Any:
        async with JsonClient("http://peer", app=APP, peer="server `x`") as http:
            return await use(http)

    return asyncio.run(body())


@pytest.mark.parametrize(
    ("use", "error", "code", "says"),
    [
        (lambda http: http.get("/broken"), EngineRejectedError, "FC4003", "with 500: rank 64 is"),
        (lambda http: http.get("/detail"), EngineRejectedError, "FC4003", "with 404: Not Found"),
        (lambda http: http.post("/broken", {}), EngineRejectedError, "FC4003", "POST /broken"),
        (
            lambda http: http.get("/text"),
            EngineRejectedError,
            "FC4004",
            "than JSON: text/plain",
        ),
        (lambda http: http.get("/slow", timeout_s=0), EngineTimedOutError, "FC4002", "within 0 s"),
        (lambda http: http.post("/slow", timeout_s=0), EngineTimedOutError, "FC4002", "server `x`"),
    ],
)
def test_what_goes_wrong_comes_out_as_an_error_of_ours(
    use: Use, error: type[EngineError], code: str, says: str
) -> None:
    with pytest.raises(error) as caught:
        in_process(use)
    assert type(caught.value) is error
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code
    assert says in diagnostic.detail


def test_a_refusal_keeps_its_status() -> None:
    with pytest.raises(EngineRejectedError) as caught:
        in_process(lambda http: http.get("/detail"))
    assert caught.value.status == 404


def test_answers_are_json_where_they_say_so_and_text_elsewhere() -> None:
    assert in_process(lambda http: http.post("/text")) == "Success"
    assert in_process(lambda http: http.get_text("/text")) == "Success"
    sent = in_process(lambda http: http.put("/echo", {"a": [1]}))
    assert sent["method"] == "PUT"
    assert json.loads(sent["body"]) == {"a": [1]}
    assert in_process(lambda http: http.get("/echo"))["body"] == ""


def test_nobody_listening_is_unreachable_and_not_a_timeout() -> None:
    async def use() -> None:
        async with JsonClient("http://127.0.0.1:9") as http:
            await http.get("/health")

    with pytest.raises(EngineUnreachableError, match="cannot be reached") as caught:
        asyncio.run(use())
    assert not isinstance(caught.value, EngineTimedOutError)


def test_a_url_that_is_none_is_unreachable_too() -> None:
    async def use() -> None:
        async with JsonClient("htp://x") as http:
            await http.get("/health")

    with pytest.raises(EngineUnreachableError):
        asyncio.run(use())


@pytest.mark.parametrize(("method", "tries"), [("get", 3), ("post", 1)])
def test_only_reads_are_repeated_when_the_connection_breaks(method: str, tries: int) -> None:
    connections = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    with pytest.raises(EngineUnreachableError):
        _with_peer(hang_up, lambda http: getattr(http, method)("/x"))
    assert connections == tries


def test_a_read_succeeds_when_a_later_attempt_does() -> None:
    connections = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if connections > 1:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    assert _with_peer(once, lambda http: http.get("/x")) == {}


def _with_peer(peer: Peer, use: Use) -> Any:
    async def body() -> Any:
        server = await asyncio.start_server(peer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, JsonClient(f"http://127.0.0.1:{port}") as http:
            return await use(http)

    return asyncio.run(body())


def test_a_refused_connection_asks_for_its_forward_once() -> None:
    port, asked = free_port(), []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    async def body(*, helps: bool) -> Any:
        async with AsyncExitStack() as stack:

            async def forward() -> None:
                asked.append(helps)
                if helps:
                    server = await asyncio.start_server(peer, "127.0.0.1", port)
                    await stack.enter_async_context(server)

            http = JsonClient(f"http://127.0.0.1:{port}", forward=forward)
            await stack.enter_async_context(http)
            return await http.post("/"), await http.get("/")

    assert asyncio.run(body(helps=True)) == ("{}", {})
    with pytest.raises(EngineUnreachableError):
        asyncio.run(body(helps=False))
    assert asked == [True, False]


def test_a_unix_socket_is_spoken_to_like_a_host(tmp_path: Path) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"GET /table ")
        writer.write(
            b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n{"a":1}'
        )
        writer.close()

    async def body() -> Any:
        path = tmp_path / "admin.sock"
        server = await asyncio.start_unix_server(peer, path)
        async with server, JsonClient("http://gateway", socket=path) as http:
            assert str(path) in http.peer
            return await http.get("/table")

    assert asyncio.run(body()) == {"a": 1}
