"""Changes clients, their adapters, and their demand in a declared fleet."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle

from fleet.spec import AdapterSpec, DemandSpec, FleetSpec
from fleet.what_if.edits import Named, by_name, impossible, known, names, without
from fleet.what_if.machines import rank_of


def client_gone(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Take a client away with its adapters."""
    name = known("client", named["name"], [*fleet.clients])
    left = {key: spec for key, spec in fleet.adapters.items() if spec.name.client != name}
    return replace(fleet, clients=without(fleet.clients, name), adapters=by_name(left))


def client_demand(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Multiply the demand of all adapters of a client."""
    name = known("client", named["name"], [*fleet.clients])
    its = [adapter for adapter in fleet.adapters.values() if adapter.name.client == name]
    return _times(fleet, its, float(named["factor"]), f"client {name}")


def adapter_demand(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Multiply the demand of an adapter."""
    adapter = _adapter(fleet, named)
    return _times(fleet, [adapter], float(named["factor"]), adapter.alias)


def _times(
    fleet: FleetSpec, adapters: Sequence[AdapterSpec], factor: float, whose: str
) -> FleetSpec:
    changed = {
        adapter.alias: replace(adapter, demand=_scaled(adapter.demand, factor))
        for adapter in adapters
        if adapter.demand
    }
    if not changed:
        hint = "Declare `demand: {peak_rpm: 30}`, or record it: fleetctl demand record."
        raise impossible(f"{whose} declares no demand that could be multiplied.", hint)
    return replace(fleet, adapters=by_name({**fleet.adapters, **changed}))


def _scaled(demand: DemandSpec, factor: float) -> DemandSpec:
    observed = demand.observed and tuple(rpm * factor for rpm in demand.observed)
    return replace(demand, peak_rpm=demand.peak_rpm * factor, observed=observed)


def more_clients(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Copy the declared clients in turn, so that the new clients are as these are on average."""
    its: dict[str, list[AdapterSpec]] = {}
    for adapter in fleet.adapters.values():
        its.setdefault(adapter.name.client, []).append(adapter)
    if not its:
        raise impossible("No client has an adapter to copy.", "Declare one client at least.")
    clients, adapters = dict(fleet.clients), dict(fleet.adapters)
    versions, free_names = dict(fleet.versions), {client: names(client) for client in its}
    for model, _ in zip(cycle(sorted(its)), range(int(named["count"])), strict=False):
        client = next(name for name in free_names[model] if name not in clients)
        clients[client] = replace(fleet.clients[model], name=client, keys=())
        for adapter in its[model]:
            name = replace(adapter.name, client=client)
            adapters[name.alias] = replace(adapter, name=name, pin=None, apart=())
            if str(adapter.name) in versions:
                versions[str(name)] = versions[str(adapter.name)]
    return replace(
        fleet,
        clients=by_name(clients),
        adapters=by_name(adapters),
        versions=by_name(versions),
    )


def _adapter(fleet: FleetSpec, named: Named) -> AdapterSpec:
    return fleet.adapters[known("adapter", named["name"], [*fleet.adapters])]


def adapter_gone(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Take an adapter away."""
    alias = _adapter(fleet, named).alias
    return replace(fleet, adapters=without(fleet.adapters, alias))


def adapter_replicas(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Change the number of replicas of an adapter."""
    adapter = replace(_adapter(fleet, named), replicas=int(named["number"]))
    return replace(fleet, adapters=by_name({**fleet.adapters, adapter.alias: adapter}))


def adapter_rank(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Change the rank of the declared version; its bytes grow with the rank."""
    adapter, rank = _adapter(fleet, named), rank_of(int(named["number"]))
    facts = fleet.versions.get(str(adapter.name))
    if facts is None:
        detail = f"`{adapter.name}` is not in the lock, so its rank is not known."
        raise impossible(detail, f"Add it: fleetctl adapter add PATH --as {adapter.name}.")
    changed = replace(facts, rank=rank, bytes=facts.bytes * rank // facts.rank)
    return replace(fleet, versions=by_name({**fleet.versions, str(adapter.name): changed}))
