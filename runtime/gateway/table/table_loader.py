"""A routing table document, checked and made into a `RouteTable`.

A gateway reads the document while answering requests: in another thread, in small pieces. A long
call of a library in a thread stops all other threads. So each alias is parsed by a call of its own,
made ready and dropped, and in between the thread rests: the interpreter by itself hands over only
every 5 ms.
"""

import gc
import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec
from pydantic import BaseModel

from fleet.errors import require_known
from fleet.names import AdapterName, client_of, is_id, is_name
from fleet.response_format import flaw
from fleet.traffic import LATENCY_BOUNDS_S, UNLIMITED, USUAL_TURNS, TrafficPolicy
from runtime.gateway.table import routing
from runtime.gateway.table.table import FORMAT, AliasEntry, KeyEntry, RoutingTable, pieces
from runtime.server_tls import NO_KEYS, ServerKeys

_WORK_S: Final = 0.0005
"""Time for which the thread works before a rest."""
_REST_S: Final = 0.0003
_ALL: Final = 100
"""Percent."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LAUNCH: Final = re.compile(r"[0-9a-f]{12}")
_URL: Final = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_SENT: Final = "routing table"
"""Name, in messages, of a table that came without a file."""
Entry = TypeVar("Entry", bound=BaseModel)


class InvalidTableError(ValueError):
    """A table that must not be served; the text says why."""


class _RawTable(msgspec.Struct, forbid_unknown_fields=True):
    """A routing table whose aliases and keys are not parsed yet."""

    revision: int
    format: int = 1
    token: int = 0
    servers: dict[str, str] = {}
    launches: dict[str, str] = {}
    aliases: dict[str, msgspec.Raw] = {}
    keys: dict[str, msgspec.Raw] = {}


_RAW_TABLE: Final = msgspec.json.Decoder(_RawTable)


class _TableFormat(msgspec.Struct):
    """The format of a routing table, without the rest of the table."""

    format: int | None = None


_TABLE_FORMAT: Final = msgspec.json.Decoder(_TableFormat)


def require_format(raw: bytes, file: str) -> None:
    """Refuse (FC5007) a document of a later format of tables; `file` is for the message."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        require_known(_TABLE_FORMAT.decode(raw).format, FORMAT, file)


def parse_routes(raw: bytes, keys: ServerKeys = NO_KEYS) -> routing.RouteTable:
    """Read the routing table in a JSON document, in small pieces; `keys` are those of servers.

    Raises:
        ValidationError: the document is no routing table; the text names the faults.
        InvalidTableError: the table must not be served.
        NewerFormatError: FC5007, the table is of a later format.
    """
    gc.disable()  # what is built here stays, and looking for garbage in it stops all threads
    try:
        routes = _parse(raw, keys)
        gc.freeze()
        return routes
    finally:
        gc.enable()


def build_routes(table: RoutingTable, keys: ServerKeys = NO_KEYS) -> routing.RouteTable:
    """Check a table and make the table ready for requests; `keys` are those of servers.

    Raises:
        InvalidTableError: an alias would reach another client's adapter, two clients have one key,
            shares do not add up, or a key or URL is malformed.
    """
    return _build(table, sorted(table.aliases.items()), sorted(table.keys.items()), keys)


def _parse(raw: bytes, server_keys: ServerKeys) -> routing.RouteTable:
    try:
        table = _RAW_TABLE.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        require_format(raw, _SENT)
        table_of = RoutingTable.model_validate_json(raw)  # which says what is wrong
        return build_routes(table_of, server_keys)
    require_known(table.format, FORMAT, _SENT)
    entries, keys = _entries(AliasEntry, table.aliases), _entries(KeyEntry, table.keys)
    return _build(table, entries, keys, server_keys)


def _entries(model: type[Entry], raws: Mapping[str, msgspec.Raw]) -> Iterator[tuple[str, Entry]]:
    """Yield parsed entries, sorted by name; rest after every `_WORK_S`."""
    began = time.perf_counter()
    for name in sorted(raws):
        yield name, model.model_validate_json(bytes(raws[name]))
        if time.perf_counter() - began > _WORK_S:
            time.sleep(_REST_S)
            began = time.perf_counter()


