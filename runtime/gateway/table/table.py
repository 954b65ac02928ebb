"""The routing table as a document: written by `apply` and `rollback`, read by gateways.

A table without `format` is of format 1, and is written so. Every field is known to every gateway
that serves the table, so whatever is added to a table needs the next format, but for tables that
do not use the addition. A gateway refuses a table of a later format, and goes on serving what it
serves.
"""

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    TypeAdapter,
    field_serializer,
    model_serializer,
)

from fleet.names import ID_PATTERN, NAME_PATTERN
from fleet.resources import Key, Route, Share
from fleet.traffic import Budget, LimitPolicy, TrafficPolicy

FORMAT: Final = 6
"""Newest format of a table that this release serves and writes: 2 names the launches of servers, 3
has a client whose text is captured, 4 names the bytes of versions or a promise, 5 has
an alias with a further name, 6 a budget of a month."""
_POLICY: Final = TypeAdapter(TrafficPolicy)
_Id = Annotated[str, StringConstraints(pattern=rf"^{ID_PATTERN}$")]
_Name = Annotated[str, StringConstraints(pattern=rf"^{NAME_PATTERN}$")]
"""A name as in declarations, for names become paths and labels."""


class _TableModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShareEntry(_TableModel):
    """A version of an alias."""

    adapter: str
    percent: int
    servers: tuple[_Name, ...]
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")] | None = None
    """First 12 hex digits of the digest of its bytes; None: unknown, and left out."""

    @model_serializer(mode="wrap")
    def _known(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = fields(self)
        if self.digest is None:
            document.pop("digest", None)
        return document


class AliasEntry(_TableModel):
    """An alias, its owner and its versions, newest first."""

    client: _Id
    salt: str
    shares: tuple[ShareEntry, ...]
    policy: TrafficPolicy | None = None
    """The policy for its requests; None: the default policy."""

    @field_serializer("policy")
    def _differing(self, policy: TrafficPolicy | None) -> dict[str, Any] | None:
        """Write the fields that differ from the default; all, of many aliases, are megabytes."""
        if policy is None:
            return None
        document: dict[str, Any] = _POLICY.dump_python(policy, mode="json", exclude_defaults=True)
        return document

    @property
    def shadow(self) -> str:
        """The version that gets shadow requests; empty: none."""
        return self.policy.shadow.adapter if self.policy and self.policy.shadow else ""

    @property
    def format(self) -> int:
        """The earliest format of a table that can hold the entry."""
        policy = self.policy
        if policy and any(_is_monthly(its) for its in (policy.limits, policy.client_limits)):
            return 6
        if policy and policy.alias_for:
            return 5
        if any(share.digest for share in self.shares) or (policy and policy.promise_s):
            return 4
        return 3 if policy and policy.capture else 1

    @classmethod
    def of(cls, route: Route, before: Self | None = None) -> Self:
        """Return the entry that says the same as `route`; `before` knows digests of versions."""
        known = {share.adapter: share.digest for share in before.shares} if before else {}
        shares = tuple(
            ShareEntry(**asdict(share), digest=known.get(share.adapter)) for share in route.shares
        )
        return cls(client=route.client, salt=route.salt, shares=shares, policy=route.policy)

    def route(self, alias: str) -> Route:
        """Return the route that says the same as this entry."""
        shares = tuple(Share(share.adapter, share.percent, share.servers) for share in self.shares)
        return Route(alias, shares, self.salt, self.policy)


def _is_monthly(limits: LimitPolicy) -> bool:
    return limits != replace(
        limits, requests_per_month=None, tokens_per_month=None, budget=Budget.SOFT
    )


class KeyEntry(_TableModel):
    """An API key; only the hash of its secret is kept."""

    client: _Id
    name: _Name
    reference: str
    sha256: str
    """SHA-256 of the secret, 64 hex digits."""

    @property
    def fingerprint(self) -> str:
        """The hash of the secret's hash, 12 hex digits, which plan and ledger may show."""
        return hashlib.sha256(self.sha256.encode()).hexdigest()[:12]

    def key(self) -> Key:
        """Return the resource that plans compare."""
        return Key(self.client, self.name, self.reference, self.fingerprint)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _members(entries: Iterable[tuple[str, _TableModel]]) -> Generator[str, None, int]:
    """Yield the members of an object; return the earliest format that can hold them."""
    least = 1
    for place, (name, entry) in enumerate(entries):
        least = max(least, entry.format if isinstance(entry, AliasEntry) else 1)
        document = entry.model_dump(mode="json")
        yield f"{',' if place else ''}{_json(name)}:{_json(document)}"
    return least


def _format(launches: Mapping[str, str], least: int) -> dict[str, int]:
    """Return the member that says the format, `least` or later; empty: format 1."""
    needed = max(least, 2 if launches else 1)
    return {"format": needed} if needed > 1 else {}


def pieces(
    revision: int,
    token: int,
    servers: Mapping[str, str],
    aliases: Iterable[tuple[str, AliasEntry]],
    keys: Iterable[tuple[str, KeyEntry]],
    launches: Mapping[str, str],
) -> Iterator[str]:
    """Yield a table's canonical document in pieces; aliases and keys come sorted by name.

    A gateway writes the document while it answers requests, so never in one long call.
    """
    yield '{"aliases":{'
    least = yield from _members(aliases)
    yield '},"keys":{'
    yield from _members(keys)
    rest: dict[str, Any] = {"revision": revision, "servers": dict(servers), "token": token}
    rest |= {"launches": dict(launches)} if launches else {}
    rest |= _format(launches, least)
    yield "}," + _json(rest)[1:]


class RoutingTable(_TableModel):
    """A revision of all that a gateway needs."""

    format: Literal[1, 2, 3, 4, 5, 6] = Field(default=1, exclude=True)
    """The format, by the contents when written; left out for format 1."""
    revision: int
    """Grows with every write; a gateway refuses an older revision."""
    token: int = 0
    """Fencing token of the newest lease that the table was written under; a rollback, which needs
    no lease, keeps the token."""
    servers: dict[_Name, str] = {}
    """Server to base URL."""
    launches: dict[_Name, str] = {}
    """Server to the launch that must answer there; a server without one is not asked for it."""
    aliases: dict[_Name, AliasEntry] = {}
    keys: dict[str, KeyEntry] = {}
    """By `client/name`."""

    def canonical(self) -> str:
        """Return the document as sorted JSON, the bytes that the digest covers."""
        aliases, keys = sorted(self.aliases.items()), sorted(self.keys.items())
        return "".join(
            pieces(self.revision, self.token, self.servers, aliases, keys, self.launches)
        )

    @model_serializer(mode="wrap")
    def _by_format(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the addition of format 2 where no server has a launch."""
        document: dict[str, Any] = fields(self)
        if not self.launches:
            document.pop("launches", None)
        least = max((entry.format for entry in self.aliases.values()), default=1)
        return document | _format(self.launches, least)

    @property
    def named(self) -> frozenset[str]:
        """The servers that a route names."""
        shares = (share for entry in self.aliases.values() for share in entry.shares)
        return frozenset(server for share in shares for server in share.servers)

    @property
    def without_address(self) -> tuple[str, ...]:
        """Servers that a route names and that have no address, sorted."""
        return tuple(sorted(self.named - self.servers.keys()))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical document, 64 hex digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
