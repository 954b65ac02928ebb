"""Who may call what, and which version answers: pure lookups over one routing table."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

from fleet.formats import flaw
from fleet.names import AdapterName, is_id
from fleet.traffic import Policy
from runtime.gateway.table import AliasEntry, KeyEntry, RoutingTable

_BUCKETS = 2**64
USUAL: Final = Policy()
_ALL = 100
_SHA256 = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")


class InvalidTableError(ValueError):
    """A table that must not be served; the text says why."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One version of an alias and the part of all users that it owns."""

    adapter: str
    below: int
    """First bucket that is no longer its own, of 2**64."""
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Where one request goes."""

    client: str
    alias: str
    adapter: str
    servers: tuple[str, ...]
    """Servers that hold the version and have an address, sorted."""
    policy: Policy = USUAL


@dataclass(frozen=True, slots=True)
class _Alias:
    client: str
    key: bytes
    branches: tuple[Branch, ...]
    policy: Policy


@dataclass(frozen=True, slots=True)
class Lookup:
    """One revision, ready to be asked. Immutable: a new revision is a new object."""

    revision: int
    digest: str
    table: RoutingTable
    urls: Mapping[str, str]
    """Server to its base URL, without a slash at the end."""
    _clients: Mapping[bytes, str]
    _aliases: Mapping[str, _Alias]
    _owned: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, table: RoutingTable) -> Self:
        """Prepare a table.

        Raises:
            InvalidTableError: an alias would reach another client's adapter, two clients have
                one key, shares do not add up, or a key or URL is malformed.
        """
        clients: dict[bytes, str] = {}
        for name, key in table.keys.items():
            _check_key(name, key)
            if clients.setdefault(bytes.fromhex(key.sha256), key.client) != key.client:
                raise InvalidTableError(f"key `{name}` is the same as a key of another client")
        for server, url in table.servers.items():
            if _URL.fullmatch(url) is None:
                raise InvalidTableError(f"server `{server}` has no valid URL")
        urls = {server: url.rstrip("/") for server, url in table.servers.items()}
        aliases = {name: _prepare(name, entry, urls) for name, entry in table.aliases.items()}
        owned: dict[str, tuple[str, ...]] = {}
        for name in sorted(aliases):
            client = aliases[name].client
            owned[client] = (*owned.get(client, ()), name)
        return cls(
            table.revision,
            table.digest,
            table,
            MappingProxyType(urls),
            MappingProxyType(clients),
            MappingProxyType(aliases),
            MappingProxyType(owned),
        )

    def authenticate(self, secret: str) -> str | None:
        """Return the client whose API key this is, or None."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        return self._clients.get(digest)

    def aliases(self, client: str) -> tuple[str, ...]:
        """Return the aliases that a client owns, sorted."""
        return self._owned.get(client, ())

    def choose(self, client: str, model: str, sticky: bytes) -> Choice | None:
        """Return the version that answers, or None: no such alias, or not this client's.

        The same `sticky` gets the same version as long as its share does not shrink: the
        newest version owns the buckets from 0 up, so that a growing share keeps its users.
        """
        alias = self._aliases.get(model)
        if alias is None or alias.client != client:
            return None
        place = bucket(alias.key, sticky)
        branch = next(each for each in alias.branches if place < each.below)
        return Choice(client, model, branch.adapter, branch.servers, alias.policy)


def bucket(key: bytes, sticky: bytes) -> int:
    """Return the bucket of a sticky id, 0 up to 2**64; uniform, and unrelated between keys."""
    return int.from_bytes(hashlib.blake2b(sticky, digest_size=8, key=key).digest(), "big")


def alias_key(alias: str, salt: str) -> bytes:
    """Return the hash key of an alias's rollout: no two aliases share their first users."""
    return hashlib.blake2b(f"{alias}\0{salt}".encode()).digest()


def _prepare(name: str, entry: AliasEntry, urls: Mapping[str, str]) -> _Alias:
    if name.partition("-")[0] != entry.client:
        raise InvalidTableError(f"alias `{name}` does not belong to client `{entry.client}`")
    total, branches = 0, []
    for share in entry.shares:
        try:
            owner = AdapterName.parse(share.adapter).client
        except ValueError as error:
            raise InvalidTableError(f"alias `{name}`: {error}") from None
        if owner != entry.client:
            raise InvalidTableError(f"alias `{name}` names `{share.adapter}` of another client")
        if share.percent < 0:
            raise InvalidTableError(f"alias `{name}` has a share below 0 percent")
        total += share.percent
        reachable = tuple(sorted(each for each in share.servers if each in urls))
        branches.append(Branch(share.adapter, _BUCKETS * total // _ALL, reachable))
    if total != _ALL:
        raise InvalidTableError(f"the shares of alias `{name}` add up to {total}, not to 100")
    policy = entry.policy or USUAL
    if policy.format is not None and (problem := flaw(policy.format)):
        raise InvalidTableError(f"the format of alias `{name}`: {problem}")
    return _Alias(entry.client, alias_key(name, entry.salt), tuple(branches), policy)


def _check_key(name: str, key: KeyEntry) -> None:
    if name != f"{key.client}/{key.name}" or not is_id(key.client):
        raise InvalidTableError(f"key `{name}` is not named after its client and name")
    if _SHA256.fullmatch(key.sha256) is None:
        raise InvalidTableError(f"key `{name}` holds no SHA-256")
