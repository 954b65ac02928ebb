"""Losses: tries whether the rest of a fleet takes over the versions of a lost device or host.

The versions go to free slots of running servers, as healing puts them, canary slots included; what
is left starts servers on free devices. No other version moves, and no running server restarts.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fleet.names import alias_of
from fleet.placement.accounting import Accounting, residents_of
from fleet.placement.accounts import AdapterAccount
from fleet.placement.buy import buy
from fleet.placement.causes import PlacementCause
from fleet.placement.fill import substitute
from fleet.placement.items import Item
from fleet.placement.keep import keep
from fleet.placement.latency_slo import answer_of
from fleet.placement.live_servers import placement_state_of
from fleet.placement.result import server_of
from fleet.placement.servers import FULL, DeviceId, ServerDraft
from fleet.placement.state import PlacementState, SearchLimits, by_name, hardest_first
from fleet.placement.unplaced import causes_of
from fleet.resources import State
from fleet.rollouts import RolloutTargets, grouped, loaded_on
from fleet.spec import FleetSpec

TRIES = 4
"""Upper bound of the orders in which the versions of a lost place are put elsewhere."""

SAMPLES = 2
"""Upper bound of the versions of a base for which causes are looked for."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A device or host that may be lost, and the other places of its versions."""

    place: str
    """`host/device`, the host, or an attached server."""
    servers: tuple[str, ...]
    """Lost servers, sorted."""
    versions: int
    """Copies of versions on those servers."""
    starts: tuple[str, ...] = ()
    """Servers that start on free devices, sorted."""
    added_per_hour: float = 0.0
    """Price of those devices."""
    unserved: tuple[str, ...] = ()
    """Versions that no server holds or carries then, sorted."""
    fewer: tuple[str, ...] = ()
    """Versions that are served by fewer replicas than before, sorted."""
    late: tuple[str, ...] = ()
    """Versions whose answers come later than their tier promises, and did not before; sorted."""
    causes: tuple[PlacementCause, ...] = ()
    """Why versions find no other place; of a base, the causes of a few versions."""

    @property
    def kept(self) -> bool:
        """Say whether every promise is kept."""
        return not (self.unserved or self.fewer or self.late)


def steady_state(fleet: FleetSpec, targets: RolloutTargets, desired: State) -> PlacementState:
    """Return the state after an apply: every version on the servers that the apply put it on."""
    routed = grouped(
        (share.adapter, server)
        for route in desired.routes().values()
        for share in route.shares
        for server in share.servers
    )
    after = replace(targets, loaded=loaded_on(desired), routed=routed, freeable=frozenset())
    state = placement_state_of(fleet, after, desired)
    keep(state)
    for name, item in state.items.items():
        state.items[name] = replace(item, replicas=len(state.bound[name]))
    return state


def losses_of(
    state: PlacementState, desired: State, *, hosts: bool, among: Collection[str] | None = None
) -> Iterator[Loss]:
    """Yield the losses of every device, or of every host, by name.

    Places without versions, servers that do not answer, and places not in `among` are left out.
    """
    accounts = _Accounts(state, desired)
    places: dict[str, set[DeviceId]] = {}
    for draft in state.drafts.values():
        if draft.residents:
            for host, device in draft.device_ids:
                places.setdefault(host if hosts else f"{host}/{device}", set()).add((host, device))
    for place, lost in sorted(places.items()):
        if among is not None and place not in among:
            continue
        if hosts:
            lost |= {(place, device.name) for device in state.fleet.hosts[place].devices}
        yield _lost(state, place, frozenset(lost), accounts)


def _lost(
    state: PlacementState, place: str, lost: frozenset[DeviceId], accounts: "_Accounts"
) -> Loss:
    """Take a place away, put its versions elsewhere, and put them back."""
    fleet = state.fleet
    gone = [draft for draft in by_name(state.drafts.values()) if lost & draft.device_ids]
    held = {draft.name: [*draft.residents.values()] for draft in gone}
    copies = sorted((item for items in held.values() for item in items), key=hardest_first)
    for draft in gone:
        for item in held[draft.name]:
            state.release(item, draft)
        state.close(draft)
    state.fleet = state.hardware.fleet = _without(fleet, lost)
    stay = state.drafts.keys() | set()
    before = {item.adapter: tuple(state.bound[item.adapter]) for item in copies}
    lacking = _placed_elsewhere(state, copies, before, stay)
    found = _found(state, place, held, lacking, stay, accounts)
    _undo(state, before, stay)
    state.fleet = state.hardware.fleet = fleet
    for draft in gone:
        state.drafts[draft.name] = draft
        if draft.devices:
            state.hardware.put(draft)
        for item in held[draft.name]:
            state.bind(item, draft, "")
    return found


def _without(fleet: FleetSpec, lost: frozenset[DeviceId]) -> FleetSpec:
    """Return a fleet without the devices and attached servers that are lost."""
    hosts = dict(fleet.hosts)
    for name in {host for host, _ in lost}:
        host = hosts[name]
        devices = tuple(own for own in host.devices if (name, own.name) not in lost)
        servers = tuple(own for own in host.attached if (name, own.name) not in lost)
        hosts[name] = replace(host, devices=devices, attached=servers)
    return replace(fleet, hosts=hosts)


