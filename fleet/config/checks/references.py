"""Checks that names are declared, extensions too, and that pins, `avoid` and `apart` fit."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fleet.codes import nearest
from fleet.config.checks import ProjectFacts
from fleet.config.files.merge import Path, Tree, value_at
from fleet.config.files.validate import Problem
from fleet.config.schema.clients import Adapter
from fleet.config.schema.extensions import SHIPPED
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.traffic import Receivers
from fleet.names import alias_name
from fleet.spec import ExtensionGroup


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
    """The merged values as written, malformed values included."""

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

    def written(self, *path: str | int) -> Any:
        """Return the value at `path` as written, well-formed or not; None: there is no value."""
        return value_at(self.value, path)


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
        if kind == "gate" and not names:
            hint = f"Declare it: `gates: {{{name}: {{metric: accuracy_drop, max: 3pp}}}}`."
    yield Problem(code, path, f"No {kind} is called `{name}`.", hint=hint)


def check_state(given: Declarations, tree: Tree) -> Iterator[Problem]:
    """Refuse two homes, and a home that a rollback would not find: it reads no other files."""
    state = given.state
    place = tree.place(("state",), of_key=True)
    if place and place.file != "fleet.yaml" and not place.file.startswith("env/"):
        detail = f"`{place.file}` declares it; a rollback reads `fleet.yaml` and overlays alone."
        hint = "Move `state` to `fleet.yaml`."
        yield Problem("FC1235", ("state",), detail, hint=hint, at="key")
    if state.postgresql and state.file:
        detail = "It names a database and a folder, and the ledger has one home."
        yield Problem("FC1235", ("state",), detail, hint="Remove one of the two.", at="key")
    for name, gateway in given.gateways.items() if state.postgresql or state.file else ():
        if "://" not in (gateway.admin or ""):
            detail = f"An apply in another checkout does not reach `{name}`: it keeps its routes."
            hint = "Give it an `admin` with a URL, and a `secret`, that all checkouts reach."
            at = ("gateways", name)
            yield Problem("FC1236", at, detail, hint=hint, at="key", severity="warning")


def check_zone(zone: str, facts: ProjectFacts, path: Path) -> Iterator[Problem]:
    """Yield a problem where a time zone is not in the database."""
    if facts.zones and zone not in facts.zones:
        hint = nearest(zone, tuple(sorted(facts.zones))) or "Write such as `Europe/Paris`."
        detail = f"`{zone}` is not in the time zone database."
        yield Problem("FC1206", path, detail, hint=hint)


@dataclass(frozen=True, slots=True)
class DeclaredAdapter:
    """An adapter as declared, with its client, its tier and its place in the files."""

    client: str
    tier: str
    alias: str
    path: Path
    declared: Adapter


def adapters_of(given: Declarations) -> Iterator[DeclaredAdapter]:
    """Yield the declared adapters."""
    for name, client in given.clients.items():
        tier = client.tier or given.defaults.tier
        for task, adapter in client.adapters.items():
            path = ("clients", name, "adapters", task)
            yield DeclaredAdapter(name, tier, alias_name(name, task), path, adapter)


def check_places(given: Declarations, names: DeclaredNames) -> Iterator[Problem]:
    """Yield preferences that name nothing, or that no placement can meet."""
    homes = {server: host for host, its in given.hosts.items() for server in its.servers}
    known = frozenset({*names.aliases, *names.clients})
    pinned: dict[str, list[DeclaredAdapter]] = {}
    for adapter in adapters_of(given):
        if adapter.declared.pin in homes:
            pinned.setdefault(str(adapter.declared.pin), []).append(adapter)
    for adapter in adapters_of(given):
        yield from _avoid(adapter, given, names, homes)
        yield from _apart(adapter, known, pinned.get(adapter.declared.pin or "", ()))
        yield from _reserved(adapter, given, homes)


def _avoid(
    adapter: DeclaredAdapter, given: Declarations, names: DeclaredNames, homes: Mapping[str, str]
) -> Iterator[Problem]:
    avoid, pin = adapter.declared.avoid, adapter.declared.pin
    path = (*adapter.path, "avoid")
    for position, name in enumerate(avoid):
        yield from reference("FC1205", "host", name, names.holders, (*path, position))
    if pin and {pin, homes.get(pin, pin)} & {*avoid}:
        detail = f"`{adapter.alias}` is pinned to `{pin}` and avoids it as well."
        also = (("pinned at", (*adapter.path, "pin")),)
        hint = "Delete one of the two."
        yield Problem("FC1225", path, detail, hint=hint, at="key", also=also)
    elif (
        avoid
        and given.hosts
        and all(
            host in avoid or (its.servers and {*its.servers} <= {*avoid})
            for host, its in given.hosts.items()
        )
    ):
        detail = f"`{adapter.alias}` avoids every host."
        yield Problem("FC1225", path, detail, hint="Leave it one at least.", at="key")


def _apart(
    adapter: DeclaredAdapter, known: frozenset[str], beside: Sequence[DeclaredAdapter]
) -> Iterator[Problem]:
    """Check the `apart` of an adapter; `beside` are pinned to the same server."""
    for position, name in enumerate(adapter.declared.apart):
        path = (*adapter.path, "apart", position)
        if name == adapter.alias:
            detail = f"`{name}` cannot be kept apart from itself."
            hint = "Delete it; replicas never share a server anyway, see `spread`."
            yield Problem("FC1224", path, detail, hint=hint)
        elif name not in known:
            hint = nearest(name, tuple(sorted(known)))
            hint = hint or "Write an alias such as `acme-support`, or a client."
            detail = f"No adapter and no client is called `{name}`."
            yield Problem("FC1223", path, detail, hint=hint)
        for other in beside:
            if name in {other.alias, other.client} and other.alias != adapter.alias:
                detail = (
                    f"`{adapter.alias}` is kept apart from `{other.alias}`, and both are pinned "
                    f"to server `{adapter.declared.pin}`."
                )
                also = (("the other pin at", (*other.path, "pin")),)
                hint = "Pin one of them elsewhere."
                yield Problem("FC1225", path, detail, hint=hint, also=also)
                break


def _reserved(
    adapter: DeclaredAdapter, given: Declarations, homes: Mapping[str, str]
) -> Iterator[Problem]:
    pin = adapter.declared.pin or ""
    name = homes.get(pin, pin)
    host = given.hosts.get(name)
    if host and host.reserved_for and not {adapter.client, adapter.tier} & {*host.reserved_for}:
        detail = (
            f"`{adapter.alias}` is pinned to `{pin}`, which is reserved for "
            f"{' and '.join(f'`{client}`' for client in host.reserved_for)}."
        )
        also = (("reserved at", ("hosts", name, "reserved_for")),)
        hint = f"Add `{adapter.client}` to `reserved_for`, or pin it elsewhere."
        yield Problem("FC1225", (*adapter.path, "pin"), detail, hint=hint, also=also)


def check_extensions(given: Declarations) -> Iterator[Problem]:
    """Yield names that nothing declares, and names that two packages have."""
    known = {group: dict[str, Path]() for group in SHIPPED}
    for package, extension in given.extensions.items():
        for group, position, name in extension.names():
            at: Path = ("extensions", package, group, position)
            first = known[group].setdefault(name, at)
            if name in SHIPPED[group]:
                yield Problem("FC1341", at, f"`{name}` is a shipped name.", hint=_ONE)
            elif first != at:
                detail = f"`{first[1]}` and `{package}` both have `{name}`."
                yield Problem("FC1341", at, detail, hint=_ONE, also=(("first given at", first),))
    for group, path, name in _used(given):
        names = (*SHIPPED[group], *known[group])
        if name not in names:
            hint = nearest(name, names) or f"Write one of: {', '.join(names)}."
            detail = f"`{'.'.join(map(str, path))}` cannot be `{name}`."
            yield Problem("FC1112", path, detail, hint=hint)


_ONE = "Leave the name out of one package, so that it means one thing."


def _used(given: Declarations) -> Iterator[tuple[ExtensionGroup, Path, str]]:
    for name, host in given.hosts.items():
        yield "engines", ("hosts", name, "engine"), host.engine
    yield "eval_engines", ("evals", "engine"), given.evals.engine
    receivers: list[tuple[Path, Receivers | None]] = [(("notify",), given.notify)]
    receivers += [(("clients", name, "notify"), its.notify) for name, its in given.clients.items()]
    for at, to in receivers:
        for sink in to.sinks if to else ():
            yield "notice_sinks", (*at, "sinks", sink), sink


def declared_extensions(given: Declarations) -> dict[ExtensionGroup, dict[str, str]]:
    """Return the package of every declared name, by group."""
    found = defaultdict[ExtensionGroup, dict[str, str]](dict)
    for package, extension in sorted(given.extensions.items()):
        for group, _, name in extension.names():
            found[group].setdefault(name, package)
    return dict(found)
