"""Names that a shell completes: aliases, versions, clients, hosts, servers, gateways, addresses.

Adapters are those of the lock. Read from files alone: `fleet.lock`, `fleet.yaml`, the routing
table's file, the launch records. A file that is missing or broken completes to nothing. Nothing is
written.
"""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from fleet.errors import FleetError
from fleet.names import AdapterName
from runtime.files import read_plain

Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def completion(names: Callable[[click.Context], Iterable[str]]) -> Completion:
    """Make a click `shell_complete` callback of a function that returns all names."""

    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        with suppress(FleetError, OSError, ValueError, RecursionError):
            return sorted({name for name in names(ctx) if name.startswith(incomplete)})
        return []

    return complete


def _aliases(ctx: click.Context) -> list[str]:
    return [*(adapter.alias for adapter in _adapters(ctx)), *as_map(_table(ctx).get("aliases"))]


def _versions(ctx: click.Context) -> list[str]:
    return list(map(str, _adapters(ctx)))


def _clients(ctx: click.Context) -> list[str]:
    return [adapter.client for adapter in _adapters(ctx)]


def _servers(ctx: click.Context) -> list[str]:
    return [*as_map(_table(ctx).get("servers")), *_started_servers(ctx)]


def _started_servers(ctx: click.Context) -> list[str]:
    return [path.parent.name for path in (state_dir_of(ctx) / "servers").glob("*/launch.json")]


aliases = completion(_aliases)
versions = completion(_versions)
targets = completion(lambda ctx: [*_aliases(ctx), *_versions(ctx)])
clients = completion(_clients)
clients_and_aliases = completion(
    lambda ctx: [*_clients(ctx), *(adapter.alias for adapter in _adapters(ctx))]
)
servers = completion(_servers)
started_servers = completion(_started_servers)
gateways = completion(
    lambda ctx: [
        path.parent.name for path in (state_dir_of(ctx) / "gateways").glob("*/gateway.json")
    ]
)


@completion
def numbers(ctx: click.Context) -> Iterable[str]:
    """Return the version numbers of the alias that stands before in the command, such as 2.1.0.

    click leaves the alias in `ctx.args` while the option before the completed word has no value.
    """
    named = ctx.params.get("alias") or ctx.args
    chosen = {named} if isinstance(named, str) else set(named)
    return [str(adapter.version) for adapter in _adapters(ctx) if adapter.alias in chosen]


@completion
def ssh_hosts(ctx: click.Context) -> Iterable[str]:
    """Return the hosts of engine `ssh` in `fleet.yaml`, without overlays and other files."""
    from fleet.config import parse  # noqa: PLC0415 (keeps other completions fast)

    text = read_plain(ctx.find_root().params["root"] / "fleet.yaml").decode()
    hosts = as_map(parse(text, "fleet.yaml").value.get("hosts"))
    return [name for name, host in hosts.items() if as_map(host).get("engine") == "ssh"]


@completion
def addresses(ctx: click.Context) -> Iterable[str]:
    """Return aliases, versions, and addresses of clients, keys, routes and servers."""
    table = _table(ctx)
    return [
        *_aliases(ctx),
        *(f"adapter/{version}" for version in _versions(ctx)),
        *(f"client/{client}" for client in _clients(ctx)),
        *(f"key/{name}" for name in as_map(table.get("keys"))),
        *(f"route/{name}" for name in as_map(table.get("aliases"))),
        *(f"server/{name}" for name in _servers(ctx)),
    ]


def state_dir_of(ctx: click.Context) -> Path:
    """Return the state folder that the global options name."""
    options = ctx.find_root().params
    folder: Path = options["state_dir"] or options["root"] / ".fleetctl"
    return folder


def _adapters(ctx: click.Context) -> list[AdapterName]:
    adapters = []
    for name in as_map(_document(ctx.find_root().params["root"] / "fleet.lock").get("adapters")):
        with suppress(ValueError):
            adapters.append(AdapterName.parse(name))
    return adapters


def _table(ctx: click.Context) -> dict[str, Any]:
    return _document(state_dir_of(ctx) / "routes.json")


def _document(path: Path) -> dict[str, Any]:
    """Read a JSON file; empty where the file is missing, broken or no map."""
    with suppress(OSError, ValueError, RecursionError):
        return as_map(json.loads(read_plain(path)))
    return {}


def as_map(value: object) -> dict[str, Any]:
    """Return a map as given; an empty map for any other JSON value."""
    return value if isinstance(value, dict) else {}
