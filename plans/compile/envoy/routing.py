"""Hold the input of the compiler: a revision of the routing table, with the keys' secrets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.resources import Route


@dataclass(frozen=True, slots=True)
class Credential:
    """A client's API key. Envoy compares keys in clear, so the secret is needed."""

    client: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Routing:
    """A revision of the routing table."""

    revision: int
    digest: str
    """Digest of the routing table, 64 hex digits."""
    servers: Mapping[str, str]
    """Base URL by server."""
    routes: Mapping[str, Route]
    """Route by alias."""
    credentials: tuple[Credential, ...]
    """API keys; empty: every request is refused."""

    @property
    def version(self) -> str:
        """Version that Envoy shows as served: revision and digest, `12-9f86…`."""
        return f"{self.revision}-{self.digest}"

    def reachable(self, servers: tuple[str, ...]) -> tuple[str, ...]:
        """Return the servers that have a URL, sorted."""
        return tuple(sorted(server for server in servers if server in self.servers))


@dataclass(frozen=True, slots=True)
class RoutePlace:
    """Address and folder of an Envoy."""

    name: str
    """Name of the gateway."""
    listen: str
    """Address for clients, `host:port`."""
    folder: str
    """Folder of the documents and the rows, as a path on Envoy's host."""
    admin: str
    """Path of the admin socket, as a path on Envoy's host."""
