"""What an Envoy serves: the routing table of our gateway, with the keys' secrets beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.resources import Route


@dataclass(frozen=True, slots=True)
class Credential:
    """A client's API key. Envoy compares keys in clear, so this is the secret itself."""

    client: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Routing:
    """One revision of the routing table, in the form that documents are rendered from."""

    revision: int
    digest: str
    """Of the table, 64 hex digits."""
    servers: Mapping[str, str]
    """Server to its base URL."""
    routes: Mapping[str, Route]
    """By alias."""
    credentials: tuple[Credential, ...]
    """Empty: nobody is let in."""

    @property
    def version(self) -> str:
        """What Envoy shows as the version that it serves: revision and digest, `12-9f86…`."""
        return f"{self.revision}-{self.digest}"

    def reachable(self, servers: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the servers that have an address, sorted."""
        return tuple(sorted(server for server in servers if server in self.servers))


@dataclass(frozen=True, slots=True)
class RoutePlace:
    """Where one Envoy listens and keeps its files."""

    name: str
    """The gateway's name."""
    listen: str
    """`host:port` for clients."""
    folder: str
    """Folder of the documents and the rows, as Envoy sees it."""
    admin: str
    """Path of the admin socket, as Envoy sees it."""
