"""Starts a server on a node of a cluster as an actor: checks, the base's files, the job."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from fleet.environment import server_key
from fleet.errors import EngineError, EngineRejectedError, EngineUnreachableError
from fleet.hardware import HostSpec
from fleet.resources import Server, ServerFlags
from fleet.vllm import gpus_of, launch_of, servers_per_device_of
from runtime.engines.launch_records import COPY, LaunchRecord
from runtime.engines.observation import base_digest
from runtime.engines.ray.cluster import ClusterView, RayActor, RayCluster
from runtime.engines.ray.programs import start_task
from runtime.engines.ray.shared_folder import KEY, SharedFolder
from runtime.engines.recognition import FleetMark, url_of
from runtime.engines.starting import LAUNCH_LENGTH
from runtime.engines.supervisor import ended_early
from runtime.secrets import secret_unreadable
from runtime.trust import load_trust

_PROBE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class RayLauncher:
    """The way servers are started on a node."""

    host: HostSpec
    folder: Path
    """The project, to which bases are relative."""
    shared: SharedFolder
    fleet: FleetMark
    secret: str | None = field(default="", repr=False)
    """The secret of the keys of servers; empty: they have none, None: it cannot be read."""

    def require_own(self, actor: RayActor | None) -> None:
        """Refuse an actor of another fleet; raises FC4101."""
        if actor is not None and not self.fleet.owns(actor.fleet):
            raise EngineRejectedError.of(
                "FC4101",
                "Unit belongs to others",
                f"Actor `{actor.name}` of {self.host.cluster} serves {actor.fleet}, and this is "
                f"{self.fleet}. It was left as it is.",
                hint="Give the host another name in one of the fleets.",
            )

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
                hint="Start Ray there again, or take the host out of the declarations: the plan "
                "moves its versions.",
            )

    async def check(self, server: Server, cluster: RayCluster, view: ClusterView) -> None:
        """Refuse a server that cannot start; change nothing.

        Raises:
            EngineError: FC4011, FC4025, FC4120, FC4122, FC4124.
        """
        await cluster.require_token()
        self.require_node(view)
        await asyncio.to_thread(self.shared.require)
        if self.secret is None:
            raise secret_unreadable()
        if await _listens(self.host.address, server.port):
            raise EngineError.of(
                "FC4011",
                "A port is taken",
                f"Something else listens on {self.host.address}:{server.port}, where "
                f"`{server.name}` would.",
                hint="See there what it serves before you end it, or declare another `port` for "
                "the host.",
            )

    async def launch(self, server: Server, flags: ServerFlags, cluster: RayCluster) -> LaunchRecord:
        """Bring the base and start the actor; return before the server answers.

        Raises:
            EngineError: FC4102, another run was faster; FC4125, Ray does not start it; as
                `SharedFolder.begin` and `RayCluster.run`.
        """
        if self.secret is None:
            raise secret_unreadable()
        mark = uuid4().hex
        here = self.folder / flags.model
        model, files = "", ""
        if here.is_dir():
            copy, _ = await asyncio.to_thread(self.shared.bring, here, links=True)
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
            server.name, record.launch, self.host.address,
            len(gpus_of(server, self.host)) / servers_per_device_of(flags),
            launch.arguments, {**environment, **self.fleet.variables},
            {COPY: record.model_dump_json(), **self.fleet.variables},
            str(self.shared.records.log(server.name)), str(folder / KEY) if key else "",
        )  # fmt: skip
        (found,) = await cluster.run("start", [task])
        self._require_started(record, found)
        return record

    def ended(self, server: str) -> EngineError:
        """Return the error of a server that ended during its start, with the end of its log."""
        return ended_early(server, self.shared.records.log(server))

    def _require_started(self, record: LaunchRecord, found: dict[str, Any]) -> None:
        if why := found.get("error"):
            raise EngineError.of(
                "FC4125",
                "Ray does not start a server",
                f"`{record.name}` on node {self.host.address}: {str(why).rstrip('.')}.",
                hint="See that `python` of the host is there on the node, and that no other "
                "program of the cluster holds its GPUs (`ray status`).",
            )
        if found["launch"] != record.launch:
            raise EngineRejectedError.of(
                "FC4102",
                "Another run started a server",
                f"`{record.name}` was not started on {self.host.cluster}: another run has started "
                "it since this run looked. That one was left as it is.",
                hint="Once it answers, plan again.",
                command="fleetctl plan",
            )


async def _listens(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_PROBE_S):
            _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    return True
