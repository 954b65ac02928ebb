"""Files of gateways that are Envoys."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fleet.spec import GatewaySpec
from plans.compile.envoy import ADMIN_SOCKET, Credential, RoutePlace, Routing, files
from runtime.gateway.envoy.admin import Envoys
from runtime.gateway.table.table import RoutingTable
from runtime.secrets import read_secret


def envoys_of(root: Path, seen_at: str | None = None) -> Envoys:
    """Return the renderer of Envoy files, and the reader of secrets, of a project.

    `seen_at` is the folder as Envoy sees it, if another path.
    """
    return Envoys(partial(_rendered, seen_at), partial(read_secret, root))


def _rendered(
    seen_at: str | None,
    gateway: GatewaySpec,
    folder: Path,
    socket: Path,
    table: RoutingTable,
    keys: Sequence[tuple[str, str]],
    served: Sequence[Any],
) -> Mapping[str, str]:
    admin = f"{seen_at}/{ADMIN_SOCKET}" if seen_at else str(socket)
    place = RoutePlace(gateway.name, gateway.listen, seen_at or str(folder), admin)
    return files(routing_of(table, keys), place, served=served)


def routing_of(table: RoutingTable, keys: Iterable[tuple[str, str]] = ()) -> Routing:
    """Return a routing table in the form of the renderers."""
    return Routing(
        table.revision,
        table.digest,
        table.servers,
        {alias: entry.route(alias) for alias, entry in table.aliases.items()},
        tuple(Credential(client, secret) for client, secret in keys),
        {
            share.adapter: share.digest
            for entry in table.aliases.values()
            for share in entry.shares
            if share.digest
        },
    )
