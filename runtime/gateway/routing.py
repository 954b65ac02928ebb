"""Who may call what, and which version answers: pure lookups over one routing table."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from fleet.names import AdapterName, is_id
from fleet.response_format import flaw
from fleet.traffic import UNLIMITED, USUAL_TIMEOUTS, Sticky, TrafficPolicy
from runtime.gateway.table import AliasEntry, KeyEntry, RoutingTable, pieces

_BUCKETS = 2**64
USUAL: Final = TrafficPolicy()
_ALL = 100
_SHA256 = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")


class InvalidTableError(ValueError):
    """A table that must not be served; the text says why."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who makes a request."""

    client: str
    key: bytes
    """SHA-256 of the key that was shown."""
    is_operator: bool = False
    """Whether it is nobody's client and may ask for any alias."""


class Patience(NamedTuple):
    """How long an answer may take, seconds."""

    first_byte_s: float = 600.0
    """Until it begins; of one that is no stream, until it is there."""
    idle_s: float = 60.0
    """Longest pause inside a stream."""
    total_s: float = 3600.0
    """Until it ends."""


USUAL_PATIENCE: Final = Patience()


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a request goes, and what holds for it. Made with the table, for each version."""

    client: str
    alias: str
    adapter: str
    servers: tuple[str, ...]
    """Servers that hold the version and have an address, sorted."""
    policy: TrafficPolicy = USUAL
    patience: Patience = USUAL_PATIENCE
    limited: bool = False
    """Whether anything limits requests: most are never counted."""
    priority: int | None = None
    """What servers that look at priorities are told, the lower the sooner."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One version of an alias and the part of all users that it owns."""

    below: int
    """First bucket that is no longer its own, of 2**64."""
    percent: int
    choice: Choice


@dataclass(frozen=True, slots=True)
class Alias:
    """One alias, ready to be asked which version answers."""

    client: str
    sticky: Sticky
    key: bytes
    branches: tuple[Branch, ...]
    shadow: Choice | None
    """The version that gets copies."""

    def choose(self, sticky: bytes) -> Choice:
        """Return the version that answers.

        The same `sticky` gets the same version as long as its share does not shrink: the
        newest version owns the buckets from 0 up, so that a growing share keeps its users.
        """
        if len(self.branches) == 1:
            return self.branches[0].choice
        place = bucket(self.key, sticky)
        for each in self.branches[:-1]:
            if place < each.below:
                return each.choice
        return self.branches[-1].choice

    @property
    def split(self) -> tuple[object, ...]:
        """What is another value when other users get other versions."""
        return self.key, tuple((each.choice.adapter, each.below) for each in self.branches)

    def version(self, wanted: str) -> Choice | None:
        """Return a version by its number or full name, with traffic or without; None: not here."""
        known = [each.choice for each in self.branches]
        known += [self.shadow] if self.shadow else []
        end = f"-v{wanted}"
        return next((c for c in known if c.adapter == wanted or c.adapter.endswith(end)), None)


@dataclass(frozen=True, slots=True)
class Lookup:
    """One revision, ready to be asked. Immutable: a new revision is a new object."""

    revision: int
    digest: str
    text: bytes
    """The table's canonical document; the table itself would take as much memory again."""
    urls: Mapping[str, str]
    """Server to its base URL, without a slash at the end."""
    _askers: Mapping[bytes, Asker]
    _aliases: Mapping[str, Alias]
    _owned: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, table: RoutingTable) -> Self:
        """Prepare a table.

        Raises:
            InvalidTableError: an alias would reach another client's adapter, two clients have
                one key, shares do not add up, or a key or URL is malformed.
        """
        return cls.made(
            (table.revision, table.token, table.servers),
            sorted(table.aliases.items()),
            sorted(table.keys.items()),
        )

    @classmethod
    def made(
        cls,
        head: tuple[int, int, Mapping[str, str]],
        entries: Iterable[tuple[str, AliasEntry]],
        keys: Iterable[tuple[str, KeyEntry]],
    ) -> Self:
        """Prepare a table that comes in pieces, none of which is kept.

        Args:
            head: Revision, token, and server to URL.
            entries: Aliases, sorted by name.
            keys: Keys, sorted by name.

        Raises:
            InvalidTableError: as `of`.
        """
        revision, token, servers = head
        for server, url in servers.items():
            if _URL.fullmatch(url) is None:
                raise InvalidTableError(f"server `{server}` has no valid URL")
        urls = {server: url.rstrip("/") for server, url in servers.items()}
        aliases: dict[str, Alias] = {}
        owned: dict[str, tuple[str, ...]] = {}
        askers: dict[bytes, Asker] = {}

        def alias_members() -> Iterator[tuple[str, AliasEntry]]:
            for name, entry in entries:
                alias = aliases[name] = _prepare(name, entry, urls)
                owned[alias.client] = (*owned.get(alias.client, ()), name)
                yield name, entry

        def key_members() -> Iterator[tuple[str, KeyEntry]]:
            for name, key in keys:
                _check_key(name, key)
                secret = bytes.fromhex(key.sha256)
                if askers.setdefault(secret, Asker(key.client, secret)).client != key.client:
                    raise InvalidTableError(f"key `{name}` is the same as a key of another client")
                yield name, key

        text = "".join(pieces(revision, token, servers, alias_members(), key_members())).encode()
        return cls(
            revision,
            hashlib.sha256(text).hexdigest(),
            text,
            MappingProxyType(urls),
            MappingProxyType(askers),
            MappingProxyType(aliases),
            MappingProxyType(owned),
        )

    def authenticate(self, digest: bytes) -> Asker | None:
        """Return the client whose API key has this SHA-256, or None."""
        return self._askers.get(digest)

    def aliases(self, client: str) -> tuple[str, ...]:
        """Return the aliases that a client owns, sorted."""
        return self._owned.get(client, ())

    def find(self, client: str, model: str) -> Alias | None:
        """Return a client's own alias, or None: no such alias, or not this client's."""
        alias = self._aliases.get(model)
        return alias if alias is not None and alias.client == client else None

    def all(self) -> Iterable[tuple[str, Alias]]:
        """Return every alias with its name."""
        return self._aliases.items()

    def find_any(self, model: str) -> Alias | None:
        """Return an alias, whosever it is: for the operator."""
        return self._aliases.get(model)


