"""Where adapters may be: pins, what they avoid, and whom they are kept apart from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleet.crosscheck.references import Names, Path, reference
from fleet.declarations import Adapter, Declarations
from fleet.problems import Finding, nearest


@dataclass(frozen=True, slots=True)
class _Wish:
    """An adapter with who it is."""

    client: str
    tier: str
    alias: str
    path: Path
    adapter: Adapter


def check_places(given: Declarations, names: Names) -> Iterator[Finding]:
    """Yield wishes that name nothing, or that no placement can meet."""
    wishes = {
        f"{name}-{task}": _Wish(
            name,
            client.tier or given.defaults.tier,
            f"{name}-{task}",
            ("clients", name, "adapters", task),
            adapter,
        )
        for name, client in given.clients.items()
        for task, adapter in client.adapters.items()
    }
    homes = {server: host for host, its in given.hosts.items() for server in its.servers}
    known = frozenset({*names.aliases, *names.clients})
    pinned: dict[str, list[_Wish]] = {}
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
    wish: _Wish, given: Declarations, names: Names, homes: Mapping[str, str]
) -> Iterator[Finding]:
    avoid, pin = wish.adapter.avoid, wish.adapter.pin
    for position, name in enumerate(avoid):
        yield from reference("FC1205", "host", name, names.holders, (*wish.path, "avoid", position))
    if pin and {pin, homes.get(pin, pin)} & {*avoid}:
        detail = f"`{wish.alias}` is pinned to `{pin}` and avoids it as well."
        also = (("pinned at", (*wish.path, "pin")),)
        hint = "Delete one of the two."
        yield Finding("FC1225", (*wish.path, "avoid"), detail, hint=hint, at="key", also=also)
    elif given.hosts and all(
        host in avoid or (its.servers and {*its.servers} <= {*avoid})
        for host, its in given.hosts.items()
    ):
        detail = f"`{wish.alias}` avoids every host."
        hint = "Leave it one at least."
        yield Finding("FC1225", (*wish.path, "avoid"), detail, hint=hint, at="key")


def _apart(wish: _Wish, known: frozenset[str], beside: Sequence[_Wish]) -> Iterator[Finding]:
    """Check whom an adapter is kept apart from; `beside` are pinned to the same server."""
    for position, name in enumerate(wish.adapter.apart):
        path = (*wish.path, "apart", position)
        if name == wish.alias:
            detail = f"`{name}` cannot be kept apart from itself."
            hint = "Delete it; replicas never share a server anyway, see `spread`."
            yield Finding("FC1224", path, detail, hint=hint)
        elif name not in known:
            hint = nearest(name, tuple(sorted(known)))
            hint = hint or "Write an alias such as `acme-support`, or a client."
            detail = f"No adapter and no client is called `{name}`."
            yield Finding("FC1223", path, detail, hint=hint)
        for other in beside:
            if name in {other.alias, other.client} and other.alias != wish.alias:
                detail = (
                    f"`{wish.alias}` is kept apart from `{other.alias}`, and both are pinned "
                    f"to server `{wish.adapter.pin}`."
                )
                also = (("the other pin at", (*other.path, "pin")),)
                hint = "Pin one of them elsewhere."
                yield Finding("FC1225", path, detail, hint=hint, also=also)
                break


def _reserved(
    wish: _Wish, pin: str, given: Declarations, homes: Mapping[str, str]
) -> Iterator[Finding]:
    name = homes.get(pin, pin)
    host = given.hosts.get(name)
    if host and host.reserved_for and not {wish.client, wish.tier} & {*host.reserved_for}:
        detail = (
            f"`{wish.alias}` is pinned to `{pin}`, which is reserved for "
            f"{' and '.join(f'`{each}`' for each in host.reserved_for)}."
        )
        also = (("reserved at", ("hosts", name, "reserved_for")),)
        hint = f"Add `{wish.client}` to `reserved_for`, or pin it elsewhere."
        yield Finding("FC1225", (*wish.path, "pin"), detail, hint=hint, also=also)
