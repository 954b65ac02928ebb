"""Who serves what, as an evaluation needs it: from the live state."""

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.resources import State


@dataclass(frozen=True, slots=True)
class Served:
    """A version on a server that answers."""

    adapter: str
    server: str
    url: str
    digest: str
    """Of the bytes that were loaded; empty where their path does not tell."""
    engine: str
    """Version of the engine and digest of the server's flags."""


def served(live: State) -> Mapping[str, Served]:
    """Return by full name every version that some reachable server lists, the first by name."""
    servers = live.servers()
    found: dict[str, Served] = {}
    for each in live.adapters().values():
        url = live.urls.get(each.server)
        if url and each.adapter not in found:
            flags = servers[each.server].digest if each.server in servers else None
            engine = f"{live.versions.get(each.server, 'engine')} {flags or ''}".strip()
            found[each.adapter] = Served(each.adapter, each.server, url, each.digest or "", engine)
    return found


def answering(live: State) -> Mapping[str, str]:
    """Return by alias the version with the largest share; an older one where two are equal."""
    return {
        alias: max(reversed(route.shares), key=lambda each: each.percent).adapter
        for alias, route in live.routes().items()
        if route.shares
    }
