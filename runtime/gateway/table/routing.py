"""Clients of keys and versions of aliases: pure look-ups in a routing table."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import msgspec

from fleet.traffic import DEFAULT_DEADLINES, LATENCY_BOUNDS_S, Deadlines, Sticky, TrafficPolicy
from runtime.gateway.body import errors
from runtime.gateway.body.body import RequestBody

BUCKETS: Final = 2**64
DEFAULT_POLICY: Final = TrafficPolicy()
# Python 3.11 takes ten times as long for a member of an enumeration as for a name.
_SESSION, _USER, _KEY = Sticky.SESSION, Sticky.USER, Sticky.KEY
_RECENT: Final = 2048
"""Users whose hashes are kept: users come again, and a name has at most 4 KiB."""
_OPERATOR_PURPOSES: Final = ("eval", "smoke", "shadow")
"""Purposes that the operator may name; the first is the default."""


def operator_purpose(named: str) -> str:
    """Return the purpose of a request of the operator, as named or the usual."""
    return named if named in _OPERATOR_PURPOSES else _OPERATOR_PURPOSES[0]


@dataclass(frozen=True, slots=True)
class Principal:
    """The client that makes a request, or the operator."""

    client: str
    key: bytes
    """SHA-256 of the key that the request shows."""
    is_operator: bool = False
    """Whether any alias may be asked for, in no client's name."""


OPERATOR: Final = Principal("", b"", is_operator=True)


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """A version that requests go to, and the policy for them; made with the table."""

    client: str
    alias: str
    adapter: str
    """Full name of the version."""
    servers: tuple[str, ...]
    """Servers that hold the version and have an address, sorted."""
    policy: TrafficPolicy = DEFAULT_POLICY
    deadlines: Deadlines = DEFAULT_DEADLINES
    """For streams."""
    answer_deadlines: Deadlines = DEFAULT_DEADLINES
    """For other answers."""
    is_limited: bool = False
    """Whether alias or client have limits; without, a request is counted on its server alone."""
    priority: int | None = None
    """Priority for servers that look at priorities, the lower the sooner."""
    json_names: tuple[msgspec.Raw, msgspec.Raw] = (msgspec.Raw(b'""'), msgspec.Raw(b'""'))
    """Adapter and client as JSON, for the body that the server gets."""
    digest: str | None = None
    """First 12 hex digits of the digest of the version's bytes; None: unknown."""

    def deadlines_of(self, *, stream: bool) -> Deadlines:
        """Return the deadlines of an answer, by whether a stream was requested."""
        return self.deadlines if stream else self.answer_deadlines


@dataclass(frozen=True, slots=True)
class SplitArm:
    """A version of an alias, and the users that the version owns."""

    below: int
    """First bucket that belongs to the next arm, of 2**64."""
    percent: int
    target: RouteTarget


@dataclass(frozen=True, slots=True)
class AliasRoute:
    """An alias, ready for requests."""

    client: str
    sticky: Sticky
    key: bytes
    """Hash key of the split."""
    arms: tuple[SplitArm, ...]
    """Newest version first."""
    shadow: RouteTarget | None
    people: bytes = b""
    """Hash key of the users' pseudonyms in usage rows; unlike the split's it outlives rollouts."""

    def choose(self, sticky_id: bytes) -> RouteTarget:
        """Return the version that answers.

        The same `sticky_id` gets the same version for as long as the version's share does not
        shrink: the newest version owns the buckets from 0 up, so a growing share keeps its users.
        """
        if len(self.arms) == 1:
            return self.arms[0].target
        number = bucket(self.key, sticky_id)
        for arm in self.arms:  # for each request, so no generator
            if number < arm.below:
                return arm.target
        raise AssertionError("the shares add up to all buckets")

    @property
    def split(self) -> tuple[object, ...]:
        """The part of the route that differs when other users get other versions."""
        return self.key, tuple((arm.target.adapter, arm.below) for arm in self.arms)

    def version(self, name: str) -> RouteTarget | None:
        """Return a version by its number or full name, with traffic or without; None: no such."""
        targets = [arm.target for arm in self.arms]
        targets += [self.shadow] if self.shadow else []
        end = f"-v{name}"
        return next((t for t in targets if t.adapter == name or t.adapter.endswith(end)), None)


