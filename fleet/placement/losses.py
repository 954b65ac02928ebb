"""Losses: whether the rest of a fleet takes over the versions of a lost device or host.

The versions go to free slots of running servers, as healing puts them, canary slots included; what
is left starts servers on free devices. No other version moves, and no running server restarts.

`loss_outlook` tells in a plan whether any single device can be lost, as far as that is cheap:

1. Yes, if every server has a free device alike, on which the same server would start.
2. A fleet of few copies is searched.
3. No, if no device is free and the other servers of a base have too few slots or too little
   throughput in sum for the versions of a server.
4. Else not known: `diagnose --loss` searches.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fleet.capacity import HOURS
from fleet.names import alias_of
from fleet.placement.model.accounts import (
    Accounting,
    AdapterAccount,
    ServerAccount,
    residents_of,
    summed,
)
from fleet.placement.model.causes import PlacementCause
from fleet.placement.model.items import Item
from fleet.placement.model.latency_slo import answer_of
from fleet.placement.model.servers import FULL, DeviceId, ServerDraft
from fleet.placement.model.state import PlacementState, SearchLimits, by_name, hardest_first
from fleet.placement.phases.buy import buy
from fleet.placement.phases.fill import substitute
from fleet.placement.phases.keep import keep, placement_state_of
from fleet.placement.result import server_of
from fleet.placement.unplaced import causes_of
from fleet.plan import LossOutlook
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
    drafts = [draft for draft in by_name(state.drafts.values()) if lost & draft.device_ids]
    residents = {draft.name: [*draft.residents.values()] for draft in drafts}
    copies = sorted((item for items in residents.values() for item in items), key=hardest_first)
    for draft in drafts:
        for item in residents[draft.name]:
            state.release(item, draft)
        state.close(draft)
    state.fleet = state.hardware.fleet = _without(fleet, lost)
    stay = state.drafts.keys() | set()
    before = {item.adapter: tuple(state.bound[item.adapter]) for item in copies}
    lacking = _placed_elsewhere(state, copies, before, stay)
    loss = _loss_of(state, place, residents, lacking, stay, accounts)
    _undo(state, before, stay)
    state.fleet = state.hardware.fleet = fleet
    for draft in drafts:
        state.drafts[draft.name] = draft
        if draft.devices:
            state.hardware.put(draft)
        for item in residents[draft.name]:
            state.bind(item, draft, "")
    return loss


def _without(fleet: FleetSpec, lost: frozenset[DeviceId]) -> FleetSpec:
    """Return a fleet without the devices and attached servers that are lost."""
    hosts = dict(fleet.hosts)
    for name in {host for host, _ in lost}:
        host = hosts[name]
        devices = tuple(resource for resource in host.devices if (name, resource.name) not in lost)
        servers = tuple(resource for resource in host.attached if (name, resource.name) not in lost)
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


def _loss_of(
    state: PlacementState,
    place: str,
    residents: Mapping[str, list[Item]],
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
    items = {item.adapter: item for items in residents.values() for item in items}
    return Loss(
        place=place,
        servers=tuple(sorted(residents)),
        versions=sum(map(len, residents.values())),
        starts=tuple(draft.name for draft in starts),
        added_per_hour=round(sum(bought.values()), 6),
        unserved=tuple(sorted(unserved)),
        fewer=tuple(sorted({item.adapter for item in lacking} - unserved)),
        late=tuple(sorted(accounts.late(state, items))),
        causes=causes_of(state, [*_samples(lacking)]),
    )


def _samples(lacking: Sequence[Item]) -> Iterator[Item]:
    """Yield some versions of every base: thousands of versions lack a place for the same causes."""
    samples_by_base: Counter[str] = Counter()
    for item in lacking:
        samples_by_base[item.base] += 1
        if samples_by_base[item.base] <= SAMPLES:
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
            placed = len(state.bound[item.adapter])
            draft.tokens = draft.tokens + item.load.tokens * (item.replicas - placed) // placed
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
            account.adapter: account
            for residents in self.residents.values()
            for account in residents
        }
        self.late_before: dict[str, set[str]] = {}

    def late(self, state: PlacementState, items: Mapping[str, Item]) -> set[str]:
        """Return the versions that promise a time and are late now, and were not before."""
        touched_servers = {name for adapter in items for name in state.bound[adapter]}
        late_versions: set[str] = set()
        for name in sorted(touched_servers):
            draft = state.drafts[name]
            residents = tuple(
                replace(self.of_version[adapter], server=name) for adapter in draft.residents
            )
            if name not in self.late_before:
                self.late_before[name] = self._late_on(state, draft, self.residents.get(name, ()))
            late_versions |= self._late_on(state, draft, residents) - self.late_before[name]
        return late_versions

    def _late_on(
        self, state: PlacementState, draft: ServerDraft, residents: Iterable[AdapterAccount]
    ) -> set[str]:
        server = self.servers.get(draft.name) or server_of(draft, state.fleet.hosts[draft.host])
        sharers = 1 + len(state.hardware.neighbours(draft))
        account = self.accounting.server(server, tuple(residents), sharers)
        answers = (
            answer_of(resident, state.fleet.adapters.get(alias_of(resident.adapter)), account)
            for resident in account.residents
        )
        return {
            resident.adapter
            for resident in answers
            if resident and resident.promised and resident.late
        }


FEW_COPIES = 200
"""Upper bound of the copies of versions up to which a plan searches; about 0.2 s of CPU."""

_Kind = tuple[str, int, str]
"""Kind, memory and engine of a device: a server starts on devices alike with the same flags."""


def loss_outlook(
    fleet: FleetSpec,
    targets: RolloutTargets,
    desired: State,
    accounts: Collection[ServerAccount],
    few: int = FEW_COPIES,
) -> LossOutlook | None:
    """Return whether any device can be lost after an apply; None: there are not two devices.

    `few` is the number of copies of versions up to which places are searched.
    """
    devices = sum(len(host.devices) + len(host.attached) for host in fleet.hosts.values())
    copies = sum(len(account.residents) for account in accounts)
    if devices < 2 or not copies:  # noqa: PLR2004 (the loss of the only device needs no telling)
        return None
    if desired.unknown_servers or targets.upgrades:
        return LossOutlook(None)
    free = _free_kinds(fleet, desired)
    unsure = {
        place
        for account in accounts
        if account.residents and not _starts_elsewhere(fleet, account, free)
        for place in _places(account)
    }
    if not unsure:
        return LossOutlook(kept=True)
    if copies <= few:
        state = steady_state(fleet, targets, desired)
        broken = [
            loss for loss in losses_of(state, desired, hosts=False, among=unsure) if not loss.kept
        ]
        if not broken:
            return LossOutlook(kept=True)
        worst = max(broken, key=lambda loss: (len(loss.unserved), len(loss.fewer)))
        return LossOutlook(
            False, worst.place, _aliases(worst.unserved), _aliases(worst.fewer),
            _aliases(worst.late),
        )  # fmt: skip
    short = "" if free else _short(accounts)
    return LossOutlook(False if short else None, short)


def _places(account: ServerAccount) -> list[str]:
    return [f"{account.host}/{name}" for name in account.devices or (account.server,)]


def _aliases(versions: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({alias_of(version) for version in versions}))


def _free_kinds(fleet: FleetSpec, desired: State) -> set[_Kind]:
    """Return the kinds of devices without a server; with `""` where a device has strings attached.

    A device of a reserved host, or of a host with little memory, may not take every server.
    """
    used = {(server.host, name) for server in desired.servers().values() for name in server.devices}
    return {
        (device.kind if is_open else "", device.memory_bytes, device.vllm)
        for host in fleet.hosts.values()
        for is_open in [not host.reserved_for and host.memory_bytes is None]
        for device in host.devices
        if device.state == "active" and (host.name, device.name) not in used
    }


def _starts_elsewhere(fleet: FleetSpec, account: ServerAccount, free: set[_Kind]) -> bool:
    """Say whether the same server would surely start on a free device."""
    if len(account.devices) != 1 or account.total_bytes is None or not account.kind:
        return False
    host = fleet.hosts[account.host]
    (device,) = (candidate for candidate in host.devices if candidate.name == account.devices[0])
    declared = (fleet.adapters.get(alias_of(resident.adapter)) for resident in account.residents)
    return (device.kind, device.memory_bytes, device.vllm) in free and all(
        adapter and not adapter.pin and not adapter.avoid and adapter.spread == "device"
        for adapter in declared
    )


def _short(accounts: Collection[ServerAccount]) -> str:
    """Return a device whose versions the other servers of the base cannot hold in sum; or empty."""
    by_base: dict[str, list[ServerAccount]] = defaultdict(list)
    for account in accounts:
        by_base[account.base].append(account)
    for group in by_base.values():
        slots = {account.server: account.slots - account.kept - account.pinned for account in group}
        room = [
            sum(account.limit[hour] - account.load[hour] for account in group)
            for hour in range(HOURS)
        ]
        places = Counter(
            alias_of(account.adapter) for server in group for account in server.residents
        )
        for account in sorted(group, key=lambda account: account.server):
            alone = [item for item in account.residents if places[alias_of(item.adapter)] == 1]
            load = summed(alone).tokens
            beside = (
                room[hour] - account.limit[hour] + account.load[hour] for hour in range(HOURS)
            )
            if account.pinned > sum(slots.values()) - slots[account.server] or any(
                needed > spare for needed, spare in zip(load, beside, strict=True)
            ):
                return _places(account)[0]
    return ""
