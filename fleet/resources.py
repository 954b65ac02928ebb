"""Defines resources, declared or live, the digest of flags, and `State`: compared by meaning."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from fleet import names
from fleet.hardware import AttachedFacts
from fleet.names import AdapterName, Address
from fleet.traffic import TrafficPolicy

# A digest names its format: format 1 is twelve hex digits alone, a later format puts its number
# and a point before the digits. A running server is compared in the format of its own digest, so
# that a release with another hash replaces no server.
#
# How a later release adds format N:
# - put into `FORMATS` a function from all flags to the hashed flags;
# - let the functions of earlier formats leave out a flag of format N that has its default;
# - start a server with a new default flag only where its digest is of format N or later.

Hashed = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Function from all flags, by the names of their fields, to the flags that a format hashes."""


def _without_default(flags: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave `image` out where a server has none: earlier releases knew no image."""
    return {name: value for name, value in flags.items() if name != "image" or value}


FORMATS: Mapping[int, Hashed] = {1: _without_default}
"""Formats that this release knows; the digest of given flags in a format never changes."""


def digest_of(
    flags: Mapping[str, Any], version: int | None = None, formats: Mapping[int, Hashed] = FORMATS
) -> str:
    """Return the digest of flags, by the names of their fields, in a format; None: the newest.

    Empty where the format is not known.
    """
    number = max(formats) if version is None else version
    if number not in formats:
        return ""
    canonical = json.dumps(formats[number](flags), sort_keys=True, separators=(",", ":"))
    digits = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    return digits if number == 1 else f"{number}.{digits}"


def format_of(digest: str | None) -> int:
    """Return the format of a digest; a server without one counts as format 1."""
    number, point, _ = (digest or "").partition(".")
    return int(number[:9]) if point and number.isdecimal() else 1


def differing(
    desired: Mapping[str, Any],
    running: Mapping[str, Any],
    version: int,
    formats: Mapping[int, Hashed] = FORMATS,
) -> tuple[str, ...]:
    """Return the names of the flags that differ in a format, in their order.

    A flag that only a later format adds is no difference. In an unknown format no flag differs.
    """
    if version not in formats:
        return ()
    left, right = formats[version](desired), formats[version](running)
    absent = object()
    return tuple(
        name
        for name in dict.fromkeys((*left, *right))
        if left.get(name, absent) != right.get(name, absent)
    )


def outdated(
    digests: Mapping[str, str | None], formats: Mapping[int, Hashed] = FORMATS
) -> tuple[str, ...]:
    """Return notes on servers whose flags are of an earlier format than the newest.

    `digests` has the flags' digest by server; None: a server that others started.
    """
    newest = max(formats)
    return tuple(
        f"{name} runs flags of format {found}; what format {newest} adds takes effect at its "
        "next restart by a plan"
        for name, digest in sorted(digests.items())
        if digest is not None and (found := format_of(digest)) < newest
    )


@dataclass(frozen=True, slots=True)
class ServerFlags:
    """The flags of a server; vLLM changes none of them while the server runs.

    `model` is the base's path on the server's host. Sizes are bytes.
    """

    model: str  # `--model`
    served_name: str  # `--served-model-name`, without the digest
    max_loras: int  # `--max-loras`: LoRA slots
    max_lora_rank: int  # `--max-lora-rank`
    max_cpu_loras: int  # `--max-cpu-loras`: adapters in host memory
    dtype: str = "auto"  # `--dtype`
    max_model_len: int | None = None  # `--max-model-len`, tokens; None: the model's
    tensor_parallel: int = 1  # `--tensor-parallel-size`: devices
    memory_share: float | None = None
    """`--gpu-memory-utilization`; None where the KV cache is given in bytes."""
    kv_cache_bytes: int | None = None  # size of the KV cache; None: by `memory_share`
    extra: tuple[tuple[str, str], ...] = ()
    """Further flags as declared on the base, sorted; an empty value is a bare switch."""
    image: str = ""
    """Image that the server runs from; empty: from an interpreter of its host."""

    @property
    def digest(self) -> str:
        """Twelve hex digits over all flags in the newest format, stamped on the server."""
        return digest_of(asdict(self))

    def digest_like(self, known: str | None) -> str:
        """Return the digest of these flags in the format of a known digest."""
        return digest_of(asdict(self), format_of(known))


@dataclass(frozen=True, slots=True)
class Server:
    """A vLLM process with a loaded base on devices of a host."""

    name: str  # `BASE-HOST-DEVICE`, or as declared
    base: str  # name of its base
    host: str  # name of its host
    devices: tuple[str, ...]  # names on the host
    port: int  # TCP, on the host's loopback
    digest: str | None
    """Digest of the flags; None on an attached server, whose flags others choose."""
    flags: ServerFlags | None = field(default=None, compare=False)
    """The flags where known; the digest alone decides equality."""
    supervisor: str = ""
    """Keeper of the process, as `HostSpec.supervisor`."""

    @property
    def address(self) -> Address:
        """Return `server/<name>`."""
        return names.server_address(self.name)


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An adapter version listed by a server."""

    adapter: str
    """Full name, which is also the served model name."""
    server: str  # name of the server
    digest: str | None
    """Digest of the served bytes, read from the path in the store; None: loaded from elsewhere."""
    path: str = field(default="", compare=False)
    """The path that the server shows; empty in a desired state."""
    unsure: bool = False
    """Whether the server may have read other bytes, as the copy was damaged meanwhile."""

    @property
    def address(self) -> Address:
        """Return `adapter/<name>@<server>`."""
        return names.adapter_address(self.adapter, self.server)

    @property
    def parts(self) -> AdapterName | None:
        """Parts of the full name; None: an adapter of others, whose name has no parts."""
        try:
            return AdapterName.parse(self.adapter)
        except ValueError:
            return None

    def as_known(self) -> Self:
        """Return the adapter, without a digest if its name has no parts: no library has it."""
        return self if self.digest is None or self.parts else replace(self, digest=None)


FULL = 100
"""All of an alias's traffic, in percent."""


@dataclass(frozen=True, slots=True)
class Share:
    """The part of an alias's traffic that a version answers."""

    adapter: str  # full name of the version
    percent: int  # share of the requests
    servers: tuple[str, ...]
    """Servers that hold the version, sorted."""


@dataclass(frozen=True, slots=True)
class Route:
    """An alias with its versions and their shares of the traffic.

    Shares are ordered newest version first and add up to 100 percent. A version at 0 percent is
    resident, so that a rollback to the version is a change of the route alone.
    """

    alias: str  # name that the client asks for
    shares: tuple[Share, ...]
    salt: str
    """Text in the hash that assigns users to versions; another text in every rollout."""
    policy: TrafficPolicy | None = None
    """Policy for its requests; None: the default."""

    @property
    def address(self) -> Address:
        """Return `route/<alias>`."""
        return names.route_address(self.alias)

    @property
    def client(self) -> str:
        """The client that owns the alias."""
        return names.client_of(self.alias)

    @property
    def split(self) -> str:
        """Its versions by full name with their shares, as a text."""
        return ", ".join(f"{share.adapter} {share.percent} %" for share in self.shares)

    @property
    def shadow(self) -> str:
        """The version that gets copies of its requests; empty: no version."""
        return self.policy.shadow.adapter if self.policy and self.policy.shadow else ""


@dataclass(frozen=True, slots=True)
class Key:
    """A client's API key, known by its reference and fingerprint, never by its value."""

    client: str  # name of the client
    name: str  # name among the keys of the client
    reference: str
    """Where the secret is kept: `env:NAME` or `file:path`."""
    fingerprint: str | None
    """First twelve hex digits of the SHA-256 of the secret's SHA-256; None: secret not readable."""

    @property
    def address(self) -> Address:
        """Return `key/<client>/<name>`."""
        return names.key_address(self.client, self.name)


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


class OutageKind(StrEnum):
    """Kind of an outage: clients get no answers, or fleetctl lost what keeps answers coming."""

    GATEWAY_DOWN = "gateway_down"
    GATEWAY_REFUSES = "gateway_refuses"
    """A gateway that runs and refuses every client, as its usage log cannot be written."""
    SERVER_DOWN = "server_down"
    SERVER_HUNG = "server_hung"
    """A server whose process runs and does not answer, or makes no token."""
    UNSERVED = "unserved"  # aliases: a route or the last copy of a version is gone
    KEY_GONE = "key_gone"  # a key whose file cannot be read any more
    TABLE_DAMAGED = "table_damaged"
    """A routing table's file that is torn, gone, or was changed by hand."""
    LEDGER_DAMAGED = "ledger_damaged"
    """A ledger that does not answer, was changed, or lacks earlier entries."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was observed beside the resources: of a gateway, a server, a key or a file."""

    what: str
    """Such as `is not running and answers no client`."""
    command: str
    outage: OutageKind | None = None
    """None: the part serves, and otherwise than declared."""
    since: datetime | None = None
    """Time of the first round of `reconcile` that saw the fault; None: no round has."""
    heals: bool = False
    """Whether `reconcile` mends the fault."""


@dataclass(frozen=True, slots=True)
class State:
    """Resources by address, and the parts of the fleet that could not be observed.

    An unknown resource is never created, changed or deleted.
    """

    resources: Mapping[Address, Resource] = field(default_factory=dict)
    unknown_servers: Mapping[str, str] = field(default_factory=dict)
    """Servers that did not answer, with the reason."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Port by server that did not answer, from its last start; absent: the port is not known."""
    of_others: Mapping[str, str] = field(default_factory=dict)
    """Unknown servers of this fleet that another state folder started, with the folder."""
    routes_unknown: str = ""
    """Reason why routes and keys could not be read; empty: they were read."""
    ended: Mapping[str, str] = field(default_factory=dict)
    """Launch by absent server of which its host has the record: it ended without being stopped."""
    away_hosts: Mapping[str, str] = field(default_factory=dict)
    """Reason by host without its machine, in its engine's words."""
    fleets: Mapping[str, str] = field(default_factory=dict)
    """Id of the fleet by server, as the process or unit says; absent: it says none."""
    boots: Mapping[str, str] = field(default_factory=dict)
    """Id of the current process by server: a new id means a restart."""
    launches: Mapping[str, str] = field(default_factory=dict)
    """Launch that answers, by managed server; absent: the server shows none."""
    routed_launches: Mapping[str, str] = field(default_factory=dict)
    """Launch that the routing table names, by server: any other launch gets no traffic."""
    urls: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    attached: Mapping[str, AttachedFacts] = field(default_factory=dict)
    """Facts of attached servers, by server."""
    bases: Mapping[str, str] = field(default_factory=dict)
    """Digest of the base's files at the start, by server; without attached servers."""
    pythons: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Interpreter at the start and interpreter now, by server, where the two differ."""
    resolvable: Mapping[Address, LoadedAdapter] = field(default_factory=dict)
    """Adapters that a restarted server does not list and loads by itself when asked, by address."""
    lost: tuple[Address, ...] = ()
    """Adapters that a gateway asked for and their server denied to hold, sorted."""
    notes: tuple[str, ...] = ()
    faults: Mapping[Address, Fault] = field(default_factory=dict)
    """Faults by `gateway/<name>`, `server/<name>`, `key/<client>/<name>`, `table` or `ledger`."""
    behind: bool = False
    """Whether a running gateway may lack the newest table, or the table an address."""

    def knows(self, address: Address) -> bool:
        """Say whether absence from `resources` means that the resource does not exist."""
        kind, name = names.address_parts(address)
        if kind == "server":
            return name not in self.unknown_servers
        if kind == "adapter":
            return names.server_of_address(address) not in self.unknown_servers
        return not self.routes_unknown

    def servers(self) -> dict[str, Server]:
        """Return the servers by name, sorted."""
        found = (resource for resource in self.resources.values() if isinstance(resource, Server))
        return {server.name: server for server in sorted(found, key=lambda server: server.name)}

    def adapters(self) -> dict[Address, LoadedAdapter]:
        """Return the listed adapters by address, sorted."""
        found = sorted(self.resources.items())
        return {address: item for address, item in found if isinstance(item, LoadedAdapter)}

    def routes(self) -> dict[str, Route]:
        """Return the routes by alias, sorted."""
        found = (resource for resource in self.resources.values() if isinstance(resource, Route))
        return {route.alias: route for route in sorted(found, key=lambda route: route.alias)}

    def keys(self) -> dict[Address, Key]:
        """Return the keys by address, sorted."""
        found = sorted(self.resources.items())
        return {address: item for address, item in found if isinstance(item, Key)}