def _placed_elsewhere(
    state: PlacementState,
    copies: Sequence[Item],
    before: Mapping[str, tuple[str, ...]],
    stay: set[str],
) -> list[Item]:
    """Put copies on other servers, in several orders; return the versions that lack a replica."""
    front: tuple[str, ...] = ()
    for _ in range(TRIES):
        rank = {name: place for place, name in enumerate(front)}
        _undo(state, before, stay)
        substitute(state, sorted(copies, key=lambda item: rank.get(item.adapter, len(rank))))
        lacking = [item for item in state.missing() if item.adapter in before]
        if lacking:
            buy(state, SearchLimits())
            lacking = [item for item in state.missing() if item.adapter in before]
        names = tuple(item.adapter for item in lacking)
        if not names or names[0] in front[:1]:
            break
        front = (*names, *(name for name in front if name not in names))
    return lacking


def _undo(state: PlacementState, before: Mapping[str, tuple[str, ...]], stay: set[str]) -> None:
    """Take versions off the servers that they were put on since, and close new servers."""
    for name, servers in before.items():
        for server in [*state.bound[name]]:
            if server not in servers:
                state.release(state.items[name], state.drafts[server])
    for name in sorted(state.drafts.keys() - stay):
        state.opened.pop(name, None)
        state.close(state.drafts[name])


def _found(
    state: PlacementState,
    place: str,
    held: Mapping[str, list[Item]],
    lacking: Sequence[Item],
    stay: set[str],
    accounts: "_Accounts",
) -> Loss:
    starts = [state.drafts[name] for name in sorted(state.drafts.keys() - stay)]
    bought = {
        (draft.host, device.name): device.price_per_hour
        for draft in starts
        for device in draft.devices
    }
    unserved = set(_uncarried(state, lacking))
    items = {item.adapter: item for items in held.values() for item in items}
    return Loss(
        place=place,
        servers=tuple(sorted(held)),
        versions=sum(map(len, held.values())),
        starts=tuple(draft.name for draft in starts),
        added_per_hour=round(sum(bought.values()), 6),
        unserved=tuple(sorted(unserved)),
        fewer=tuple(sorted({item.adapter for item in lacking} - unserved)),
        late=tuple(sorted(accounts.late(state, items))),
        causes=causes_of(state, [*_samples(lacking)]),
    )


def _samples(lacking: Sequence[Item]) -> Iterator[Item]:
    """Yield some versions of every base: thousands of versions lack a place for the same causes."""
    seen: Counter[str] = Counter()
    for item in lacking:
        seen[item.base] += 1
        if seen[item.base] <= SAMPLES:
            yield item


def _uncarried(state: PlacementState, lacking: Sequence[Item]) -> Iterator[str]:
    """Yield the versions without a server, and those whose other replicas cannot carry the load."""
    more: Counter[str] = Counter()
    for item in lacking:
        for name in state.bound[item.adapter]:
            more[name] += 1
    over = {name for name in more if _is_over(state, state.drafts[name], lacking)}
    for item in lacking:
        if not state.bound[item.adapter] or not over.isdisjoint(state.bound[item.adapter]):
            yield item.adapter


def _is_over(state: PlacementState, draft: ServerDraft, lacking: Sequence[Item]) -> bool:
    """Say whether a server cannot carry its versions' requests without their lost replicas."""
    tokens = draft.tokens
    for item in lacking:
        if item.adapter in draft.residents:
            left = len(state.bound[item.adapter])
            draft.tokens = draft.tokens + item.load.tokens * (item.replicas - left) // left
    over = int(state.hardware.used(draft).max()) > FULL
    draft.tokens = tokens
    return over


class _Accounts:
    """Accounts of servers, to tell which answers become late."""

    def __init__(self, state: PlacementState, desired: State) -> None:
        self.accounting = Accounting(state.fleet)
        self.servers = desired.servers()
        bindings = {name: tuple(servers) for name, servers in state.bound.items()}
        self.residents = residents_of(state.fleet, bindings)
        self.of_version = {
            own.adapter: own for residents in self.residents.values() for own in residents
        }
        self.late_before: dict[str, set[str]] = {}

    def late(self, state: PlacementState, items: Mapping[str, Item]) -> set[str]:
        """Return the versions that promise a time and are late now, and were not before."""
        taken = {name for adapter in items for name in state.bound[adapter]}
        found: set[str] = set()
        for name in sorted(taken):
            draft = state.drafts[name]
            residents = tuple(
                replace(self.of_version[adapter], server=name) for adapter in draft.residents
            )
            if name not in self.late_before:
                self.late_before[name] = self._late_on(state, draft, self.residents.get(name, ()))
            found |= self._late_on(state, draft, residents) - self.late_before[name]
        return found

    def _late_on(
        self, state: PlacementState, draft: ServerDraft, residents: Iterable[AdapterAccount]
    ) -> set[str]:
        server = self.servers.get(draft.name) or server_of(draft, state.fleet.hosts[draft.host])
        crowd = 1 + len(state.hardware.others(draft))
        account = self.accounting.server(server, tuple(residents), crowd)
        answers = (
            answer_of(own, state.fleet.adapters.get(alias_of(own.adapter)), account)
            for own in account.residents
        )
        return {own.adapter for own in answers if own and own.promised and own.late}