def bucket(key: bytes, sticky: bytes) -> int:
    """Return the bucket of a sticky id, 0 up to 2**64; uniform, and unrelated between keys."""
    return int.from_bytes(hashlib.blake2b(sticky, digest_size=8, key=key).digest(), "big")


def unit(key: bytes, sticky: bytes, secret: bytes) -> str:
    """Return what stands for a user in usage rows: 16 hex digits, the same in one rollout only.

    Args:
        key: Of the alias's rollout, 64 bytes.
        sticky: The user's own id.
        secret: At most 64 bytes, which whoever guesses ids and compares would have to know.
    """
    return hashlib.blake2b(key + sticky, digest_size=8, key=secret).hexdigest()


def alias_key(alias: str, salt: str) -> bytes:
    """Return the hash key of an alias's rollout: no two aliases share their first users."""
    return hashlib.blake2b(f"{alias}\0{salt}".encode()).digest()


def _prepare(name: str, entry: AliasEntry, urls: Mapping[str, str]) -> Alias:
    if name.partition("-")[0] != entry.client:
        raise InvalidTableError(f"alias `{name}` does not belong to client `{entry.client}`")
    policy = entry.policy or USUAL
    if policy.format is not None and (problem := flaw(policy.format)):
        raise InvalidTableError(f"the format of alias `{name}`: {problem}")
    make = partial(_choice, name, entry.client, policy, urls)
    total, branches = 0, []
    for share in entry.shares:
        if share.percent < 0:
            raise InvalidTableError(f"alias `{name}` has a share below 0 percent")
        total += share.percent
        branches.append(
            Branch(_BUCKETS * total // _ALL, share.percent, make(share.adapter, share.servers))
        )
    if total != _ALL:
        raise InvalidTableError(f"the shares of alias `{name}` add up to {total}, not to 100")
    shadow = make(policy.shadow.adapter, policy.shadow.servers) if policy.shadow else None
    key = alias_key(name, entry.salt)
    return Alias(entry.client, policy.sticky, key, tuple(branches), shadow)


def _choice(
    alias: str,
    client: str,
    policy: TrafficPolicy,
    urls: Mapping[str, str],
    adapter: str,
    servers: Sequence[str],
) -> Choice:
    try:
        owner = AdapterName.parse(adapter).client
    except ValueError as error:
        raise InvalidTableError(f"alias `{alias}`: {error}") from None
    if owner != client:
        raise InvalidTableError(f"alias `{alias}` names `{adapter}` of another client")
    given, usual = policy.timeouts, USUAL_PATIENCE
    return Choice(
        client=client,
        alias=alias,
        adapter=adapter,
        servers=tuple(sorted(each for each in servers if each in urls)),
        policy=policy,
        patience=usual
        if given == USUAL_TIMEOUTS
        else Patience(
            given.first_byte_s or usual.first_byte_s,
            given.idle_s or usual.idle_s,
            given.total_s or usual.total_s,
        ),
        limited=(policy.limits, policy.client_limits) != (UNLIMITED, UNLIMITED)
        or policy.server_in_flight is not None,
        priority=-(policy.turns or 0) if policy.prioritized else None,
    )


def _check_key(name: str, key: KeyEntry) -> None:
    if name != f"{key.client}/{key.name}" or not is_id(key.client):
        raise InvalidTableError(f"key `{name}` is not named after its client and name")
    if _SHA256.fullmatch(key.sha256) is None:
        raise InvalidTableError(f"key `{name}` holds no SHA-256")
