"""Makes names, addresses and step ids, and takes them apart: the only place for both.

    id        client, task, base, tier, host, device or key: `llama3_8b`
    alias     CLIENT-TASK                      adapter   CLIENT-TASK-BASE-v1.2.3
    server    BASE-HOST-DEVICE; an attached server has the name that its declaration gives
    address   server/SERVER   adapter/ADAPTER@SERVER   route/ALIAS   key/CLIENT/KEY
    step      VERB ADDRESS; VERB.2 ADDRESS, where a plan does the same again
    stamp     fleetctl-DIGEST, fleetctl-launch-LAUNCH, fleetctl-resolver: served names of a managed
              server beside the name of its base

An id is lower case, begins with a letter and may hold digits and single underscores inside. An id
holds no hyphen, so that a joined name reads back in exactly one way.

The functions that take a name apart never fail: a name of another form has parts that no
declaration has. `AdapterName.parse` refuses a name of another form.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NewType, Self

Address = NewType("Address", str)
"""Name of a resource with its kind: `server/…`, `adapter/…@…`, `route/…`, `key/…/…`."""

ID_PATTERN = r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*"
NAME_PATTERN = rf"{ID_PATTERN}(?:-{ID_PATTERN})*"
"""Pattern of the names of servers and aliases: ids joined by hyphens."""
VERSION_PATTERN = r"(?:0|[1-9][0-9]{0,17})(?:\.(?:0|[1-9][0-9]{0,17})){2}"
_ID = re.compile(ID_PATTERN)
_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(VERSION_PATTERN)
_ADAPTER = re.compile(rf"({ID_PATTERN})-({ID_PATTERN})-({ID_PATTERN})-v({VERSION_PATTERN})")
SSH_DESTINATION: Final = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
    r"(?:(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*)|\[(?P<ip>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
"""`host`, `user@host`, `host:port`, `[ip6]`; the host may be an alias of ssh's configuration."""


def is_id(text: str) -> bool:
    """Say whether `text` may name a client, task, base, tier, host, device or key."""
    return _ID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Say whether `text` may name a server or an alias: an id, or ids joined by hyphens."""
    return _NAME.fullmatch(text) is not None


def by_number(name: str) -> tuple[tuple[str | int, ...], str]:
    """Return the key that sorts names as people count: `gpu2` before `gpu10`, then by text."""
    parts = re.split(r"([0-9]{1,18})", name)
    return tuple(int(part) if at % 2 else part for at, part in enumerate(parts)), name


def suggest_id(text: str) -> str:
    """Return the valid id nearest to `text`, for error messages; may be empty."""
    joined = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return re.sub(r"^[0-9_]+", "", joined)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A semantic version of three numbers, compared by value (1.10.0 is above 1.9.0)."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `2.1.0`.

        Raises:
            ValueError: `text` is not three dot-separated numbers without leading zeros.
        """
        if _VERSION.fullmatch(text) is None:
            raise ValueError(f"not a version of the form 1.2.3: {text!r}")
        major, minor, patch = (int(part) for part in text.split("."))
        return cls(major, minor, patch)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True, slots=True, order=True)
class AdapterName:
    """The full name of an immutable adapter version; also its served model name."""

    client: str
    task: str
    base: str
    version: Version

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `acme-support-llama3_8b-v2.1.0`.

        Raises:
            ValueError: `text` is not `{client}-{task}-{base}-v{major}.{minor}.{patch}`.
        """
        match = _ADAPTER.fullmatch(text)
        if match is None:
            raise ValueError(f"not of the form client-task-base-v1.2.3: {text!r}")
        client, task, base, version = match.groups()
        return cls(client, task, base, Version.parse(version))

    @property
    def alias(self) -> str:
        """The name that the client calls: `acme-support`."""
        return f"{self.client}-{self.task}"

    def __str__(self) -> str:
        return f"{self.client}-{self.task}-{self.base}-v{self.version}"


def alias_name(client: str, task: str) -> str:
    """Return `CLIENT-TASK`."""
    return f"{client}-{task}"


def alias_parts(alias: str) -> tuple[str, str]:
    """Return the client and the task of an alias."""
    client, _, task = alias.partition("-")
    return client, task


def client_of(name: str) -> str:
    """Return the client of an alias or of an adapter version."""
    return name.partition("-")[0]


def alias_of(adapter: str) -> str:
    """Return the alias of an adapter version."""
    return "-".join(adapter.split("-", 2)[:2])


def base_of(adapter: str) -> str:
    """Return the base of an adapter version."""
    return adapter.split("-", 3)[2]


def version_of(adapter: str) -> str:
    """Return the number of an adapter version, such as `2.1.0`."""
    return adapter.rpartition("-v")[2]


def dns_label(name: str) -> str:
    """Return the name of a server or an alias as a DNS label, for systems that forbid underscores.

    Reversible by `from_dns_label`: ids hold no hyphens, no double and no outer underscores.
    """
    return name.replace("_", "--")


def from_dns_label(label: str) -> str:
    """Return the name of which `dns_label` made a label."""
    return label.replace("--", "_")


def server_name(base: str, host: str, device: str) -> str:
    """Return `BASE-HOST-DEVICE`; of several devices, the first gives the name."""
    return f"{base}-{host}-{device}"


def base_of_server(server: str) -> str:
    """Return the base in the name of a managed server."""
    return server.partition("-")[0]


def place_of_server(server: str) -> tuple[str, str]:
    """Return host and first device in the name of a managed server."""
    _, _, place = server.partition("-")
    host, _, device = place.partition("-")
    return host, device


def forwarded_address(destination: str) -> str:
    """Return the loopback address here whose ports are forwarded to a destination of `ssh`."""
    drawn = hashlib.sha256(destination.encode()).digest()
    return f"127.{drawn[0]}.{drawn[1]}.{drawn[2] % 253 + 2}"


def server_address(server: str) -> Address:
    """Return `server/<name>`."""
    return Address(f"server/{server}")


def adapter_address(adapter: str, server: str) -> Address:
    """Return `adapter/<full adapter name>@<server>`."""
    return Address(f"adapter/{adapter}@{server}")


def route_address(alias: str) -> Address:
    """Return `route/<client>-<task>`."""
    return Address(f"route/{alias}")


def key_address(client: str, key: str) -> Address:
    """Return `key/<client>/<key>`."""
    return Address(f"key/{client}/{key}")


TABLE: Final = Address("table")
"""The routing table's file, as the subject of a fault."""
LEDGER: Final = Address("ledger")
"""The ledger, as the subject of a fault."""