Decision = tuple[AliasRoute, RouteTarget, bytes]
"""The version that answers a request, and the user or session that the split keeps on a version;
empty: the request names none, or the split goes by key or by request."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """A revision, ready for requests. Immutable: a new revision is a new object."""

    revision: int
    digest: str
    text: bytes
    """The table's canonical document; the document's objects would take as much memory again."""
    urls: Mapping[str, str]
    """Server to its base URL, without a slash at the end; a fragment is the launch that must
    answer there, so that another launch is another address."""
    principals: Mapping[bytes, Principal]
    """SHA-256 of an API key to its client."""
    routes: Mapping[str, AliasRoute]
    """By alias, of all clients."""
    further: Mapping[tuple[str, str], AliasRoute]
    """By client and a further name of an alias of the client."""
    names_by_client: Mapping[str, tuple[str, ...]]
    """Client to the names that the client may ask for: aliases, sorted, and further names."""
    reloading: frozenset[tuple[str, str]] = frozenset()
    """(alias, full adapter name) of versions that have traffic and are being loaded again: their
    shares name no server."""
    bounds_s: tuple[float, ...] = LATENCY_BOUNDS_S
    """Bounds of the histograms: the usual ones and every promise, ascending."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """By client: the most turns in a row of any of its aliases."""

    def find(self, client: str, name: str) -> AliasRoute | None:
        """Return a client's own alias by a name of the alias, or None: the client has no such."""
        route = self.routes.get(name)
        if route is not None and route.client == client:
            return route
        return self.further.get((client, name))

    def decide(
        self, principal: Principal, body: RequestBody, session: str, version: str = ""
    ) -> Decision:
        """Return the alias that a request names and the version that answers, or raise 404.

        The operator may ask for any alias and name a version of it, such as `2.2.0`.
        """
        if principal.is_operator:
            route = self.routes.get(body.model)
            target = route.version(version) if route is not None and version else None
            if route is None or (version and target is None):
                raise errors.no_such_model()
            return route, target or route.choose(secrets.token_bytes(16)), b""
        route = self.find(principal.client, body.model)
        if route is None:
            raise errors.no_such_model()
        sticky = route.sticky
        if sticky is _KEY:
            return route, route.choose(principal.key), b""
        name = None
        if sticky is _SESSION:
            name = session or body.session or body.user
        elif sticky is _USER:
            name = body.user
        user = name.encode("utf-8", "surrogateescape") if name else b""
        return route, route.choose(user or secrets.token_bytes(16)), user


@dataclass(slots=True)
class Credentials:
    """The keys in the head of a request, and their principal for as long as a table holds.

    Heads repeat on a connection, and with them the key: one hash for a table is enough.
    """

    values: list[str] = field(default_factory=list)
    """Values of all headers `Authorization`, and of `x-api-key` as bearer tokens."""
    principal: Principal = OPERATOR
    """Counts only for the table of `table_digest`."""
    table_digest: str = ""
    """Digest of the table that knows the key; the table itself must not be kept alive."""

    def authenticate(self, table: RouteTable, operator: bytes) -> Principal:
        """Set and return the principal that the request's only key shows, or raise 401.

        `operator` is the SHA-256 of the operator's secret; empty: there is none.
        """
        if self.table_digest == table.digest:
            return self.principal
        scheme, _, secret = self.values[0].partition(" ") if len(self.values) == 1 else ("",) * 3
        shown = digest(secret.strip())
        principal = table.principals.get(shown)
        if principal is None and operator and shown == operator:
            principal = OPERATOR
        if principal is None or scheme.lower() != "bearer":
            raise errors.unauthorized()
        self.principal, self.table_digest = principal, table.digest
        return principal


def digest(secret: str) -> bytes:
    """Return the SHA-256 of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


@lru_cache(maxsize=_RECENT)
def bucket(key: bytes, sticky_id: bytes) -> int:
    """Return the bucket of a sticky id, 0 up to 2**64; uniform, and unrelated between keys."""
    return int.from_bytes(hashlib.blake2b(sticky_id, digest_size=8, key=key).digest(), "big")


@lru_cache(maxsize=_RECENT)
def unit(key: bytes, sticky_id: bytes, secret: bytes) -> str:
    """Return a user's pseudonym in usage rows: 16 hex digits, the same in all rollouts of an alias.

    `key` is the alias's. `secret`, at most 64 bytes, keeps ids from being guessed and compared;
    with another secret all users are new.
    """
    return hashlib.blake2b(key + sticky_id, digest_size=8, key=secret).hexdigest()


def alias_key(alias: str, salt: str = "") -> bytes:
    """Return the hash key of an alias's rollout: no two aliases share their first users.

    Without a salt: the key of the alias's users, whatever the rollout.
    """
    return hashlib.blake2b(f"{alias}\0{salt}".encode()).digest()
