"""List the names of a resource: its address, and shorter forms that files and errors show."""

from collections.abc import Iterator

from fleet.names import AdapterName, alias_parts, name_in_address
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server


def names_of(resource: Resource) -> frozenset[str]:
    """Return all names that mean a resource, the address among them.

    A server: `server/S`, `S`, `host/device`, `host/H`, `base/B`. An adapter: `adapter/N@S`, `N@S`,
    `adapter/N`, `N`, and the same with `ALIAS@VERSION` in the place of its full name `N`; of a
    server, `ALIAS@S`; all versions of an alias, `adapter/ALIAS`. A route: `route/ALIAS`, `ALIAS`,
    `CLIENT/TASK`. A key: `key/CLIENT/NAME`, `CLIENT/NAME`. All that a client has of routes and
    keys: `client/CLIENT`.
    """
    return frozenset(_names(resource))


def _names(resource: Resource) -> Iterator[str]:
    address = resource.address
    yield from (address, name_in_address(address))
    match resource:
        case Server():
            yield from (f"{resource.host}/{device}" for device in resource.devices)
            yield from (f"host/{resource.host}", f"base/{resource.base}")
        case LoadedAdapter():
            yield from (resource.adapter, f"adapter/{resource.adapter}")
            yield from _by_alias(resource)
        case Route():
            client, task = alias_parts(resource.alias)
            yield from (f"{client}/{task}", f"client/{client}")
        case Key():
            yield f"client/{resource.client}"


def _by_alias(resource: LoadedAdapter) -> Iterator[str]:
    try:
        name = AdapterName.parse(resource.adapter)
    except ValueError:
        return  # an adapter of others, whose name has no parts
    yield f"adapter/{name.alias}"
    for short_name in (
        f"{name.alias}@{resource.server}",
        *(
            f"{name.alias}@{version}{where}"
            for version in (name.version, f"v{name.version}")
            for where in ("", f"@{resource.server}")
        ),
    ):
        yield from (short_name, f"adapter/{short_name}")
