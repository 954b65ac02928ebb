"""Survival: tells in a plan whether any single device can be lost, as far as that is cheap.

1. Yes, if every server has a free device alike, on which the same server would start.
2. A fleet of few copies is searched, see `losses`.
3. No, if no device is free and the other servers of a base have too few slots or too little
   throughput in sum for the versions of a server.
4. Else not known: `diagnose --loss` searches.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

from fleet.capacity import HOURS
from fleet.names import alias_of
from fleet.placement.accounting import summed
from fleet.placement.accounts import ServerAccount
from fleet.placement.losses import losses_of, steady_state
from fleet.plan import LossOutlook
from fleet.resources import State
from fleet.rollouts import RolloutTargets
from fleet.spec import FleetSpec

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
    (device,) = (its for its in host.devices if its.name == account.devices[0])
    declared = (fleet.adapters.get(alias_of(own.adapter)) for own in account.residents)
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
        slots = {own.server: own.slots - own.kept - own.pinned for own in group}
        room = [sum(own.limit[hour] - own.load[hour] for own in group) for hour in range(HOURS)]
        places = Counter(alias_of(own.adapter) for its in group for own in its.residents)
        for own in sorted(group, key=lambda own: own.server):
            alone = [item for item in own.residents if places[alias_of(item.adapter)] == 1]
            load = summed(alone).tokens
            rest = (room[hour] - own.limit[hour] + own.load[hour] for hour in range(HOURS))
            if own.pinned > sum(slots.values()) - slots[own.server] or any(
                asked > left for asked, left in zip(load, rest, strict=True)
            ):
                return _places(own)[0]
    return ""