def gateway_address(gateway: str) -> Address:
    """Return `gateway/<name>`, the subject of a gateway's faults."""
    return Address(f"gateway/{gateway}")


def address_parts(address: str) -> tuple[str, str]:
    """Return the kind of an address (`server`, `adapter`, `route`, `key`) and the rest."""
    kind, _, rest = address.partition("/")
    return kind, rest


def kind_of_address(address: str) -> str:
    """Return `server`, `adapter`, `route` or `key`."""
    return address.partition("/")[0]


def name_in_address(address: str) -> str:
    """Return an address without its kind: for a server or a route, the name."""
    return address.partition("/")[2]


def adapter_of_address(address: str) -> str:
    """Return the version that the address of an adapter names; empty for other addresses."""
    kind, rest = address_parts(address)
    return rest.rpartition("@")[0] if kind == "adapter" else ""


def server_of_address(address: str) -> str:
    """Return the server that the address of an adapter names; empty for other addresses."""
    kind, rest = address_parts(address)
    return rest.rpartition("@")[2] if kind == "adapter" else ""


def step_id(verb: str, address: str, number: int = 1) -> str:
    """Return `VERB ADDRESS`, such as `load adapter/…@…`; with its number from the second on."""
    return f"{verb} {address}" if number == 1 else f"{verb}.{number} {address}"


def step_parts(step: str) -> tuple[str, str]:
    """Return the verb and the address of a step."""
    verb, _, address = step.partition(" ")
    return verb.partition(".")[0], address


_DIGEST_STAMP = re.compile(r"fleetctl-((?:[0-9]{1,9}\.)?[0-9a-f]{12})")
_LAUNCH_STAMP = re.compile(r"fleetctl-launch-([0-9a-f]{12})")
RESOLVER_STAMP = "fleetctl-resolver"


def digest_stamp(digest: str) -> str:
    """Return the served name that carries the digest of a server's flags."""
    return f"fleetctl-{digest}"


def launch_stamp(launch: str) -> str:
    """Return the served name that carries the launch of a server: twelve hex digits."""
    return f"fleetctl-launch-{launch}"


@dataclass(frozen=True, slots=True)
class Stamps:
    """The stamps among the served names of a server."""

    digest: str | None
    """Digest of the flags; None: fleetctl did not write the command line."""
    launch: str = ""
    """Empty: started by a release that drew no launch, or by others."""
    has_resolver: bool = False
    """Whether the server resolves the exact names of its adapters itself, after any restart."""

    @classmethod
    def among(cls, names: Iterable[str]) -> Self:
        """Return the stamps among served names; of several of a kind, the first counts."""
        served = tuple(names)
        digests = (match[1] for name in served if (match := _DIGEST_STAMP.fullmatch(name)))
        launches = (match[1] for name in served if (match := _LAUNCH_STAMP.fullmatch(name)))
        return cls(next(digests, None), next(launches, ""), RESOLVER_STAMP in served)

    @property
    def names(self) -> Iterator[str]:
        """The served names that carry the stamps, that of the digest first."""
        if self.digest is not None:
            yield digest_stamp(self.digest)
        if self.launch:
            yield launch_stamp(self.launch)
        if self.has_resolver:
            yield RESOLVER_STAMP
