"""Starts a server on a node of a cluster as an actor: checks, the base's files, the job."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from fleet.environment import server_key
from fleet.errors import EngineError, EngineUnreachableError
from fleet.hardware import HostSpec
from fleet.resources import Server, ServerFlags
from fleet.vllm import gpus_of, launch_of, servers_per_device_of
from runtime.engines.launch_records import COPY, LaunchRecord
from runtime.engines.launching import (
    LAUNCH_LENGTH,
    ServerClients,
    ended_early,
    port_taken,
    require_own,
    started_elsewhere,
)
from runtime.engines.observation import base_digest
from runtime.engines.ray.cluster import ClusterView, RayActor, RayCluster
from runtime.engines.ray.programs import start_task
from runtime.engines.ray.shared_folder import KEY, SharedFolder
from runtime.engines.recognition import FleetMark, url_of
from runtime.engines.supervisor import last_log_lines
from runtime.secrets import secret_unreadable
from runtime.trust import load_trust, require_contact

_PROBE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class RayLauncher:
    """The way servers are started on a node."""

    host: HostSpec
    folder: Path
    """The project, to which bases are relative."""
    shared: SharedFolder
    servers: ServerClients
    fleet: FleetMark
    secret: str | None = field(default="", repr=False)
    """The secret of the keys of servers; empty: they have none, None: it cannot be read."""

    def require_own(self, actor: RayActor | None) -> None:
        """Refuse an actor of another fleet; raises FC4101."""
        if actor is not None:
            what = f"Actor `{actor.name}` of {self.host.cluster}"
            require_own(what, actor.fleet, self.fleet)

    def require_node(self, view: ClusterView) -> None:
        """Refuse a node that Ray does not hear of; raises FC4120."""
        if not view.is_up(self.host.address):
            state = view.nodes.get(self.host.address)
            up = ", ".join(sorted(node for node in view.nodes if view.is_up(node))) or "none"
            raise EngineUnreachableError.of(
                "FC4120",
                "A node of a Ray cluster is away",
                f"Ray says of node {self.host.address} of host `{self.host.name}`: "
                f"{state or 'no such node'}. Alive are: {up}.",
                hint="Start Ray there again, or plan again once Ray calls the node dead: the plan "
                "moves its versions.",
                command="fleetctl plan",
            )

    async def check(self, server: Server, cluster: RayCluster, view: ClusterView) -> None:
        """Refuse a server that cannot start; change nothing.

        Raises:
            EngineError: FC1270, FC4011, FC4025, FC4120, FC4122, FC4124.
        """
        require_contact(url_of(self.host.reached_at, server.port))
        await cluster.require_token()
        self.require_node(view)
        await asyncio.to_thread(self.shared.require)
        if self.secret is None:
            raise secret_unreadable()
        if await _listens(self.host.address, server.port):
            raise port_taken(server.name, f"{self.host.address}:{server.port}")

    async def launch(self, server: Server, flags: ServerFlags, cluster: RayCluster) -> LaunchRecord:
        """Bring the base and start the actor; return before the server answers.

        Raises:
            EngineError: FC1270, the server's address is not trusted; FC4102, another run was
                faster; FC4125, Ray does not start it; as `SharedFolder.begin` and `RayCluster.run`.
        """
        require_contact(url_of(self.host.reached_at, server.port))
        if self.secret is None:
            raise secret_unreadable()
        mark = uuid4().hex
        here = self.folder / flags.model
        model, files = "", ""
        if here.is_dir():
            copy, _ = await self.shared.bring_good(here, links=True)
            model, files = str(copy), await asyncio.to_thread(base_digest, here)
        launch = launch_of(
            server,
            self.host,
            python=self.host.python,
            model=model,
            launch=mark[:LAUNCH_LENGTH],
            adapters=str(self.shared.records.adapters(server.name).path),
            allowed=load_trust().code.get(self.host.name, ()),
        )
        assert launch is not None, "hosts of engine ray start their servers"
        record = LaunchRecord.of(server, flags, url_of(self.host.reached_at, server.port), mark)
        record = record.model_copy(update={"arguments": launch.arguments, "base_files": files})
        key = server_key(self.secret, server.name, launch.launch)
        await asyncio.to_thread(self.shared.begin, record, key)
        folder = self.shared.records.folder / server.name
        environment = dict(launch.environment)
        environment.pop("CUDA_VISIBLE_DEVICES", None)  # Ray says which
        task = start_task(
            record, self.host.address,
            len(gpus_of(server, self.host)) / servers_per_device_of(flags),
            {**environment, **self.fleet.variables},
            {COPY: record.model_dump_json(), **self.fleet.variables},
            str(self.shared.records.log(server.name)), str(folder / KEY) if key else "",
        )  # fmt: skip
        (found,) = await cluster.run("start", [task])
        if why := found.get("error"):
            await self._take_back([server.name], cluster)
            raise EngineError.of(
                "FC4125",
                "Ray does not start a server",
                f"`{record.name}` on node {self.host.address}: {str(why).rstrip('.')}.",
                hint="See that `python` of the host is there on the node, and that no other "
                "program of the cluster holds its GPUs (`ray status`).",
            )
        self._require_ours(record, found)
        return record

    async def until_ready(
        self, record: LaunchRecord, cluster: RayCluster, timeout_s: float, *, is_new: bool
    ) -> None:
        """Return once the server of a launch answers.

        Raises:
            EngineError: FC4012, the server ended, and a new launch was taken back; FC4120.
            EngineTimedOutError: FC4019, the server is left running.
        """
        first: RayActor | None = None

        async def require_start() -> None:
            nonlocal first
            view = await cluster.look()
            self.require_node(view)
            actor = view.actors.get(record.name)
            first = first or actor
            ends = actor.restarts - first.restarts if actor and first else 2
            if ends > (0 if is_new else 1):
                if is_new:  # or Ray would start it for ever
                    await self._take_back([record.name], cluster)
                log = self.shared.records.log(record.name)
                raise ended_early(record.name, last_log_lines(log), str(log))

        await self.servers.until_ready(record, timeout_s, require_start)

    async def leave_node(self, cluster: RayCluster, wanted: Collection[str]) -> None:
        """Take away the actors that wait for a node which is away, but for those of `wanted`."""
        view = await cluster.look()
        left = [
            name
            for name, actor in sorted(view.actors.items())
            if self.is_here(actor) and name not in wanted
        ]
        if left and not view.is_up(self.host.address):
            await self._take_back(left, cluster)

    def is_here(self, actor: RayActor) -> bool:
        """Say whether an actor is a server of this fleet and host."""
        record = actor.record
        return record is not None and record.host == self.host.name and self.fleet.owns(actor.fleet)

    async def _take_back(self, servers: Collection[str], cluster: RayCluster) -> None:
        await cluster.run("stop", [{"name": name, "asks": False} for name in servers])
        for name in servers:
            await asyncio.to_thread(self.shared.end, name)

    def _require_ours(self, record: LaunchRecord, found: dict[str, Any]) -> None:
        if found["launch"] != record.launch:
            why = "another run has started it since this run looked"
            raise started_elsewhere(record.name, self.host.cluster, why)


async def _listens(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_PROBE_S):
            _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    return True
