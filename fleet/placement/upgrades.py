"""Places the servers of upgrades: canaries on free devices, old servers that stay for a while."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from fleet.hardware import DeviceSpec, HostSpec
from fleet.names import adapter_address, server_name
from fleet.placement.fill import is_free
from fleet.placement.rules import allows
from fleet.placement.servers import ServerDraft
from fleet.placement.state import PlacementState
from fleet.resources import Server, State
from fleet.rollouts import RolloutTargets, Upgrade, UpgradeStage


def add_upgrade_servers(
    state: PlacementState, targets: RolloutTargets, live: State
) -> tuple[Upgrade, ...]:
    """Add canaries and kept old servers to the placed servers; return the upgrades without room.

    `targets` and `live` are those with the hidden servers, which the state has from then on.
    """
    short = []
    for upgrade in targets.upgrades:
        match upgrade.stage:
            case UpgradeStage.CANARY | UpgradeStage.JUDGING:
                draft = _running(state, upgrade.canary, live) or _canary(state, upgrade, live)
                if draft is None:
                    short.append(upgrade)
                    continue
                versions = [name for name in upgrade.versions if name in state.items]
            case UpgradeStage.MOVING:
                draft = _running(state, upgrade.kept, live)
                there = live.adapters()
                versions = [
                    name for name in state.items if adapter_address(name, upgrade.kept) in there
                ]
            case UpgradeStage.STOPPED | UpgradeStage.NO_ROOM:
                continue
        if draft is not None:
            _hold(state, draft, versions)
    state.targets, state.live = targets, live
    return tuple(short)


def _hold(state: PlacementState, draft: ServerDraft, versions: list[str]) -> None:
    """Let a server hold versions that no route sends there."""
    state.drafts[draft.name] = draft
    for name in versions:
        item = state.items[name]
        if draft.has_slot_for(item):
            draft.add(item)
            state.beside[name].append(draft.name)


def _running(state: PlacementState, name: str, live: State) -> ServerDraft | None:
    """Return a live server as a draft that keeps its flags; None: there is no such server."""
    server = live.servers().get(name)
    if server is None:
        return None
    host = state.fleet.hosts[server.host]
    devices = tuple(device for device in host.devices if device.name in server.devices)
    draft = ServerDraft(
        name, state.fleet.bases[server.base], server.host, devices, server.port, fixed=True,
        live=server,
    )  # fmt: skip
    if server.flags is not None:
        draft.slots, draft.rank = server.flags.max_loras, server.flags.max_lora_rank
        draft.most_listed = server.flags.max_cpu_loras
    return draft


def _canary(state: PlacementState, upgrade: Upgrade, live: State) -> ServerDraft | None:
    """Return a server with the new settings for all clients of a base; None: no device has room."""
    like, base = live.servers()[upgrade.old[0]], state.fleet.bases[upgrade.base]
    for host, device in _free_devices(state, upgrade, like):
        name = server_name(base.name, host.name, device.name)
        port = state.hardware.port(name, host, device)
        draft = ServerDraft(name, base, host.name, (device,), port)
        if like.flags is not None:
            draft.slots = base.slots or like.flags.max_loras
            draft.rank = base.max_lora_rank or like.flags.max_lora_rank
        state.hardware.put(draft)
        if _fits(state, draft, upgrade):
            state.opened[name] = f"canary of the upgrade of base `{base.name}`"
            return draft
        state.hardware.drop(draft)
    return None


def _fits(state: PlacementState, draft: ServerDraft, upgrade: Upgrade) -> bool:
    """Let a canary have slots for all versions; say whether its device has the memory."""
    for version in upgrade.versions:
        item = state.items.get(version)
        if item is None:
            continue
        shape = state.hardware.shape_with(draft, item, 0) if allows(state, draft, item) else None
        if shape is None or state.hardware.host_shortage(draft, item, shape[0]):
            return False
        draft.slots, draft.rank = shape
        draft.add(item)
    return True


def _free_devices(
    state: PlacementState, upgrade: Upgrade, like: Server
) -> Iterator[tuple[HostSpec, DeviceSpec]]:
    """Yield the free devices of the kind of the old server's, those of its host first."""
    base, hosts = state.fleet.bases[upgrade.base], state.fleet.hosts
    kinds = {
        (device.kind, device.memory_bytes)
        for device in hosts[like.host].devices
        if device.name in like.devices
    }
    for name in sorted(hosts, key=lambda name: (name != like.host, name)):
        host = hosts[name]
        for device in host.devices:
            server = server_name(base.name, name, device.name)
            if (device.kind, device.memory_bytes) not in kinds or device.state != "active":
                continue
            waits = state.hardware.waits_for(server, host, (device,))
            if not waits and is_free(state, base, host, device, 1):
                yield host, device


def without_room(targets: RolloutTargets, short: Iterable[Upgrade]) -> RolloutTargets:
    """Return the targets in which upgrades lack room for a further server.

    Before a canary was judged servers keep their settings; once clients may move, servers restart
    in their place.
    """
    bases = {upgrade.base for upgrade in short}

    def seen(upgrade: Upgrade) -> Upgrade:
        without = replace(upgrade, stage=UpgradeStage.NO_ROOM, hidden=frozenset(), kept="")
        if upgrade.base not in bases:
            return upgrade
        match upgrade.stage:
            case UpgradeStage.MOVING:
                return replace(without, held=frozenset())
            case UpgradeStage.CANARY if not upgrade.canary:
                return without
            case _:
                return upgrade

    return replace(targets, upgrades=tuple(map(seen, targets.upgrades)))
