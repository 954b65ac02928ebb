"""Envoys as gateways: what is rendered for them, from what."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fleet.declared import Gateway
from plans import envoy
from runtime.gateway.envoyadmin import Envoys
from runtime.gateway.table import RoutingTable
from runtime.secrets import read_secret


def envoys_of(root: Path, seen_at: str | None = None) -> Envoys:
    """Return how the files of Envoys are made for a project.

    Args:
        root: The project's folder, where secrets are read from.
        seen_at: The folder as Envoy sees it, where that is another one.
    """
    return Envoys(partial(_rendered, seen_at), partial(read_secret, root))


def _rendered(
    seen_at: str | None,
    gateway: Gateway,
    folder: Path,
    socket: Path,
    table: RoutingTable,
    keys: Sequence[tuple[str, str]],
    served: Sequence[Any],
) -> Mapping[str, str]:
    admin = f"{seen_at}/{envoy.ADMIN_SOCKET}" if seen_at else str(socket)
    place = envoy.Place(gateway.name, gateway.listen, seen_at or str(folder), admin)
    return envoy.files(routing_of(table, keys), place, served=served)


def routing_of(table: RoutingTable, keys: Iterable[tuple[str, str]] = ()) -> envoy.Routing:
    """Return a routing table in the form that it is rendered from."""
    return envoy.Routing(
        table.revision,
        table.digest,
        table.servers,
        {alias: entry.route(alias) for alias, entry in table.aliases.items()},
        tuple(envoy.Credential(client, secret) for client, secret in keys),
    )
