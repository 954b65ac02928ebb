"""Find the aliases that no server answers, and make outages of the causes of that.

Clients get 503 where a server has ended or lacks its versions, and where a route is gone or names
no server that runs. A server in trouble may still answer some of its aliases.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from fleet.history import History
from fleet.names import Address, adapter_address, server_address
from fleet.planning.drift_cause import USUAL, DriftAction, DriftCause, alert
from fleet.planning.missing_adapters import is_resolved, stale_routes
from fleet.resources import OutageKind, Route, State

_APPLY = "fleetctl apply"
_OF_SERVERS = frozenset({OutageKind.SERVER_DOWN, OutageKind.SERVER_HUNG})


def with_unserved(
    causes: Iterable[DriftCause], history: History, live: State, damaged: Mapping[str, str]
) -> Iterator[DriftCause]:
    """Yield the causes, as outages where an alias has no answer by them; then such other aliases.

    Outages of servers and of aliases name the aliases without an answer.
    An alias counts from its first route on: before the first apply is done, nothing is told.
    """
    before = tuple(causes)
    silent = {part for cause in before if cause.outage for part in _parts(cause)}
    applied = (item for item in history.established.values() if isinstance(item, Route))
    routes = {**{route.alias: route for route in applied}, **live.routes()}

    def answers(server: str, copy: Address) -> bool:
        if server_address(server) in silent:
            return False
        if server in live.unknown_servers:  # such as started by another folder: left to that
            return True
        is_held = copy in live.resources or is_resolved(copy, history, live, damaged)
        return is_held and not stale_routes(server, live)

    unserved = {
        alias: parts
        for alias, route in sorted(routes.items())
        if (parts := frozenset(_silent_parts(route, live, answers)))
    }
    explained = set[str]()
    for cause in before:
        aliases = [alias for alias, parts in unserved.items() if parts & _parts(cause)]
        explained.update(aliases)
        if cause.outage in _OF_SERVERS:
            yield replace(cause, unanswered=tuple(aliases))
        elif cause.outage or not aliases:
            yield cause
        else:
            command = _APPLY if cause.command == USUAL[DriftAction.PLAN] else cause.command
            kind = OutageKind.UNSERVED
            yield replace(cause, command=command, outage=kind, unanswered=tuple(aliases))
    for alias in unserved.keys() - explained:
        text = "no server that its route names holds the version"
        cause = alert(routes[alias].address, text, (), _APPLY, OutageKind.UNSERVED)
        yield replace(cause, unanswered=(alias,))


def _parts(cause: DriftCause) -> frozenset[Address]:
    return frozenset((cause.subject, *cause.addresses))


def _silent_parts(
    route: Route, live: State, answers: Callable[[str, Address], bool]
) -> Iterator[Address]:
    """Yield servers, copies and route by which requests of an alias get no answer."""
    if not live.routes_unknown and route.address not in live.resources:
        yield route.address
    for share in route.shares:
        copies = {server: adapter_address(share.adapter, server) for server in share.servers}
        if share.percent and not any(answers(*copy) for copy in copies.items()):
            yield from map(server_address, copies)
            yield from copies.values() if copies else (route.address,)
