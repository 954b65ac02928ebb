"""Defines resources, declared or live, and `State`: values that compare by meaning."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

from fleet.flag_formats import digest_of, format_of
from fleet.names import (
    AdapterName,
    Address,
    adapter_address,
    address_parts,
    client_of,
    key_address,
    route_address,
    server_address,
    server_of_address,
)
from fleet.traffic import TrafficPolicy


@dataclass(frozen=True, slots=True)
class ServerFlags:
    """What a server is started with; vLLM changes none of these while it runs.

    `model` is the base's path as the server's host sees it. Sizes are bytes.
    """

    model: str
    served_name: str
    max_loras: int
    max_lora_rank: int
    max_cpu_loras: int
    dtype: str = "auto"
    max_model_len: int | None = None
    tensor_parallel: int = 1
    memory_share: float | None = None
    """`--gpu-memory-utilization`; None where the KV cache is given in bytes."""
    kv_cache_bytes: int | None = None
    extra: tuple[tuple[str, str], ...] = ()
    """Further flags as declared on the base, sorted; an empty value is a bare switch."""

    @property
    def digest(self) -> str:
        """Twelve hex digits over all flags; stamped on the server, to be read back.

        Of the newest format; see `fleet.flag_formats`.
        """
        return digest_of(asdict(self))

    def digest_like(self, known: str | None) -> str:
        """Return the digest of these flags in the format of a known digest."""
        return digest_of(asdict(self), format_of(known))


@dataclass(frozen=True, slots=True)
class Server:
    """One vLLM process with one base loaded on one or more devices of a host."""

    name: str
    base: str
    host: str
    devices: tuple[str, ...]
    port: int
    digest: str | None
    """Digest of the flags; None on an attached server, whose flags are not ours."""
    flags: ServerFlags | None = field(default=None, compare=False)
    """The flags themselves where known (the digest decides equality)."""

    @property
    def address(self) -> Address:
        """Return `server/<name>`."""
        return server_address(self.name)


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An adapter version listed by a server."""

    adapter: str
    """Full name, which is also the served model name."""
    server: str
    digest: str | None
    """Digest of the served bytes, read from the content-addressed path; None: another path."""
    path: str = field(default="", compare=False)
    """The path as the server shows it; empty in a desired state."""

    @property
    def address(self) -> Address:
        """Return `adapter/<name>@<server>`."""
        return adapter_address(self.adapter, self.server)

    @property
    def parts(self) -> AdapterName | None:
        """Parts of the full name; None: an adapter of others, whose name has no parts."""
        try:
            return AdapterName.parse(self.adapter)
        except ValueError:
            return None


FULL = 100
"""All of an alias's traffic, in percent."""


@dataclass(frozen=True, slots=True)
class Share:
    """The part of an alias's traffic that one version answers."""

    adapter: str
    percent: int
    servers: tuple[str, ...]
    """Servers that hold the version, sorted."""


@dataclass(frozen=True, slots=True)
class Route:
    """How the gateway resolves an alias to versions.

    Shares are ordered newest version first and add up to 100 percent. A version at 0
    percent is resident and can be rolled back to.
    """

    alias: str
    shares: tuple[Share, ...]
    salt: str
    """Mixed into the hash that assigns users to versions; one per rollout."""
    policy: TrafficPolicy | None = None
    """How its requests are treated; None: as by default."""

    @property
    def address(self) -> Address:
        """Return `route/<alias>`."""
        return route_address(self.alias)

    @property
    def client(self) -> str:
        """The client that owns the alias."""
        return client_of(self.alias)

    @property
    def shadow(self) -> str:
        """The version that gets copies of its requests; empty: none does."""
        return self.policy.shadow.adapter if self.policy and self.policy.shadow else ""


@dataclass(frozen=True, slots=True)
class Key:
    """A client's API key, known by its reference and fingerprint, never by its value."""

    client: str
    name: str
    reference: str
    """Where the secret is kept: `env:NAME` or `file:path`."""
    fingerprint: str | None
    """First twelve hex digits of the SHA-256 of the secret's SHA-256; None: not readable here."""

    @property
    def address(self) -> Address:
        """Return `key/<client>/<name>`."""
        return key_address(self.client, self.name)


Resource = Server | LoadedAdapter | Route | Key


def client_in(resource: Resource) -> str:
    """Return the client of a resource; empty for a server or an adapter of others."""
    match resource:
        case Route() | Key():
            return resource.client
        case LoadedAdapter():
            return parts.client if (parts := resource.parts) else ""
        case Server():
            return ""


def servers_in(resource: Resource) -> tuple[str, ...]:
    """Return the servers that a resource names; none for a key."""
    match resource:
        case Server():
            return (resource.name,)
        case LoadedAdapter():
            return (resource.server,)
        case Route():
            return tuple(server for share in resource.shares for server in share.servers)
        case Key():
            return ()


@dataclass(frozen=True, slots=True)
class GatewayFault:
    """What is wrong with a gateway: it is down, frozen, or runs otherwise than declared."""

    what: str
    """Such as `is not running and answers no client`."""
    command: str
    """What helps."""


@dataclass(frozen=True, slots=True)
class State:
    """Resources by address, and what could not be learned.

    What is unknown is never created, changed or deleted.
    """

    resources: Mapping[Address, Resource] = field(default_factory=lambda: MappingProxyType({}))
    unknown_servers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Servers that did not answer, with the reason."""
    routes_unknown: str = ""
    """Why routes and keys could not be read; empty when they were."""
    boots: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Server to an id of its current process: a new id means it was restarted."""
    urls: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Server to the base URL at which it was observed."""
    versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Server to the version of its engine, such as `0.32.0`."""
    bases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Server to a digest of the base's files that it was started on; lacks attached ones."""
    lost: tuple[Address, ...] = ()
    """Adapters that a gateway was told by their server not to be there, sorted."""
    notes: tuple[str, ...] = ()
    """Observations for the reader, such as a gateway that lags behind."""
    gateways: Mapping[str, GatewayFault] = field(default_factory=lambda: MappingProxyType({}))
    """By name, gateways of which clients do not get what is declared."""
    behind: bool = False
    """Whether a gateway that runs may lack the newest table, or the table an address."""

    def knows(self, address: Address) -> bool:
        """Say whether absence from `resources` means that the resource does not exist."""
        kind, name = address_parts(address)
        if kind == "server":
            return name not in self.unknown_servers
        if kind == "adapter":
            return server_of_address(address) not in self.unknown_servers
        return not self.routes_unknown

    def servers(self) -> dict[str, Server]:
        """Return the servers by name, sorted."""
        found = (resource for resource in self.resources.values() if isinstance(resource, Server))
        return {each.name: each for each in sorted(found, key=lambda each: each.name)}

    def adapters(self) -> dict[Address, LoadedAdapter]:
        """Return the listed adapters by address, sorted."""
        return {
            address: resource
            for address, resource in sorted(self.resources.items())
            if isinstance(resource, LoadedAdapter)
        }

    def routes(self) -> dict[str, Route]:
        """Return the routes by alias, sorted."""
        found = (resource for resource in self.resources.values() if isinstance(resource, Route))
        return {each.alias: each for each in sorted(found, key=lambda each: each.alias)}

    def keys(self) -> dict[Address, Key]:
        """Return the keys by address, sorted."""
        return {
            address: resource
            for address, resource in sorted(self.resources.items())
            if isinstance(resource, Key)
        }
