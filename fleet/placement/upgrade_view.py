"""Hides servers of upgrades from the search."""

from collections.abc import Mapping
from dataclasses import replace

from fleet.resources import LoadedAdapter, Server, State, servers_in
from fleet.rollouts import RolloutTargets, UpgradeStage


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

    def seen(adapter: str, servers: tuple[str, ...]) -> tuple[str, ...]:
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
            loaded=_pruned({name: seen(name, there) for name, there in targets.loaded.items()}),
            routed=_pruned(
                {
                    name: tuple(server for server in there if server not in hidden)
                    for name, there in targets.routed.items()
                }
            ),
        ),
        replace(live, resources=resources),
    )


def _pruned(servers: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: there for name, there in servers.items() if there}
