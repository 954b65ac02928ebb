"""What a check looks at: a placement beside what was declared, wanted and live."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from fleet.declared import Adapter, Device, Fleet, Host
from fleet.names import adapter_address
from fleet.pace import Paced, alias_of
from fleet.placement.account import AdapterAccount, ServerAccount
from fleet.placement.bookkeeping import Books, crowds, residents_of
from fleet.resources import Server, State


@dataclass(frozen=True)
class Scene:
    """Servers with what they hold, and all that they are checked against."""

    fleet: Fleet
    wanted: Paced
    live: State
    servers: Mapping[str, Server]
    bindings: Mapping[str, tuple[str, ...]]
    unplaced: Mapping[str, str]

    @cached_property
    def books(self) -> Books:
        """What accounts are drawn up from."""
        return Books(self.fleet)

    @cached_property
    def residents(self) -> dict[str, tuple[AdapterAccount, ...]]:
        """By server: what it holds."""
        return residents_of(self.fleet, self.bindings)

    @cached_property
    def accounts(self) -> dict[str, ServerAccount]:
        """By server: what it holds and carries."""
        crowd = crowds(self.servers.values())
        return {
            name: self.books.server(server, self.residents.get(name, ()), crowd[name])
            for name, server in self.servers.items()
        }

    @cached_property
    def on_device(self) -> dict[tuple[str, str], list[Server]]:
        """By (host, device): the servers on it, by name."""
        found: dict[tuple[str, str], list[Server]] = defaultdict(list)
        for _, server in sorted(self.servers.items()):
            for device in server.devices:
                found[server.host, device].append(server)
        return found

    @cached_property
    def homes(self) -> dict[str, tuple[str, ...]]:
        """By server: the host, and the devices or, where it has none, the server itself."""
        return {
            name: (each.host, *(each.devices or (name,))) for name, each in self.servers.items()
        }

    @cached_property
    def foreign(self) -> dict[str, frozenset[str]]:
        """By server: what it lists, goes on listing, and nobody here has put there."""
        ours = self.wanted.owned
        before = self.live.servers()
        found: dict[str, set[str]] = defaultdict(set)
        for name, servers in self.wanted.loaded.items():
            for each in servers:
                there = self.servers.get(each)
                restarts = there is None or each not in before or there != before[each]
                bound = each in self.bindings.get(name, ())
                if not restarts and not bound and adapter_address(name, each) not in ours:
                    found[each].add(name)
        return {server: frozenset(names) for server, names in found.items()}

    def declared(self, adapter: str) -> Adapter | None:
        """Return the declaration of a version's alias."""
        return self.fleet.adapters.get(alias_of(adapter))

    def host(self, server: Server) -> Host | None:
        """Return a server's host, where it is declared."""
        return self.fleet.hosts.get(server.host)

    def device(self, host: str, name: str) -> Device | None:
        """Return a device, where it is declared."""
        return self.books.devices.get((host, name))

    def closed(self, server: Server) -> str:
        """Return the state of a server that takes nothing new; empty: it does."""
        theirs = self.books.attached.get(server.name)
        here = [self.device(server.host, each) for each in server.devices]
        states = [each.state for each in (theirs, *here) if each is not None]
        return next((f"it is {each}" for each in states if each != "active"), "")

    def was_there(self, adapter: str, server: str) -> bool:
        """Say whether a version is, or by its route should be, on a server already."""
        wanted = self.wanted
        return server in wanted.loaded.get(adapter, ()) or server in wanted.routed.get(adapter, ())


def now_of(scene: Scene) -> Scene:
    """Return the scene as it is live, with what is wanted where it is loaded.

    Flags that could be told by their digest alone are taken from the placement.
    """
    servers = {}
    for name, server in scene.live.servers().items():
        after = scene.servers.get(name)
        known = after if after is not None and after.digest == server.digest else server
        servers[name] = replace(server, flags=server.flags or known.flags)
    return replace(scene, servers=servers, bindings=scene.wanted.loaded, unplaced={})
