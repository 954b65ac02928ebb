"""Servers of a walk: fake vLLMs in this process, behind the engine's protocol; runs may die."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from fleet.errors import EngineRejectedError, FleetError, problem
from fleet.hardware import HostSpec
from fleet.names import Address
from fleet.resources import Server, State
from fleet.vllm import launch_of
from runtime.engines.observation import StateBuilder, observe_servers
from runtime.engines.protocol import Completion
from runtime.engines.vllm_api import absolute, load_adapter, request_completion, unload_adapter
from runtime.fake_vllm.app import fake_app
from runtime.fake_vllm.state import FakeModelServer, RefusedError, parse_flags
from runtime.fake_vllm.weights import MissingAdapterError, UnloadableAdapterError, read_weights
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import RoutingTable
from runtime.json_client import JsonClient
from runtime.observe import FleetConnections
from runtime.state_folder import STORE, StoreView
from runtime.workspace import MachinesContext, Workspace
from tests.runtime.execute.memory_gateways import raised_in


class Surroundings(Protocol):
    """The world that servers and runs belong to."""

    now: datetime
    state_dir: Path
    host: "Host"

    def pass_by(self, label: str) -> None:
        """Let a run die at the point that was drawn."""

    def serving(self) -> set[tuple[str, str]]:
        """Return every (version, server) that gets traffic."""

    def table(self) -> RoutingTable:
        """Return the routing table as it is published now."""
        ...


class Killed(BaseException):
    """The process of fleetctl ends here."""


class UnsafeError(AssertionError):
    """A rule that never bends was broken."""


@dataclass
class Host:
    """An engine whose servers are fake vLLMs in this process."""

    spec: HostSpec
    world: "Surroundings"
    servers: dict[str, tuple[Server, FakeModelServer]] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    """Servers that do not answer."""
    mute: set[str] = field(default_factory=set)
    """Versions that answer nothing."""
    passed: set[tuple[str, str, str | None]] = field(default_factory=set)
    """(version, server, path) that have answered since fleetctl loaded them in this process."""
    number: float = 1.0
    """Start time of the next process."""

    def _client(self, name: str) -> JsonClient:
        self._bury()
        if name not in self.servers or name in self.frozen:
            raise EngineRejectedError(problem("T", "The server does not run", name), status=503)
        _, memory = self.servers[name]
        return JsonClient(f"http://{name}", app=fake_app(memory.config, memory))

    def _bury(self) -> None:
        self.servers = {n: pair for n, pair in self.servers.items() if not pair[1].dead}

    async def observe(self, only: str = "") -> State:
        self._bury()
        seen = StateBuilder(StoreView(self.world.state_dir / STORE))
        ports = {name: server.port for name, (server, _) in self.servers.items()}
        silent = dict.fromkeys(self.frozen & self.servers.keys(), "no answer in time")
        seen.add(State(ports=ports, unknown_servers=silent))
        clients = {name: self._client(name) for name in self.servers.keys() - self.frozen}
        for name, answer in (await observe_servers(clients, only)).items():
            server, _ = self.servers[name]
            if isinstance(answer, FleetError):
                seen.add(State(unknown_servers={name: "refused"}))
            else:
                seen.record(server, f"http://127.0.0.1:{server.port}", answer)
        return seen.state()

    async def check_start(self, server: Server) -> None:
        self.world.pass_by(f"check start {server.name}")

    async def start(self, server: Server) -> None:
        self.world.pass_by(f"before start {server.name}")
        self._bury()
        running = self.servers.get(server.name)
        if running and running[0].digest != server.digest:
            raise EngineRejectedError(problem("T", "It runs with other flags", ""), status=409)
        if not running:
            self.launch(server)
        self.world.pass_by(f"after start {server.name}")

    def launch(self, server: Server) -> FakeModelServer:
        """Start a process of a new launch, in which nothing has passed yet."""
        launched = f"{int(self.number):012x}"
        command = launch_of(server, self.spec, python="python", launch=launched)
        assert command is not None
        config = parse_flags(command.arguments[3:], runtime_updates=True)
        memory = FakeModelServer(replace(config, token_seconds=0.0), started=self.number)
        self.number += 1
        self.servers[server.name] = server, memory
        self._forget(server.name)
        return memory

    async def stop(self, server: str) -> None:
        self.world.pass_by(f"before stop {server}")
        self.servers.pop(server, None)
        self.frozen.discard(server)
        self.world.pass_by(f"after stop {server}")

    async def load(self, server: str, adapter: str, source: str) -> None:
        self.world.pass_by(f"before load {adapter}@{server}")
        self.passed = {each for each in self.passed if each[:2] != (adapter, server)}
        await load_adapter(self._client(server), adapter, absolute(source))
        self.world.pass_by(f"after load {adapter}@{server}")

    async def unload(self, server: str, adapter: str) -> None:
        self.world.pass_by(f"before unload {adapter}@{server}")
        if (adapter, server) in self.world.serving():
            raise UnsafeError(f"{adapter} on {server} has traffic and was to be unloaded")
        if server in self.servers:
            await unload_adapter(self._client(server), adapter)
        self.world.pass_by(f"after unload {adapter}@{server}")

    async def complete(
        self, server: str, model: str, prompt: str, max_tokens: int = 64
    ) -> Completion:
        answer = await request_completion(self._client(server), model, prompt, max_tokens)
        if model in self.mute:
            return replace(answer, text="")
        self.passed.add((model, server, self.path(model, server)))
        return answer

    def path(self, name: str, server: str) -> str | None:
        """Return the path that a server has a version from; None: it has none."""
        return self.servers[server][1].listed.get(name) if server in self.servers else None

    def _forget(self, server: str) -> None:
        """Void what passed in an earlier process."""
        self.passed = {each for each in self.passed if each[1] != server}

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        """A restart loses everything here."""

    async def close(self) -> None:
        pass

    def restart(self, name: str) -> None:
        """End a process and start it again with the same flags, as a supervisor does."""
        server, memory = self.servers[name]
        self._forget(name)
        self.servers[name] = server, FakeModelServer(memory.config, started=self.number)
        self.number += 1

    def relaunch(self, name: str) -> None:
        """Start a server as another launch, with its versions, behind the back of fleetctl."""
        server, former = self.servers[name]
        memory = self.launch(server)
        for version, path in former.listed.items():
            with suppress(RefusedError):
                memory.load(version, path)

    def answer(self, server: str, name: str) -> str | None:
        """Return the digest of the bytes that a request would be answered by; None: no answer."""
        self._bury()
        if server not in self.servers or server in self.frozen:
            return None
        memory = self.servers[server][1]
        path = memory.listed.get(name)
        if path is None:
            return None
        cached = memory.cached.get(name)
        if cached is not None and cached.path == path:
            return cached.digest
        try:
            return read_weights(path, memory.config.max_lora_rank).digest
        except (MissingAdapterError, UnloadableAdapterError):
            return None


class TrappedGateways(LocalGateways):
    """The product's control of gateways; none is declared, so that the file is the table."""

    def __init__(self, world: "Surroundings") -> None:
        super().__init__(world.state_dir)
        self._gateways, self.world = {}, world
        self.before = world.table()
        """What was served when the run began: a restart in between takes it away and back."""

    async def publish(self, table: RoutingTable) -> Any:
        self.world.pass_by("before publish")
        host = self.world.host
        raised = raised_in(table, self.world.table()) & raised_in(table, self.before)
        untried = {pair for pair in raised if (*pair, host.path(*pair)) not in host.passed}
        if untried:
            raise UnsafeError(f"{sorted(untried)} would get traffic without a pass")
        notes = await super().publish(table)
        self.world.pass_by("after publish")
        return notes


class WalkMachines(MachinesContext):
    """The servers of a world."""

    world: "Surroundings"

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[FleetConnections]:
        gateways = TrappedGateways(self.world)
        yield FleetConnections({"laptop": self.world.host}, gateways)
        await gateways.close()

    def connected(self, report: Any = None, direct: Any = None) -> Any:  # noqa: ARG002
        return self._connected()


@dataclass
class WalkWorkspace(Workspace):
    """A workspace that is connected to the servers of a world."""

    world: "Surroundings | None" = None

    def now(self) -> datetime:
        assert self.world is not None
        return self.world.now

    @cached_property
    def machines(self) -> WalkMachines:
        assert self.world is not None
        machines = WalkMachines(self, self.project, self.ledger)
        machines.world = self.world
        return machines
