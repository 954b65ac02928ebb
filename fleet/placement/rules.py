"""Rules: the only statement, in the search, of the rules that keep a version out of a place.

`broken_rules` has the rules of an open server; the other functions have those of a host, of a
server's name and of devices. Slots, memory and load are in `obstacles`. `verify` states the rules
again, on purpose.
"""

from collections.abc import Iterator, Mapping

from fleet.hardware import DeviceState, HostSpec
from fleet.placement.causes import Limit
from fleet.placement.items import Item
from fleet.placement.latency_slo import too_slow
from fleet.placement.servers import DeviceId, ServerDraft
from fleet.placement.state import PlacementState

CLOSED: Mapping[DeviceState, Limit] = {"cordoned": Limit.CORDONED, "draining": Limit.DRAINING}
"""By state of a device or an attached server: the rule that keeps new versions out."""


def takes(state: PlacementState, draft: ServerDraft, item: Item) -> bool:
    """Say whether rules let a version onto a server that is new to the version."""
    return not draft.closed and allows(state, draft, item)


def allows(state: PlacementState, draft: ServerDraft, item: Item) -> bool:
    """Say whether rules let a version onto a server, or let the version stay on a closed server."""
    return next(broken_rules(state, draft, item), None) is None


def broken_rules(state: PlacementState, draft: ServerDraft, item: Item) -> Iterator[Limit]:
    """Yield the rules that keep a version off an open server, besides `CLOSED`."""
    yield from server_rules(item, state.fleet.hosts[draft.host], draft.name)
    if draft.isolation_group not in (None, item.isolation_group):
        yield Limit.ISOLATION
    if (apart := state.anti_affinity.get(item.alias)) and not apart.isdisjoint(draft.aliases):
        yield Limit.APART
    if draft.name not in item.prior and too_slow(state.fleet, item, draft.base, draft.devices):
        yield Limit.LATENCY
    yield from replica_rules(item, state.device_ids(item), draft.host, draft.device_ids)


def server_rules(item: Item, host: HostSpec, name: str) -> Iterator[Limit]:
    """Yield the rules that keep a version off a server, whatever the server holds."""
    if item.pin not in (None, name, host.name):
        yield Limit.PIN
    if name in item.avoid:
        yield Limit.AVOID
    yield from _host_rules(host, item.avoid, item.groups)


def _host_rules(host: HostSpec, avoid: frozenset[str], groups: frozenset[str]) -> Iterator[Limit]:
    if host.name in avoid:
        yield Limit.AVOID
    if host.reserved_for and groups.isdisjoint(host.reserved_for):
        yield Limit.RESERVED


def is_open_to(
    host: HostSpec, pin: str | None, avoid: frozenset[str], groups: frozenset[str]
) -> bool:
    """Say whether rules let a version onto some server of a host."""
    pinned = pin not in (None, host.name) and f"-{host.name}-" not in pin
    return not pinned and not any(_host_rules(host, avoid, groups))


def replica_rules(
    item: Item, taken: set[DeviceId], host: str, device_ids: frozenset[DeviceId]
) -> Iterator[Limit]:
    """Yield the rules that keep a version off devices because of its other replicas."""
    if not taken.isdisjoint(device_ids):
        yield Limit.REPLICAS
    elif item.spread == "host" and any(device_id[0] == host for device_id in taken):
        yield Limit.HOSTS


def anti_affinity_of(items: Mapping[str, Item]) -> dict[str, frozenset[str]]:
    """Return the aliases that must not share a server with an alias, by alias, either way round."""
    clients: dict[str, set[str]] = {}
    for item in items.values():
        clients.setdefault(item.client, set()).add(item.alias)
    found: dict[str, set[str]] = {}
    for item in items.values():
        for other in item.apart:
            for alias in clients.get(other, {other}) - {item.alias}:
                found.setdefault(item.alias, set()).add(alias)
                found.setdefault(alias, set()).add(item.alias)
    return {alias: frozenset(others) for alias, others in found.items()}
