"""Checks that every name is declared, and that pins, `avoid` and `apart` leave a place."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fleet.codes import nearest
from fleet.config.problems import Problem
from fleet.config.schema.clients import Adapter
from fleet.config.schema.fleet import Declarations
from fleet.names import alias_name

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class DeclaredNames:
    """All declared names, those of malformed declarations included."""

    tiers: Sequence[str]
    bases: Sequence[str]
    rollouts: Sequence[str]
    gates: Sequence[str]
    holders: Sequence[str]
    """Hosts and attached servers: what an adapter may be pinned to."""
    clients: Sequence[str]
    aliases: Sequence[str]
    value: Mapping[str, Any]
    """The merged values as written, with what is malformed."""

    @classmethod
    def of(cls, value: Mapping[str, Any], given: Declarations) -> Self:
        """Collect the names from the merged values."""

        def keys(section: str, *builtin: str) -> Sequence[str]:
            found = value.get(section)
            return sorted({*builtin, *(map(str, found) if isinstance(found, dict) else ())})

        servers = (server for host in given.hosts.values() for server in host.servers)
        return cls(
            keys("tiers", "standard"),
            keys("bases"),
            keys("rollouts", "standard"),
            keys("gates"),
            sorted({*keys("hosts"), *servers}),
            keys("clients"),
            sorted(aliases_of(value.get("clients"))),
            value,
        )

    def writes(self, *path: str | int) -> bool:
        """Say whether there is a value at `path`, well-formed or not."""
        found: Any = self.value
        for step in path:
            if not isinstance(found, dict) or step not in found:
                return False
            found = found[step]
        return True


def aliases_of(clients: Any) -> Iterator[str]:
    """Yield the aliases of a merged section `clients`, well-formed or not."""
    for name, client in clients.items() if isinstance(clients, dict) else ():
        adapters = client.get("adapters") if isinstance(client, dict) else None
        for task in adapters if isinstance(adapters, dict) else ():
            yield alias_name(name, task)


def reference(
    code: str, kind: str, name: str | None, names: Sequence[str], path: Path
) -> Iterator[Problem]:
    """Yield a finding where `name` is given and not among `names`."""
    if name is None or name in names:
        return
    hint = nearest(name, tuple(names))
    if not hint:
        hint = f"Declared: {', '.join(names[:8])}." if names else f"Declare it under `{kind}s:`."
    yield Problem(code, path, f"No {kind} is called `{name}`.", hint=hint)


@dataclass(frozen=True, slots=True)
class _Preference:
    """An adapter with who it is."""

    client: str
    tier: str
    alias: str
    path: Path
    adapter: Adapter


def check_places(given: Declarations, names: DeclaredNames) -> Iterator[Problem]:
    """Yield wishes that name nothing, or that no placement can meet."""
    wishes = {
        alias_name(name, task): _Preference(
            name,
            client.tier or given.defaults.tier,
            alias_name(name, task),
            ("clients", name, "adapters", task),
            adapter,
        )
        for name, client in given.clients.items()
        for task, adapter in client.adapters.items()
    }
    homes = {server: host for host, its in given.hosts.items() for server in its.servers}
    known = frozenset({*names.aliases, *names.clients})
    pinned: dict[str, list[_Preference]] = {}
    for wish in wishes.values():
        if wish.adapter.pin in homes:
            pinned.setdefault(str(wish.adapter.pin), []).append(wish)
    for wish in wishes.values():
        if wish.adapter.avoid:
            yield from _avoid(wish, given, names, homes)
        if wish.adapter.apart:
            yield from _apart(wish, known, pinned.get(wish.adapter.pin or "", ()))
        if wish.adapter.pin:
            yield from _reserved(wish, wish.adapter.pin, given, homes)


def _avoid(
    wish: _Preference, given: Declarations, names: DeclaredNames, homes: Mapping[str, str]
) -> Iterator[Problem]:
    avoid, pin = wish.adapter.avoid, wish.adapter.pin
    for position, name in enumerate(avoid):
        yield from reference("FC1205", "host", name, names.holders, (*wish.path, "avoid", position))
    if pin and {pin, homes.get(pin, pin)} & {*avoid}:
        detail = f"`{wish.alias}` is pinned to `{pin}` and avoids it as well."
        also = (("pinned at", (*wish.path, "pin")),)
        hint = "Delete one of the two."
        yield Problem("FC1225", (*wish.path, "avoid"), detail, hint=hint, at="key", also=also)
    elif given.hosts and all(
        host in avoid or (its.servers and {*its.servers} <= {*avoid})
        for host, its in given.hosts.items()
    ):
        detail = f"`{wish.alias}` avoids every host."
        hint = "Leave it one at least."
        yield Problem("FC1225", (*wish.path, "avoid"), detail, hint=hint, at="key")


def _apart(
    wish: _Preference, known: frozenset[str], beside: Sequence[_Preference]
) -> Iterator[Problem]:
    """Check the `apart` of an adapter; `beside` are pinned to the same server."""
    for position, name in enumerate(wish.adapter.apart):
        path = (*wish.path, "apart", position)
        if name == wish.alias:
            detail = f"`{name}` cannot be kept apart from itself."
            hint = "Delete it; replicas never share a server anyway, see `spread`."
            yield Problem("FC1224", path, detail, hint=hint)
        elif name not in known:
            hint = nearest(name, tuple(sorted(known)))
            hint = hint or "Write an alias such as `acme-support`, or a client."
            detail = f"No adapter and no client is called `{name}`."
            yield Problem("FC1223", path, detail, hint=hint)
        for other in beside:
            if name in {other.alias, other.client} and other.alias != wish.alias:
                detail = (
                    f"`{wish.alias}` is kept apart from `{other.alias}`, and both are pinned "
                    f"to server `{wish.adapter.pin}`."
                )
                also = (("the other pin at", (*other.path, "pin")),)
                hint = "Pin one of them elsewhere."
                yield Problem("FC1225", path, detail, hint=hint, also=also)
                break


def _reserved(
    wish: _Preference, pin: str, given: Declarations, homes: Mapping[str, str]
) -> Iterator[Problem]:
    name = homes.get(pin, pin)
    host = given.hosts.get(name)
    if host and host.reserved_for and not {wish.client, wish.tier} & {*host.reserved_for}:
        detail = (
            f"`{wish.alias}` is pinned to `{pin}`, which is reserved for "
            f"{' and '.join(f'`{client}`' for client in host.reserved_for)}."
        )
        also = (("reserved at", ("hosts", name, "reserved_for")),)
        hint = f"Add `{wish.client}` to `reserved_for`, or pin it elsewhere."
        yield Problem("FC1225", (*wish.path, "pin"), detail, hint=hint, also=also)
