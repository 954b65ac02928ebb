"""Servers of a node of a Ray cluster: named actors, pinned to the node, asked at their URLs."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fleet.errors import EngineError, EngineUnreachableError
from fleet.hardware import HostSpec
from fleet.names import Address, server_name
from fleet.resources import Server, State
from runtime.engines.adapters_file import AdapterEntry, entries_of
from runtime.engines.launch_records import LaunchRecord
from runtime.engines.launching import (
    START_TIMEOUT_S,
    ServerClients,
    flags_of,
    not_running,
    require_digest,
)
from runtime.engines.observation import StateBuilder, observe_servers
from runtime.engines.protocol import Completion, Direct, HostSetup, Report
from runtime.engines.ray.cluster import ClusterView, RayActor, RayCluster, cluster_of
from runtime.engines.ray.launching import RayLauncher
from runtime.engines.ray.shared_folder import NodeFetcher, SharedFolder
from runtime.engines.recognition import FleetMark
from runtime.engines.remote.box import MEMORIES, BoxMemory
from runtime.engines.vllm_api import (
    absolute,
    load_adapter,
    refuses_key,
    request_completion,
    unload_adapter,
)
from runtime.files import normal_path
from runtime.json_client import JsonClient
from runtime.state_folder import STORE, StoreView
from runtime.trust import UntrustedError


@dataclass(eq=False)
class RayEngine:
    """Keeps servers as actors; Ray starts a server again that ends, on its node and no other."""

    host: HostSpec
    folder: Path
    """The project, to which bases and files of tokens are relative."""
    store: Path
    """The copies on this machine, which are brought to the shared folder."""
    memory: Path
    """File of `BoxMemory`: which lives of servers have answered."""
    fleet: FleetMark
    """The fleet; actors of other fleets are left alone."""
    secret: str | None = field(default="", repr=False)
    """As in `RayLauncher`."""
    bases: Collection[str] = ()
    """Names of the bases of which the host may have servers."""
    report: Report = lambda *_: None
    direct: Direct | None = None
    """Where the node may fetch versions itself; None: it does not."""
    start_timeout_s: float = START_TIMEOUT_S

    def __post_init__(self) -> None:
        self._namespace = f"fleetctl-{self.fleet.name}"
        self._shared = SharedFolder(Path(self.host.store), self._namespace)
        self._servers = ServerClients(self.host, self.secret or "")
        self._fetcher = NodeFetcher(self.host, self._shared, self.direct, self.report)
        self._launcher = RayLauncher(
            self.host, self.folder, self._shared, self._servers, self.fleet, self.secret
        )

    @classmethod
    def of(cls, setup: HostSetup, secret: str | None = "") -> Self:
        """Return the engine of a host of a project; nothing is contacted."""
        host, state_dir = setup.host, setup.state_dir
        return cls(
            host, Path(normal_path(setup.root)), state_dir / STORE,
            state_dir / MEMORIES / f"{host.name}.json",
            FleetMark(setup.fleet_name, setup.fleet_id), secret, setup.bases, setup.report,
            setup.direct if host.fetch else None,
        )  # fmt: skip

    async def actors(self) -> list[RayActor]:
        """Return the actors of this fleet's servers on this host, by name.

        Raises:
            EngineError: as `RayCluster.look`.
        """
        found = sorted((await self._cluster().look()).actors.items())
        return [actor for _, actor in found if self._launcher.is_here(actor)]

    async def observe(self, only: str = "") -> State:
        """Return the servers of the host, with their adapters.

        A server that Ray starts is absent, with a note; a server that answered and does not now is
        unknown. On a node that Ray does not hear of, a server is what it answers, and absent if it
        does not. Where the head is not reached, servers are asked by the shared folder's records.
        """
        before = BoxMemory.read(self.memory)
        here = self.host.python, self.host.python
        copies = ((str(self.store.absolute()), self.host.store),)
        seen = StateBuilder(StoreView(self.store, copies), interpreter=here)
        kept = await asyncio.to_thread(self._shared.of_host, self.host.name)
        seen.add(State(ports={name: record.port for name, record in kept.items()}))
        try:
            view = await self._cluster().look()
        except EngineError as error:
            return await self._observe_unreached(kept, error, seen, only)
        now = self._started(view, before, seen)
        ended = {name: its.served_launch for name, its in kept.items() if name not in view.actors}
        seen.add(State(ended=ended))
        clients = {name: self._servers.client(record) for name, record in now.items()}
        for name, answer in (await observe_servers(clients, only)).items():
            actor, record = view.actors[name], now[name]
            if not isinstance(answer, EngineError):
                entries = await asyncio.to_thread(self._shared.records.adapters(name).read)
                if seen.record_launch(record, answer, entries):
                    now[name] = record.model_copy(update={"ready": True})
            elif not view.is_up(self.host.address):
                seen.add(State(ended={name: record.served_launch}))
            elif record.ready or refuses_key(answer) or isinstance(answer, UntrustedError):
                seen.record_unknown(name, answer)
            else:
                again = f", started again by Ray (restart {actor.restarts})"
                note = f"Server {name} is still starting{again if actor.restarts else ''}."
                seen.add(State(notes=(note,)))
        if not only and (after := BoxMemory(self.host.store, now)) != before:
            after.write(self.memory)
        return seen.state()

    async def check_start(self, server: Server) -> None:
        """Refuse a start that cannot succeed; start nothing.

        Raises:
            EngineError: as `RayLauncher.check`; FC4101.
        """
        cluster = self._cluster()
        view = await cluster.look()
        actor = view.actors.get(server.name)
        self._launcher.require_own(actor)
        if actor is None:
            await self._launcher.check(server, cluster, view)

    async def start(self, server: Server) -> None:
        """Start a server and return once the server answers with the digest of its flags.

        A server that runs with the same flags is fine; a server that still starts is waited for.
        A silent actor with other flags is started anew.

        Raises:
            EngineError: the server answers with other flags, its actor belongs to others, its node
                is away, or the server ended; the diagnostic holds the end of its log.
            EngineTimedOutError: no answer in time; the server is left running.
        """
        flags = flags_of(server)
        cluster = self._cluster()
        view = await cluster.look()
        actor = view.actors.get(server.name)
        self._launcher.require_own(actor)
        record = actor.record if actor else None
        if record is not None and record.digest == (server.digest or flags.digest):
            await self._launcher.until_ready(record, cluster, self.start_timeout_s, is_new=False)
            return
        if record is not None and await self._servers.answers(record):
            require_digest(server, record.digest)
        if actor is not None:
            await self.stop(server.name)
        self._launcher.require_node(view)
        record = await self._launcher.launch(server, flags, cluster)
        await self._launcher.until_ready(record, cluster, self.start_timeout_s, is_new=True)

    async def stop(self, server: str) -> None:
        """Stop a server and take its actor away, letting running requests finish."""
        cluster = self._cluster()
        view = await cluster.look()
        actor = view.actors.get(server)
        if actor is not None and self.fleet.owns(actor.fleet):
            asks = actor.state == "ALIVE" and view.is_up(self.host.address)
            await cluster.run("stop", [{"name": server, "asks": asks}])
        if actor is None or self.fleet.owns(actor.fleet):
            await asyncio.to_thread(self._shared.end, server)
        await self._servers.close(server)

    async def load(self, server: str, adapter: str, source: str) -> None:
        """Load an adapter from a copy in the shared folder; the server may load it again itself."""
        client = await self._up(server)
        folder, digest = Path(absolute(source)), ""
        there = self._shared.path / folder.name
        if await asyncio.to_thread(folder.is_dir):  # else the server's own answer says so
            there, digest = await self._fetcher.bring(folder, self._cluster())
        await load_adapter(client, adapter, str(there))
        if digest:
            entries = self._shared.records.adapters(server)
            await asyncio.to_thread(entries.add, adapter, AdapterEntry(str(there), digest))

    async def unload(self, server: str, adapter: str) -> None:
        """Unload an adapter and verify the list of models; a server that is gone holds none."""
        # The entry first, or a late request brings the adapter back.
        await asyncio.to_thread(self._shared.records.adapters(server).remove, adapter)
        record = await asyncio.to_thread(self._shared.record, server)
        if record is None:
            return
        try:
            await unload_adapter(self._servers.client(record), adapter)
        except EngineUnreachableError:
            if server in (await self._cluster().look()).actors:
                raise

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        """Enter the kept adapters into the servers' files of adapters, and remove all others.

        Actors that wait for a node which is away are taken away, or a node that comes back would
        start servers that no plan wants.
        """
        for name, entries in entries_of(live, self.host.name, kept).items():
            await asyncio.to_thread(self._shared.records.adapters(name).replace, entries)
        with suppress(EngineError):  # the next apply does it
            await self._launcher.leave_node(self._cluster(), live.servers())

    async def complete(
        self, server: str, model: str, prompt: str, max_tokens: int = 64
    ) -> Completion:
        """Return the greedy answer to a text."""
        return await request_completion(await self._up(server), model, prompt, max_tokens)

    async def close(self) -> None:
        """Release connections; servers go on running."""
        await self._servers.close()
        await self._cluster().close()

    def _cluster(self) -> RayCluster:
        return cluster_of(self.host.cluster, self._namespace, self.host.token, self.folder)

    def _started(
        self, view: ClusterView, before: BoxMemory, seen: StateBuilder
    ) -> dict[str, LaunchRecord]:
        """Return the records of this fleet's servers on this host; note odd actors."""
        started, fleets, notes = dict[str, LaunchRecord](), dict[str, str](), list[str]()
        for name, actor in view.actors.items():
            record, was = actor.record, before.records.get(name)
            if not self.fleet.owns(actor.fleet):
                notes += self.fleet.others(actor.fleet, f"Actor {name}")
            elif record is not None and self._launcher.is_here(actor):
                ready = was is not None and was.ready and was.process_start == actor.life
                known = {"process_start": actor.life, "ready": ready}
                started[name] = self._servers.here(record.model_copy(update=known))
                if actor.fleet.id:
                    fleets[name] = actor.fleet.id
        away = dict[str, str]()
        if not view.is_up(self.host.address):
            state = view.nodes.get(self.host.address, "not there")
            away = {self.host.name: f"Ray says of node {self.host.address}: {state}"}
            notes.append(f"Node {self.host.address} of host {self.host.name} is {state}, by Ray.")
        seen.add(State(fleets=fleets, away_hosts=away, notes=tuple(notes)))
        return started

    async def _observe_unreached(
        self, kept: dict[str, LaunchRecord], error: EngineError, seen: StateBuilder, only: str
    ) -> State:
        why = "; ".join(problem.detail for problem in error.diagnostics)
        seen.add(State(notes=(f"The cluster of host {self.host.name} is not reached: {why}",)))
        records = {name: self._servers.here(record) for name, record in kept.items()}
        clients = {name: self._servers.client(record) for name, record in records.items()}
        for name, answer in (await observe_servers(clients, only)).items():
            if isinstance(answer, EngineError):
                seen.record_unknown(name, answer if refuses_key(answer) else error)
            else:
                entries = await asyncio.to_thread(self._shared.records.adapters(name).read)
                seen.record_launch(records[name], answer, entries)
        for device in () if records else self.host.devices:
            for base in self.bases:
                seen.record_unknown(server_name(base, self.host.name, device.name), error)
        return seen.state()

    async def _up(self, server: str) -> JsonClient:
        """Return the client of a server whose newest launch answers; the head is not asked."""
        record = await asyncio.to_thread(self._shared.record, server)
        if record is None or not await self._servers.answers(record):
            raise not_running(
                server,
                f"on node {self.host.address} does not answer as the launch that fleetctl started",
            )
        return self._servers.client(record)
