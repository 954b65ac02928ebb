"""Observe: what the servers and the gateways hold, as one state."""

import asyncio
from collections.abc import Iterable, Mapping

from fleet.errors import EngineError, FleetError, problem
from fleet.names import Address, adapter_address
from fleet.resources import Resource, State
from runtime.engines.protocol import Observer
from runtime.gateway.protocol import TableReader


async def observe(engines: Mapping[str, Observer], gateways: TableReader) -> State:
    """Ask every engine and the gateways at the same time and merge the answers.

    Changes nothing. A server that does not answer is unknown; when the gateways cannot be
    read, routes and keys are. Costs a fixed number of calls per server.

    Args:
        engines: By host.
        gateways: All gateways of the fleet.

    Raises:
        FleetError: two hosts show a server under the same name.
    """
    routes, *hosts = await asyncio.gather(
        _routes(gateways), *(engine.observe() for engine in engines.values())
    )
    return merge(routes, *hosts)


async def _routes(gateways: TableReader) -> State:
    try:
        table, notes = await gateways.read()
        missing, faults = await asyncio.gather(gateways.missing(), gateways.faults())
    except EngineError as error:
        return State(routes_unknown="; ".join(each.detail for each in error.diagnostics))
    lost = tuple(adapter_address(*each) for each in missing)
    notes = tuple(each for each in notes if each.answers or each.gateway not in faults)
    found: list[Resource] = [entry.route(alias) for alias, entry in table.aliases.items()]
    found += [entry.key() for entry in table.keys.values()]
    resources = {each.address: each for each in found}
    return State(
        resources=resources,
        notes=tuple(map(str, notes)),
        behind=any(each.runs for each in notes),
        lost=lost,
        gateways=faults,
    )


def merge(*states: State) -> State:
    """Return the states of different hosts as one, sorted.

    Raises:
        FleetError: an address occurs in two of them.
    """
    resources: dict[Address, Resource] = {}
    for state in states:
        twice = sorted(resources.keys() & state.resources.keys())
        if twice:
            raise FleetError(
                problem("FC4020", "A name occurs on two hosts", f"`{twice[0]}` is on two hosts.")
            )
        resources |= state.resources
    return State(
        resources=dict(sorted(resources.items())),
        unknown_servers=_joined(state.unknown_servers for state in states),
        routes_unknown="; ".join(state.routes_unknown for state in states if state.routes_unknown),
        boots=_joined(state.boots for state in states),
        urls=_joined(state.urls for state in states),
        versions=_joined(state.versions for state in states),
        bases=_joined(state.bases for state in states),
        lost=tuple(sorted({each for state in states for each in state.lost})),
        notes=tuple(note for state in states for note in state.notes),
        behind=any(state.behind for state in states),
        gateways={name: each for state in states for name, each in state.gateways.items()},
    )


def _joined(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return dict(sorted(pair for part in parts for pair in part.items()))
