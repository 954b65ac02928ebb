"""A gateway and fake servers on real sockets, in a single event loop, for a single test."""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from fleet.spec import GatewaySpec
from fleet.traffic import TrafficPolicy
from runtime.fake_vllm.app import fake_app
from runtime.fake_vllm.state import FakeConfig, FakeModelServer
from runtime.fake_vllm.weights import FakeWeights
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from runtime.gateway.table.table import AliasEntry, KeyEntry, RoutingTable, ShareEntry
from tests.runtime.gateway.admin_side import metrics_of
from tests.runtime.gateway.typed_server import with_typed

OLD = "acme-support-tiny-v2.1.0"
NEW = "acme-support-tiny-v2.2.0"
OTHERS = "globex-dates-tiny-v1.0.0"
ACME, GLOBEX = "acme-secret", "globex-secret"
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
MAIN = GatewaySpec("main", "127.0.0.1:0", "")


@dataclass
class Replica:
    """A fake server that keeps its requests."""

    memory: FakeModelServer
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    server: uvicorn.Server | None = None
    running: "asyncio.Task[None] | None" = None

    @property
    def models(self) -> list[str]:
        """The models of the requests so far."""
        return [json.loads(body)["model"] for body in self.bodies]

    def pace(self, token_seconds: float) -> None:
        """Generate every further token in the given seconds, of running answers too."""
        self.memory.config = replace(self.memory.config, token_seconds=token_seconds)

    async def stop(self) -> None:
        """End the server with all its connections; it refuses new ones from now on."""
        assert self.server is not None
        assert self.running is not None
        self.server.should_exit = True
        self.server.force_exit = True
        await self.running


@asynccontextmanager
async def replica(*adapters: str, token_seconds: float = 0.0) -> AsyncIterator[Replica]:
    """Run a fake server that has these adapters loaded."""
    config = FakeConfig(
        model="/base", served_model_names=("tiny",), enable_lora=True, max_loras=8,
        token_seconds=token_seconds,
    )  # fmt: skip
    made = Replica(FakeModelServer(config))
    for name in adapters:
        made.memory.listed[name] = f"/store/{name}"
        made.memory.cached[name] = FakeWeights(f"/store/{name}", name)
    app = with_typed(fake_app(config, made.memory), made.memory)

    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        body: list[bytes] = []

        async def listen() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                body.append(message.get("body", b""))
                if not message.get("more_body"):
                    made.bodies.append(b"".join(body))
            return message

        if scope["method"] == "POST":
            made.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
        await app(scope, listen, send)

    # Bound before the server starts, so that connections wait instead of being refused; the
    # protocol is named because asyncio turns off Nagle's algorithm only where it is.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    made.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    made.server = uvicorn.Server(
        uvicorn.Config(recording, log_level="error", lifespan="off", ws="none")
    )
    made.running = asyncio.create_task(made.server.serve([listening]))
    try:
        yield made
    finally:
        await made.stop()


async def fake_servers(
    stack: AsyncExitStack, count: int, token_seconds: float
) -> dict[str, Replica]:
    """Run `s1`, `s2`, … with all versions of both clients, as long as the stack is open."""
    made = (replica(OLD, NEW, OTHERS, token_seconds=token_seconds) for _ in range(count))
    return {f"s{n}": await stack.enter_async_context(each) for n, each in enumerate(made, 1)}


def key(client: str, secret: str, name: str = "prod") -> dict[str, KeyEntry]:
    sha = hashlib.sha256(secret.encode()).hexdigest()
    entry = KeyEntry(client=client, name=name, reference=f"env:{client.upper()}", sha256=sha)
    return {f"{client}/{name}": entry}


def alias(
    client: str,
    *shares: tuple[str, int, tuple[str, ...]],
    salt: str = "s",
    policy: TrafficPolicy | None = None,
) -> AliasEntry:
    entries = tuple(ShareEntry(adapter=a, percent=p, servers=s) for a, p, s in shares)
    return AliasEntry(client=client, salt=salt, shares=entries, policy=policy)


