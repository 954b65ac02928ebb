"""What `tests.bench.gateway_trials` plays on: a gateway's process, a server, and clients."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.spec import GatewaySpec
from runtime.gateway.control import supervisor
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.control.supervisor import GatewayProcess
from runtime.gateway.table.table import RoutingTable
from tests.ports import free_port
from tests.runtime.gateway.stage import ACME, CHAT, chat, table

EVERY_S = 0.01
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n"
_STREAM = _HEAD % (b"text/event-stream", b"transfer-encoding: chunked")
_USAGE = {"prompt_tokens": 3, "completion_tokens": 5}


@dataclass
class Server:
    """Answers at once; a body with a `suffix` never, one that asks for a stream without end."""

    url: str = ""
    begun: int = 0
    """Requests that it has been at work on for long."""
    left_at: list[float] = field(default_factory=list)
    """When the other side ended a request that it was still at work on."""

    def has_begun(self, count: int) -> bool:
        return self.begun >= count

    def was_left(self, count: int) -> bool:
        return len(self.left_at) >= count

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r")[0] or 0)
                body = json.loads(await reader.readexactly(length) or b'{"model":""}')
                if "suffix" in body or body.get("stream"):
                    await self._work(reader, writer, streams=bool(body.get("stream")))
                    return
                answer = json.dumps({"model": body["model"], "usage": _USAGE}).encode()
                size = b"content-length: %d" % len(answer)
                writer.write(_HEAD % (b"application/json", size) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _work(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, streams: bool
    ) -> None:
        event = b'data: {"choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
        left = asyncio.ensure_future(reader.read())
        self.begun += 1
        if streams:
            writer.write(_STREAM)
        while not left.done():
            if streams:
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.wait([left], timeout=EVERY_S)
        self.left_at.append(time.perf_counter())


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        listening.close()


@dataclass
class Answer:
    status: int
    version: str
    request_id: str
    body: bytes


@dataclass
class Client:
    """One connection that is kept open."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> "AsyncIterator[Client]":
        made = cls(*await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2])))
        try:
            yield made
        finally:
            made.writer.transport.abort()

    def send(self, **more: Any) -> None:
        body = json.dumps(chat(**more)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ACME}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)

    async def ask(self, **more: Any) -> Answer:
        """Send a request and wait for its answer, which is no stream.

        Raises:
            OSError, asyncio.IncompleteReadError: the connection has ended.
        """
        self.send(**more)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        body = await self.reader.readexactly(int(headers["content-length"]))
        found = headers.get("x-fleetctl-version", ""), headers.get("x-request-id", "")
        return Answer(int(lines[0].split()[1]), *found, body)


@dataclass
class Setting:
    """A gateway's state folder with one server behind it."""

    state: Path
    server: Server
    gateway: GatewaySpec
    gateways: LocalGateways

    def table(self, *, new: int = 0, revision: int = 1) -> RoutingTable:
        return table({"s1": self.server.url}, new=new, revision=revision)

    async def start(self) -> GatewayProcess:
        return await asyncio.to_thread(supervisor.start, self.state, self.gateway)

    async def stop(self) -> None:
        await asyncio.to_thread(supervisor.stop, self.state, "main")

    def rows(self) -> list[dict[str, Any]]:
        """Return the usage log.

        Raises:
            ValueError: a line in it cannot be read.
        """
        text = (self.state / "gateways/main/usage.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


@asynccontextmanager
async def setting(state: Path) -> AsyncIterator[Setting]:
    """Give a gateway that does not run yet; it is stopped at the end."""
    gateway = GatewaySpec("main", f"127.0.0.1:{free_port()}", "")
    gateways = LocalGateways(state, {"main": gateway})
    async with server() as behind:
        made = Setting(state, behind, gateway, gateways)
        await gateways.publish(made.table())
        try:
            yield made
        finally:
            await made.stop()
            await gateways.close()
