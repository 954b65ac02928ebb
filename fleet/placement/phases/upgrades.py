"""Upgrades: places canaries on free devices, and old servers that stay for a while.

`without_hidden` hides the servers of upgrades from the search.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fleet.hardware import BaseSpec, DeviceSpec, HostSpec
from fleet.names import adapter_address, server_name
from fleet.placement.model.rules import allows
from fleet.placement.model.servers import ServerDraft
from fleet.placement.model.state import PlacementState
from fleet.placement.phases.fill import server_types_for
from fleet.resources import LoadedAdapter, Server, State, servers_in
from fleet.rollouts import RolloutTargets, Upgrade, UpgradeStage
from fleet.vllm import RANKS


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
                loaded_adapters = live.adapters()
                versions = [
                    name
                    for name in state.items
                    if adapter_address(name, upgrade.kept) in loaded_adapters
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
    like = live.servers()[upgrade.old[0]]
    base = state.fleet.bases[upgrade.base]
    for host, devices in _free_devices(state, base, like):
        name = server_name(base.name, host.name, devices[0].name)
        port = state.hardware.port(name, host, devices[0])
        draft = ServerDraft(name, base, host.name, devices, port)
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
    state: PlacementState, base: BaseSpec, like: Server
) -> list[tuple[HostSpec, tuple[DeviceSpec, ...]]]:
    """Return the free devices of the kind of the old server's, those of its host first."""
    hosts = state.fleet.hosts
    rank = like.flags.max_lora_rank if like.flags else RANKS[0]
    kinds = {
        (device.kind, device.memory_bytes)
        for device in hosts[like.host].devices
        if device.name in like.devices
    }
    places = [
        place
        for server_type in server_types_for(state, base, rank, frozenset(hosts))
        if server_type.parts == 1
        if (server_type.device.kind, server_type.device.memory_bytes) in kinds
        for place in server_type.places
    ]
    return sorted(places, key=lambda place: (place[0].name != like.host, place[0].name))


def without_room(targets: RolloutTargets, short: Iterable[Upgrade]) -> RolloutTargets:
    """Return the targets in which upgrades lack room for a further server.

    Before a canary was judged servers keep their settings. Servers restart in their place once
    clients may move, or where no golden set would judge the canary.
    """
    bases = {upgrade.base for upgrade in short}

    def adjusted(upgrade: Upgrade) -> Upgrade:
        if upgrade.base not in bases:
            return upgrade
        match upgrade.stage:
            case UpgradeStage.STOPPED:
                return upgrade
            case UpgradeStage.MOVING:
                return _restarting(upgrade)
            case _ if not upgrade.results:
                return _restarting(upgrade)
            case UpgradeStage.CANARY if not upgrade.canary:
                return replace(_restarting(upgrade), held=upgrade.held)
            case _:
                return upgrade

    return replace(targets, upgrades=tuple(map(adjusted, targets.upgrades)))


def restarting(targets: RolloutTargets) -> RolloutTargets:
    """Return the targets by which all upgrades restart servers in their place."""
    return replace(targets, upgrades=tuple(map(_restarting, targets.upgrades)))


def _restarting(upgrade: Upgrade) -> Upgrade:
    return replace(
        upgrade, stage=UpgradeStage.NO_ROOM, held=frozenset(), hidden=frozenset(), kept=""
    )


def without_hidden(targets: RolloutTargets, live: State) -> tuple[RolloutTargets, State]:
    """Return targets and live state as the search sees them: without the hidden servers.

    A canary that clients are about to move to is left its versions of the old server alone, so
    that clients of other servers stay where they are.
    """
    hidden = {name for upgrade in targets.upgrades for name in upgrade.hidden}
    if not hidden:
        return targets, live
    moving = {
        upgrade.canary: upgrade.hidden
        for upgrade in targets.upgrades
        if upgrade.stage is UpgradeStage.MOVING and upgrade.canary
    }

    def visible_servers(adapter: str, servers: tuple[str, ...]) -> tuple[str, ...]:
        routed = targets.routed.get(adapter, ())
        return tuple(
            server
            for server in servers
            if server not in hidden
            if server not in moving or not moving[server].isdisjoint(routed)
        )

    resources = {
        address: resource
        for address, resource in live.resources.items()
        if not (isinstance(resource, Server | LoadedAdapter) and hidden & {*servers_in(resource)})
    }
    return (
        replace(
            targets,
            loaded=_pruned(
                {name: visible_servers(name, names) for name, names in targets.loaded.items()}
            ),
            routed=_pruned(
                {
                    name: tuple(server for server in names if server not in hidden)
                    for name, names in targets.routed.items()
                }
            ),
        ),
        replace(live, resources=resources),
    )


def _pruned(servers: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: names for name, names in servers.items() if names}