def table(
    servers: Mapping[str, str], *, new: int = 0, revision: int = 1, token: int = 0
) -> RoutingTable:
    """Two clients; acme has two versions on every server, globex one."""
    names = tuple(sorted(servers))
    return RoutingTable(
        revision=revision,
        token=token,
        servers=dict(servers),
        aliases={
            "acme-support": alias("acme", (NEW, new, names), (OLD, 100 - new, names)),
            "globex-dates": alias("globex", (OTHERS, 100, names)),
        },
        keys=key("acme", ACME) | key("globex", GLOBEX),
    )


def chat(model: str = "acme-support", text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def version(self) -> str:
        return self.headers["x-fleetctl-version"]

    @property
    def text(self) -> str:
        return str(self.json["choices"][0]["message"]["content"])


@dataclass
class Stage:
    """The parts of a test."""

    state: Path
    url: str
    replicas: dict[str, Replica]
    gateways: LocalGateways
    http: aiohttp.ClientSession

    @property
    def servers(self) -> dict[str, str]:
        return {name: replica.url for name, replica in self.replicas.items()}

    @property
    def asked(self) -> list[str]:
        """The models that any server was asked for."""
        return [model for replica in self.replicas.values() for model in replica.models]

    def rows(self) -> list[dict[str, Any]]:
        """The usage log."""
        text = (self.state / "gateways/main/usage.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    async def publish(self, table: RoutingTable) -> None:
        """Hand a table to the gateway, and wait until the gateway serves the table."""
        assert await self.gateways.publish(table) == ()

    async def shown(self) -> dict[str, bytes]:
        """Return all that operators are shown, by name."""
        metrics = (await metrics_of(self.state)).encode()
        rows = (self.state / "gateways/main/usage.jsonl").read_bytes()
        return {"the rows": rows, "the metrics": metrics}

    async def send(
        self,
        body: Any = None,
        *,
        secret: str | None = ACME,
        path: str = CHAT,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request; a body that is neither bytes nor made of parts is written as JSON."""
        raw = body if isinstance(body, bytes | AsyncIterator | None) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} | dict(headers or {})
        if secret is not None:
            given.setdefault("Authorization", f"Bearer {secret}")
        url = URL(self.url + path, encoded=True)  # as it stands: nothing is tidied up
        async with self.http.request(method, url, data=raw, headers=given) as reply:
            return Reply(reply.status, reply.headers.copy(), await reply.read())


@asynccontextmanager
async def stage(
    state: Path, *, servers: int = 1, new: int = 0, token_seconds: float = 0.0
) -> AsyncIterator[Stage]:
    """Run fake servers `s1`, `s2`, … and a gateway that serves `table` of them."""
    async with AsyncExitStack() as stack:
        replicas = await fake_servers(stack, servers, token_seconds)
        url = await stack.enter_async_context(serving(state, MAIN))
        gateways = LocalGateways(state, {"main": MAIN})
        stack.push_async_callback(gateways.close)
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        made = Stage(state, url, replicas, gateways, http)
        assert await gateways.publish(table(made.servers, new=new)) == ()
        yield made


LASTING = 4000
"""Tokens that take longer than any test, at 10 ms a token, until `Replica.pace` hurries them."""


def long(tokens: int, **more: Any) -> dict[str, Any]:
    """A request that generates `tokens` tokens."""
    return chat(max_tokens=tokens, ignore_eos=True, **more)


async def until(ours: Stage, count: int, adapter: str = OLD, server: str = "s1") -> None:
    """Wait until `count` requests are in flight."""
    async with asyncio.timeout(60):
        while await ours.gateways.in_flight(server, adapter) != count:  # noqa: ASYNC110 (over HTTP)
            await asyncio.sleep(0)


def running(ours: Stage, server: str = "s1") -> int:
    return sum(ours.replicas[server].memory.running.values())


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b"9\r\ndata: x\n\n\r\n"


@asynccontextmanager
async def raw_server(
    answer: bytes, *, waits: bool = False, resets: bool = False
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run a server that sends these bytes, then waits for the other side to leave, or leaves.

    Gives its URL and what it saw: each request, and `left` when the other side closed.
    """
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        if waits:
            await reader.read()  # the rest of the request, until the end of the connection
            seen.append(b"left")
        if resets:
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}", seen
    finally:
        server.close()  # leaving it as a context waits, from Python 3.12 on, for open connections
