"""Servers that fleetctl does not run, known by their URLs."""

import asyncio
from collections.abc import Collection, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from fleet.errors import EngineError
from fleet.hardware import AttachedFacts, AttachedServerSpec, HostSpec
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
from runtime.json_client import SERVER_KEYS, SERVER_TLS, JsonClient
from runtime.server_tls import TlsFilesError, TlsToServer, attached_key
from runtime.state_folder import StoreView, path_there

_DEFAULT_PORTS = {"http": 80, "https": 443}


def attached_port(url: str) -> int:
    """Return the port that a URL means."""
    parts = urlsplit(url)
    return parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


class AttachEngine:
    """Loads adapters on attached servers; never starts or stops. A silent server is unknown."""

    def __init__(
        self,
        host: HostSpec,
        store: Path,
        apps: Mapping[str, Any] | None = None,
        root: Path = Path(),
    ) -> None:
        """Prepare; no request is sent. Tests give an ASGI application by server in `apps`.

        Files of keys are relative to `root`.
        """
        self._host = host
        self._store = StoreView(store, host.paths)
        self._servers = {server.name: server for server in host.attached}
        self._unusable: dict[str, EngineError] = {}
        """Servers whose key cannot be sent, or whose files for TLS cannot be used; they are not
        contacted."""
        for server in host.attached:
            if server.tls:
                self._use_tls(server, TlsToServer(server.tls, root))
            else:  # this process may have known a declaration before
                SERVER_TLS.pop(server.url, None)
        self._clients = {
            server.name: JsonClient(
                server.url,
                peer=f"server `{server.name}` at {server.url}",
                app=(apps or {}).get(server.name),
            )
            for server in host.attached
        }
        for server in host.attached:
            if server.api_key:
                try:
                    key = attached_key(root, server.name, server.url, server.api_key)
                except EngineError as error:
                    self._unusable[server.name] = error
                else:
                    SERVER_KEYS[server.url] = key
            else:
                SERVER_KEYS.pop(server.url, None)

    def _use_tls(self, server: AttachedServerSpec, tls: TlsToServer) -> None:
        try:
            tls.context()
        except TlsFilesError as error:
            self._unusable[server.name] = EngineError.of(
                "FC4039",
                "Files for TLS to a server cannot be used",
                f"Server `{server.name}` of host `{self._host.name}`: {error}. Nothing was sent.",
                hint="Put the file there, or correct the server's `tls`; each machine has its own.",
            )
        else:
            SERVER_TLS[server.url] = tls

    async def observe(self, only: str = "") -> State:
        """Return the servers with their adapters; no server is ever known to be absent."""
        seen = StateBuilder(self._store)
        asked = {name: its for name, its in self._clients.items() if name not in self._unusable}
        known = {name: error for name, error in self._unusable.items() if only in {"", name}}
        answers = {**await observe_servers(asked, only), **known}
        shown = {} if only else await self._facts(answers)
        for name, answer in answers.items():
            declared = self._servers[name]
            if isinstance(answer, EngineError):
                seen.record_unknown(name, _explained(answer, declared))
                continue
            port = attached_port(declared.url)
            server = Server(name, declared.base, self._host.name, (), port, digest=None)
            seen.record(server, declared.url, answer)
        seen.add(State(attached=shown))
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
        """Return the greedy answer to a text."""
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
        if server in self._unusable:
            raise self._unusable[server]
        return self._clients[server]

    def _refuse(self, verb: str, server: str) -> NoReturn:
        detail = f"Server `{server}` of host `{self._host.name}` cannot be {verb} by fleetctl."
        hint = "Do it where it runs; `fleetctl compile` prints suitable flags."
        command = "fleetctl compile"
        raise EngineError.of(
            "FC4010", "An attached server has another operator", detail, hint=hint, command=command
        )


def _explained(error: EngineError, server: AttachedServerSpec) -> EngineError:
    """Return the error of a server; of a server that wants another key, with what to declare."""
    if getattr(error, "status", None) != HTTPStatus.UNAUTHORIZED:
        return error
    what = f"refuses the key of `{server.api_key}`" if server.api_key else "asks for a key"
    detail = f"Server `{server.name}` at {server.url} {what} (401); its `api_key` says where it is."
    hint = "Declare `api_key: env:NAME` on it, with the key that it was started with."
    return EngineError.of("FC4038", "An attached server refuses fleetctl's key", detail, hint=hint)
