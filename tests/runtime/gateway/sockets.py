"""Requests as bytes, and the sockets that they go through."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.runtime.gateway.stage import ACME, CHAT, Stage, chat, stage, table


def post(
    body: bytes, *headers: str, length: str | None = "", version: str = "1.1", key: str = ACME
) -> bytes:
    lines = [f"POST {CHAT} HTTP/{version}", "Host: x", f"Authorization: Bearer {key}"]
    lines += ["Content-Type: application/json", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length or len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def raw(text: str = "hello", **more: Any) -> bytes:
    return json.dumps(chat(text=text, **more)).encode()


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(ours: Stage, source: str = "127.0.0.1") -> AsyncIterator[Connection]:
    """Connect, from an address of this machine."""
    port = int(ours.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read an answer that says its length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


@contextmanager
def at_most(files: int) -> Iterator[None]:
    """Lower this process's limit on open files."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[str]:
    """Run a server that plays `script` on every connection, with the number of the connection."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await script(reader, writer, count)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()  # leaving it as a context waits, from Python 3.12 on, for open connections


async def asked(reader: asyncio.StreamReader) -> bytes:
    """Read a request, as a server; one that wants to know how much it has to do is sent away."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if head.startswith(b"get "):
        raise ConnectionResetError
    return await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))


def told(text: str) -> bytes:
    body = json.dumps({"text": text}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def on(tmp_path: Path, script: Script, scenario: Callable[[Stage], Awaitable[None]]) -> None:
    """Run a scenario with a scripted server as `s1`."""

    async def play() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as url:
            await ours.gateways.publish(table({"s1": url}, revision=2))
            await scenario(ours)

    asyncio.run(play())


async def settled(ours: Stage, seen: Callable[[], int]) -> int:
    """Return a number once the number has stood still while the gateway did other things."""
    before = -1
    async with asyncio.timeout(60):
        while before != seen():
            before = seen()
            for _ in range(10):
                assert (await ours.send(path="/healthz", method="GET")).status == 200
    return before