def _build(
    table: RoutingTable | _RawTable,
    entries: Iterable[tuple[str, AliasEntry]],
    keys: Iterable[tuple[str, KeyEntry]],
    server_keys: ServerKeys,
) -> routing.RouteTable:
    """Build a table from entries that come singly, sorted by name; none is kept."""
    urls = _urls(table.servers, table.launches, server_keys)
    routes: dict[str, routing.AliasRoute] = {}
    owned: dict[str, tuple[str, ...]] = {}
    principals: dict[bytes, routing.Principal] = {}
    reloading: set[tuple[str, str]] = set()
    bounds = {*LATENCY_BOUNDS_S}
    weights: dict[str, int] = {}

    def alias_members() -> Iterator[tuple[str, AliasEntry]]:
        for name, entry in entries:
            route = routes[name] = _alias_route(name, entry, urls)
            turns = entry.policy.turns if entry.policy else None
            weights[route.client] = max(weights.get(route.client, 0), turns or USUAL_TURNS)
            owned[route.client] = (*owned.get(route.client, ()), name)
            away = (share for share in entry.shares if share.percent and not share.servers)
            reloading.update((name, share.adapter) for share in away)
            if entry.policy and entry.policy.promise_s:
                bounds.add(entry.policy.promise_s)
            yield name, entry

    def key_members() -> Iterator[tuple[str, KeyEntry]]:
        for name, key in keys:
            if name != f"{key.client}/{key.name}" or not is_id(key.client):
                raise InvalidTableError(f"key `{name}` is not named after its client and name")
            if _SHA256.fullmatch(key.sha256) is None:
                raise InvalidTableError(f"key `{name}` holds no SHA-256")
            secret = bytes.fromhex(key.sha256)
            principal = principals.setdefault(secret, routing.Principal(key.client, secret))
            if principal.client != key.client:
                raise InvalidTableError(f"key `{name}` is the same as a key of another client")
            yield name, key

    members = (alias_members(), key_members())
    whole = pieces(table.revision, table.token, table.servers, *members, table.launches)
    text = "".join(whole).encode()
    further = _further_names(routes)
    for client, name in further:
        owned[client] = tuple(dict.fromkeys((*owned[client], name)))
    return routing.RouteTable(
        table.revision,
        hashlib.sha256(text).hexdigest(),
        text,
        MappingProxyType(urls),
        MappingProxyType(principals),
        MappingProxyType(routes),
        MappingProxyType(further),
        MappingProxyType(owned),
        frozenset(reloading),
        tuple(sorted(bounds)),
        MappingProxyType(weights),
    )


def _further_names(
    routes: Mapping[str, routing.AliasRoute],
) -> dict[tuple[str, str], routing.AliasRoute]:
    """Return the routes by client and further name; of two routes, the first by alias."""
    found: dict[tuple[str, str], routing.AliasRoute] = {}
    for route in routes.values():
        if name := route.arms[0].target.policy.alias_for:
            found.setdefault((route.client, name), route)
    return found


def _urls(
    servers: Mapping[str, str], launches: Mapping[str, str], keys: ServerKeys
) -> dict[str, str]:
    """Return the URL of every server; its fragment is the launch that must answer, and its key."""
    for server, launch in launches.items():
        if server not in servers or _LAUNCH.fullmatch(launch) is None:
            raise InvalidTableError(f"server `{server}` has a malformed launch, or no URL beside")
    urls = {}
    for server, url in servers.items():
        if not is_name(server) or _URL.fullmatch(url) is None:
            raise InvalidTableError(f"server `{server}` has no valid name or URL")
        launch = launches.get(server, "")
        key = keys.key(server, launch, url)
        marks = f"#{launch}:{key}" if key else f"#{launch}" if launch else ""
        urls[server] = url.rstrip("/") + marks
    return urls


def _alias_route(name: str, entry: AliasEntry, urls: Mapping[str, str]) -> routing.AliasRoute:
    if not is_name(name) or client_of(name) != entry.client:
        raise InvalidTableError(f"alias `{name}` does not belong to client `{entry.client}`")
    policy = entry.policy or routing.DEFAULT_POLICY
    if policy.format is not None and (problem := flaw(policy.format)):
        raise InvalidTableError(f"the format of alias `{name}`: {problem}")
    target = partial(_target, name, entry.client, policy, urls)
    total, arms = 0, []
    for share in entry.shares:
        if share.percent < 0:
            raise InvalidTableError(f"alias `{name}` has a share below 0 percent")
        total += share.percent
        below = routing.BUCKETS * total // _ALL
        arm = target(share.adapter, share.servers, share.digest)
        arms.append(routing.SplitArm(below, share.percent, arm))
    if total != _ALL:
        raise InvalidTableError(f"the shares of alias `{name}` add up to {total}, not to 100")
    shadow = target(policy.shadow.adapter, policy.shadow.servers) if policy.shadow else None
    key, people = routing.alias_key(name, entry.salt), routing.alias_key(name)
    return routing.AliasRoute(entry.client, policy.sticky, key, tuple(arms), shadow, people)


def _target(
    alias: str,
    client: str,
    policy: TrafficPolicy,
    urls: Mapping[str, str],
    adapter: str,
    servers: Sequence[str],
    digest: str | None = None,
) -> routing.RouteTarget:
    try:
        owner = AdapterName.parse(adapter).client
    except ValueError as error:
        raise InvalidTableError(f"alias `{alias}`: {error}") from None
    if owner != client:
        raise InvalidTableError(f"alias `{alias}` names `{adapter}` of another client")
    return routing.RouteTarget(
        client=client,
        alias=alias,
        adapter=adapter,
        servers=tuple(sorted(server for server in servers if server in urls)),
        policy=policy,
        deadlines=policy.deadlines(stream=True),
        answer_deadlines=policy.deadlines(stream=False),
        is_limited=(policy.limits, policy.client_limits) != (UNLIMITED, UNLIMITED),
        priority=-(policy.turns or 0) if policy.prioritized else None,
        json_names=(_json(adapter), _json(client)),
        digest=digest,
    )


def _json(name: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(name))
