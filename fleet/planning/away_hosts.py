"""Hosts whose machine is gone, as their engine says: their versions move where others have room."""

from dataclasses import replace
from datetime import datetime

from fleet.history import History
from fleet.placement import PlacementResult, SearchLimits, place
from fleet.resources import State
from fleet.rollouts import RolloutTargets, decide_rollouts
from fleet.spec import FleetSpec


def placed(
    fleet: FleetSpec, live: State, history: History, now: datetime, search: SearchLimits
) -> tuple[FleetSpec, RolloutTargets, PlacementResult]:
    """Place a fleet on the hosts that are there.

    Returns:
        The fleet, in which the devices of hosts that are away drain; its targets; and their places.
        Versions that fit on no other host are unplaced until theirs is back.

    Raises:
        PlacementError: The fleet does not fit on the declared hardware, were it all there.
    """
    targets = decide_rollouts(fleet, live, history, now)
    away = {name: why for name, why in live.away_hosts.items() if name in fleet.hosts}
    if not away:
        return fleet, targets, place(fleet, targets, live, search)
    place(fleet, targets, replace(live, away_hosts={}), search)  # or its error
    hosts = {**fleet.hosts, **{name: fleet.hosts[name].drained() for name in away}}
    told = (f"host `{name}` is away, nothing is placed on it ({why})" for name, why in away.items())
    fleet = replace(fleet, hosts=hosts, warnings=(*fleet.warnings, *told))
    return fleet, targets, place(fleet, targets, live, search)
