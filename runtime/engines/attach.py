"""Servers that fleetctl does not run, known by their URLs."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from fleet.attached import AttachedFacts
from fleet.errors import EngineError
from fleet.hardware import HostSpec
from fleet.names import Address
from fleet.resources import Server, State
from runtime.engines.observation import StateBuilder, observe_servers, turn
from runtime.engines.protocol import Completion
from runtime.engines.vllm_api import (
    ServerSnapshot,
    absolute,
    load_adapter,
    request_completion,
    takes_adapters,
    unload_adapter,
)
from runtime.json_client import JsonClient
from runtime.store_paths import StoreView, path_there

_DEFAULT_PORTS = {"http": 80, "https": 443}


def attached_port(url: str) -> int:
    """Return the port that a URL means."""
    parts = urlsplit(url)
    return parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


class AttachEngine:
    """Loads adapters on attached servers; never starts or stops. A silent server is unknown."""

    def __init__(self, host: HostSpec, store: Path, apps: Mapping[str, Any] | None = None) -> None:
        """Prepare; no request is sent. Tests give an ASGI application by server in `apps`."""
        self._host = host
        self._store = StoreView(store, host.paths)
        self._servers = {server.name: server for server in host.attached}
        self._clients = {
            server.name: JsonClient(
                server.url,
                peer=f"server `{server.name}` at {server.url}",
                app=(apps or {}).get(server.name),
            )
            for server in host.attached
        }

    async def observe(self, only: str = "") -> State:
        """Return the servers with their adapters; no server is ever known to be absent."""
        seen = StateBuilder(self._store)
        answers = await observe_servers(self._clients, only)
        shown = {} if only else await self._facts(answers)
        for name, answer in answers.items():
            declared = self._servers[name]
            if isinstance(answer, EngineError):
                seen.record_unknown(name, answer)
                continue
            port = attached_port(declared.url)
            server = Server(name, declared.base, self._host.name, (), port, digest=None)
            seen.record(server, declared.url, answer)
        seen.attached |= shown
        return seen.state()

    async def _facts(
        self, answers: Mapping[str, ServerSnapshot | EngineError]
    ) -> dict[str, AttachedFacts]:
        """Return the facts of the servers that answered."""
        known = {name: told for name, told in answers.items() if isinstance(told, ServerSnapshot)}

        async def takes(name: str) -> bool | None:
            async with turn():
                return await takes_adapters(self._clients[name])

        taken_by = await asyncio.gather(*(takes(name) for name in known))
        return {
            name: AttachedFacts(
                taken, told.max_loras, told.listing.root, told.listing.max_model_len
            )
            for (name, told), taken in zip(known.items(), taken_by, strict=True)
        }

    async def check_start(self, server: Server) -> None:
        """Refuse: these servers are not ours to start."""
        self._refuse("started", server.name)

    async def start(self, server: Server) -> None:
        """Refuse: these servers are not ours to start."""
        self._refuse("started", server.name)

    async def stop(self, server: str) -> None:
        """Refuse: these servers are not ours to stop."""
        self._refuse("stopped", server)

    async def load(self, server: str, adapter: str, source: str) -> None:
        """Load an adapter from the server's path of `source`."""
        there = path_there(self._host.paths, absolute(source))
        await load_adapter(self._client(server), adapter, there)

    async def unload(self, server: str, adapter: str) -> None:
        """Unload an adapter and verify the list of models."""
        await unload_adapter(self._client(server), adapter)

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        """Do nothing: what a restart brings back is up to the servers' operator."""

    async def complete(
        self, server: str, model: str, prompt: str, max_tokens: int = 64
    ) -> Completion:
        """Return a greedy chat completion."""
        return await request_completion(self._client(server), model, prompt, max_tokens)

    async def close(self) -> None:
        """Release connections."""
        for client in self._clients.values():
            await client.close()

    def _client(self, server: str) -> JsonClient:
        if server not in self._clients:
            detail = f"Host `{self._host.name}` has no server `{server}`."
            hint = "Plan again; the declarations have changed since."
            raise EngineError.of(
                "FC4014", "No such server on this host", detail, hint=hint, command="fleetctl plan"
            )
        return self._clients[server]

    def _refuse(self, verb: str, server: str) -> NoReturn:
        detail = f"Server `{server}` of host `{self._host.name}` cannot be {verb} by fleetctl."
        hint = "Do it where it runs; `fleetctl compile` prints suitable flags."
        command = "fleetctl compile"
        raise EngineError.of(
            "FC4010", "An attached server has another operator", detail, hint=hint, command=command
        )
