"""Render explanations, as text and JSON, and list the names of the resource that they are about."""

import json
from collections.abc import Iterator, Mapping, Sequence

from fleet.names import Address, alias_parts, name_in_address
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server

FORMAT = "fleetctl-explanation"

Fact = tuple[str, str]
"""A label and a sentence."""


def render_text(explained: Mapping[Address, Sequence[Fact]]) -> str:
    """Return a paragraph for every resource, a line for every fact."""
    paragraphs = []
    for address, facts in explained.items():
        width = max(len(label) for label, _ in facts)
        lines = (f"  {label.ljust(width)}  {text}\n" for label, text in facts)
        paragraphs.append("".join([f"{address}\n", *lines]))
    return "\n".join(paragraphs)


def render_json(explained: Mapping[Address, Sequence[Fact]]) -> str:
    """Return the facts as a JSON document; a fact without a label belongs to the fact before."""
    resources = [
        {"address": address, "facts": [{"label": label, "text": text} for label, text in facts]}
        for address, facts in explained.items()
    ]
    document = {"format": FORMAT, "format_version": "1.0", "resources": resources}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


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
            if name := resource.parts:
                short_names = [f"{name.alias}@{resource.server}"]
                for version in (name.version, f"v{name.version}"):
                    short_name = f"{name.alias}@{version}"
                    short_names += [short_name, f"{short_name}@{resource.server}"]
                yield from (f"adapter/{name.alias}", *short_names)
                yield from (f"adapter/{short_name}" for short_name in short_names)
        case Route():
            client, task = alias_parts(resource.alias)
            yield from (f"{client}/{task}", f"client/{client}")
        case Key():
            yield f"client/{resource.client}"
