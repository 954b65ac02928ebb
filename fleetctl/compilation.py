"""What `fleetctl compile` compiles: servers of the plan, or the routes for another gateway."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.declared import Gateway
from fleet.errors import FleetError, did_you_mean, problem
from fleet.launch import launch_of
from fleetctl.facts import read_secret
from fleetctl.session import Session
from plans import envoy
from plans.launch import LAUNCH_FORMATS
from runtime.gateway import envoy as folders
from runtime.gateway import places

if TYPE_CHECKING:
    from runtime.gateway.table import RoutingTable


@dataclass(frozen=True, slots=True)
class Compiled:
    """What came of it."""

    text: str
    """For standard output; empty where files were written."""
    notes: tuple[str, ...]


def servers(session: Session, form: str, hosts: tuple[str, ...]) -> str:
    """Return the launch files of the servers of the plan."""
    fleet = session.fleet()
    made = []
    for server in session.desired_servers():
        host = fleet.hosts.get(server.host)
        if host is None or (hosts and host.name not in hosts):
            continue
        model = session.root.absolute() / server.flags.model if server.flags else Path()
        launch = launch_of(
            server,
            host,
            python=_interpreter(session.root, host.python),
            model=str(model) if model.is_dir() else "",
        )
        if launch is not None:
            made.append(launch)
    return LAUNCH_FORMATS[form](made)


def _interpreter(root: Path, declared: str) -> str:
    """Return the declared interpreter as a path that works from anywhere."""
    if "/" not in declared:
        return declared or "python3"
    return str((root / declared).absolute())


def gateway(
    session: Session, target: str, name: str | None, out: Path | None, seen_at: str | None
) -> Compiled:
    """Compile the routing table that gateways serve now for another kind of gateway.

    Raises:
        FleetError: there is no table yet, no such gateway, or a key cannot be read.
    """
    assert target == "envoy"
    table = _table(session)
    chosen = _gateway(session, name)
    folder = out.absolute() if out else Path("/etc/envoy")
    place = envoy.Place(chosen.name, chosen.listen, seen_at or str(folder))
    if out is None:
        return Compiled(
            envoy.whole(routing_of(table), place),
            ("The API keys are left out: write them with --out FOLDER.", *envoy.notes()),
        )
    keys = folders.credentials(table, partial(read_secret, session.root), folder)
    documents = envoy.files(routing_of(table, keys), place, served=folders.served_clusters(folder))
    folders.write(folder, documents)
    where = f"{place.folder}/{envoy.BOOTSTRAP_FILE}"
    written = f"revision {table.revision} is in {out}; start it with: envoy -c {where}"
    return Compiled("", (written, *envoy.notes()))


def routing_of(table: "RoutingTable", keys: Iterable[tuple[str, str]] = ()) -> envoy.Routing:
    """Return a routing table in the form that it is rendered from."""
    return envoy.Routing(
        table.revision,
        table.digest,
        table.servers,
        {alias: entry.route(alias) for alias, entry in table.aliases.items()},
        tuple(envoy.Credential(client, secret) for client, secret in keys),
    )


def _table(session: Session) -> "RoutingTable":
    from runtime.gateway.control import LocalGateways  # noqa: PLC0415 (not for servers)

    async def read() -> "RoutingTable":
        gateways = LocalGateways(session.state_dir, session.fleet().gateways)
        try:
            return (await gateways.read())[0]
        finally:
            await gateways.close()

    table = asyncio.run(read())
    if table.revision == 0:
        raise FleetError(
            problem(
                "FC6052",
                "There are no routes yet",
                "Another gateway gets the routes that fleetctl's own serve, and no apply has "
                "written any.",
                command="fleetctl apply",
            )
        )
    return table


def _gateway(session: Session, name: str | None) -> Gateway:
    known = dict(session.fleet().gateways) or places.known(session.state_dir)
    if name is None:
        return known[min(known)]
    if name not in known:
        raise FleetError(
            problem(
                "FC6010",
                "No such gateway",
                f"`{name}` is not declared. There are: {', '.join(sorted(known))}.",
                hint=did_you_mean(name, sorted(known)),
            )
        )
    return known[name]
