"""Names that a shell completes: aliases, versions, clients, keys, servers, gateways, addresses.

Read from files alone: `fleet.lock`, the routing table's file, the launch records, and for keys
the declarations. A file that is missing or broken completes to nothing. Nothing is written.
"""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import click

from fleet.errors import FleetError
from fleet.names import AdapterName

_Names = Callable[[click.Context], Iterable[str]]
_Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def _completes(names: _Names) -> _Completion:
    """Make a click `shell_complete` callback out of a function that returns all names."""

    @wraps(names)
    def beginning(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        with suppress(FleetError, OSError, ValueError, RecursionError):
            return sorted({name for name in names(ctx) if name.startswith(incomplete)})
        return []

    return beginning


@_completes
def aliases(ctx: click.Context) -> Iterable[str]:
    """Return the aliases of the lock and of the routing table."""
    return _aliases(ctx)


@_completes
def versions(ctx: click.Context) -> Iterable[str]:
    """Return the full names of the adapter versions in the lock."""
    return map(str, _adapters(ctx))


@_completes
def targets(ctx: click.Context) -> Iterable[str]:
    """Return aliases and full names of versions."""
    return [*_aliases(ctx), *map(str, _adapters(ctx))]


@_completes
def numbers(ctx: click.Context) -> Iterable[str]:
    """Return the version numbers of the alias that the command names before, such as 2.1.0.

    click leaves the alias in `ctx.args` while the option before the completed word has no value.
    """
    named = ctx.params.get("alias") or ctx.args
    chosen = {named} if isinstance(named, str) else set(named)
    return [str(adapter.version) for adapter in _adapters(ctx) if adapter.alias in chosen]


@_completes
def clients(ctx: click.Context) -> Iterable[str]:
    """Return the clients that have an adapter in the lock."""
    return [adapter.client for adapter in _adapters(ctx)]


@_completes
def clients_and_aliases(ctx: click.Context) -> Iterable[str]:
    """Return clients and aliases of the lock."""
    return [name for adapter in _adapters(ctx) for name in (adapter.client, adapter.alias)]


@_completes
def keys(ctx: click.Context) -> Iterable[str]:
    """Return the declared API keys as CLIENT/KEY."""
    from runtime.project import load, parse_cache  # noqa: PLC0415 (only keys need declarations)

    options = ctx.find_root().params
    variables = dict(text.partition("=")[::2] for text in options["variables"])
    texts = load.read_files(options["root"], options["environment"])
    cache = parse_cache.ParseCache(_state_dir(ctx) / "cache")
    declared = load.read_tree(texts, options["environment"], variables, cache).value.get("clients")
    return [
        f"{client}/{key}"
        for client, entry in _map(declared).items()
        for key in _map(_map(entry).get("keys"))
    ]


@_completes
def servers(ctx: click.Context) -> Iterable[str]:
    """Return the servers of the routing table and those that were started here."""
    return [*_map(_table(ctx).get("servers")), *_started(ctx)]


@_completes
def started_servers(ctx: click.Context) -> Iterable[str]:
    """Return the servers that were started from this state folder."""
    return _started(ctx)


@_completes
def gateways(ctx: click.Context) -> Iterable[str]:
    """Return the gateways that this state folder knows."""
    return [path.parent.name for path in (_state_dir(ctx) / "gateways").glob("*/gateway.json")]


@_completes
def addresses(ctx: click.Context) -> Iterable[str]:
    """Return aliases, versions, and addresses of clients, keys, routes and servers."""
    table = _table(ctx)
    return [
        *_aliases(ctx),
        *(f"adapter/{adapter}" for adapter in _adapters(ctx)),
        *(f"client/{adapter.client}" for adapter in _adapters(ctx)),
        *(f"key/{name}" for name in _map(table.get("keys"))),
        *(f"route/{name}" for name in _map(table.get("aliases"))),
        *(f"server/{name}" for name in [*_map(table.get("servers")), *_started(ctx)]),
    ]


def _state_dir(ctx: click.Context) -> Path:
    options = ctx.find_root().params
    folder: Path = options["state_dir"] or options["root"] / ".fleetctl"
    return folder


def _aliases(ctx: click.Context) -> list[str]:
    locked = [adapter.alias for adapter in _adapters(ctx)]
    return [*locked, *_map(_table(ctx).get("aliases"))]


def _adapters(ctx: click.Context) -> list[AdapterName]:
    found = []
    for name in _map(_document(ctx.find_root().params["root"] / "fleet.lock").get("adapters")):
        with suppress(ValueError):
            found.append(AdapterName.parse(name))
    return found


def _table(ctx: click.Context) -> dict[str, Any]:
    return _document(_state_dir(ctx) / "routes.json")


def _started(ctx: click.Context) -> list[str]:
    return [path.parent.name for path in (_state_dir(ctx) / "servers").glob("*/launch.json")]


def _document(path: Path) -> dict[str, Any]:
    """Read a JSON file; empty where the file is missing, broken or no map."""
    with suppress(OSError, ValueError, RecursionError):
        return _map(json.loads(path.read_bytes()))
    return {}


def _map(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
