"""Find drift from the state that applies and rollbacks set, and unserved aliases, by cause.

Declarations that are not applied yet are no drift, until an apply tries and fails. A dead server is
a single cause, with all adapters of the server.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from fleet.history import MAY_ANSWER_OTHER_BYTES, History
from fleet.names import LEDGER, Address, adapter_address, kind_of_address, server_address
from fleet.planning.drift_cause import (
    USUAL,
    DriftAction,
    DriftCause,
    alert,
    cause_of,
    fault_causes,
    heal,
    of_fault,
    plan,
)
from fleet.resources import Fault, Key, LoadedAdapter, OutageKind, Resource, Route, Server, State
from fleet.rollouts import is_diverted, may_be_rollback


def why_missing(
    server: str,
    missing: tuple[Address, ...],
    history: History,
    live: State,
    damaged: Mapping[str, str],
) -> str:
    """Return the event by which a running server has lost adapters, and whether clients notice.

    `damaged`: by path as servers list it: the damage of the copy that servers load from.
    """
    stale = stale_routes(server, live)
    event = _event(history.boots.get(server), live.boots.get(server), stale)
    # Where no gateway sends a request to the server, its resolver answers no client.
    loadable = sum(is_resolved(address, history, live, damaged) for address in missing)
    answered = 0 if stale else loadable
    if answered == len(missing):
        lack = "answered by the resolver until loaded again"
    else:
        lack = f"missing, {answered} of them answered by the resolver" if answered else "missing"
    return f"{event}; {number_of(len(missing), 'adapter')} {lack}{stale}"


def _event(before: str | None, boot: str | None, stale: str) -> str:
    if stale or (before and boot and before != boot):
        return "the server was restarted"
    if not before or not boot:
        return "adapters were unloaded, or the server was restarted and shows no start time"
    return "adapters were unloaded by others, or a run ended before it loaded them"


def stale_routes(server: str, live: State) -> str:
    """Return the end of a sentence: the routes name another launch; empty where they do not."""
    routed, answers = live.routed_launches.get(server, ""), live.launches.get(server, "")
    if not routed or routed == answers:
        return ""
    return f"; the routes name launch {routed}, so that no gateway sends it a request"


def is_resolved(
    address: Address, history: History, live: State, damaged: Mapping[str, str]
) -> bool:
    """Say whether the resolver of a server answers requests for an unlisted adapter.

    Bytes other than the established ones count as no answer, where the ledger knows the adapter.
    """
    adapter = live.resolvable.get(address)
    return (
        adapter is not None
        and adapter == history.established.get(address, adapter)
        and adapter.path not in damaged
    )


def number_of(count: int, noun: str) -> str:
    """Return such as `2 adapters are`."""
    return f"{count} {noun} is" if count == 1 else f"{count} {noun}s are"


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


Kind = TypeVar("Kind", bound=Resource)


def classify_drift(
    history: History, live: State, damaged: Mapping[str, str] = MappingProxyType({})
) -> tuple[DriftCause, ...]:
    """Return the causes of all drift: outages, then the ones to be looked at, then by subject.

    Args:
        history: The ledger, folded; `settled` by the same live state.
        live: The observed state. Resources that it does not know are an alert, never missing.
        damaged: By path as servers list it: the damage of the copy that servers load from.
    """
    if of_others := ownerless(history, live):
        text = "the ledger knows none of what runs here: "
        text += f"{', '.join(folders)} has it" if (folders := folders_of(live)) else "it was lost"
        faults = (cause for cause in fault_causes(history, live) if cause.outage)
        helps = "fleetctl plan" if folders else "fleetctl adopt"
        return (*faults, alert(LEDGER, text, of_others, helps))
    return _all(history, live, damaged)


def _all(history: History, live: State, damaged: Mapping[str, str]) -> tuple[DriftCause, ...]:
    order = {DriftAction.ALERT: 0, DriftAction.PLAN: 1, DriftAction.HEAL: 2}
    causes = [
        *_hosts(tuple(_servers(history, live, damaged)), history, live),
        *_copies(history, live, damaged),
        *_lost(live),
        *_routes(history, live),
        *fault_causes(history, live),
    ]

    def urgency(cause: DriftCause) -> tuple[bool, int, Address]:
        return cause.outage is None, order[cause.remedy], cause.subject

    return tuple(sorted(with_unserved(causes, history, live, damaged), key=urgency))


def outages_of(
    history: History, live: State, damaged: Mapping[str, str] = MappingProxyType({})
) -> tuple[DriftCause, ...]:
    """Return the outages, also of a fleet that the ledger does not know; arguments as above."""
    return tuple(cause for cause in _all(history, live, damaged) if cause.outage)


def ownerless(history: History, live: State) -> tuple[Address, ...]:
    """Return the started servers and the routes that are live, if the ledger knows none of them.

    The state folder was lost then, and with it the ledger, or another state folder has the ledger.
    Empty: the ledger knows a part.
    """
    if history.owned & {*live.resources, *map(server_address, live.of_others)}:
        return ()
    started = (server for server in live.servers().values() if server.digest is not None)
    routes = live.routes().values()
    foreign = map(server_address, live.of_others)
    return (*foreign, *(server.address for server in started), *(route.address for route in routes))


def folders_of(live: State) -> list[str]:
    """Return the other state folders that started servers of this fleet, sorted."""
    return sorted({*live.of_others.values()})


def _servers(history: History, live: State, damaged: Mapping[str, str]) -> Iterator[DriftCause]:
    missing: dict[str, list[Address]] = defaultdict(list)
    for adapter in _kind(history, LoadedAdapter):
        now = live.resources.get(adapter.address)
        if now is None and live.knows(adapter.address):
            missing[adapter.server].append(adapter.address)
        elif isinstance(now, LoadedAdapter) and now.unsure and now.digest == adapter.digest:
            yield heal(adapter.address, MAY_ANSWER_OTHER_BYTES)
        elif isinstance(now, LoadedAdapter) and now.digest != adapter.digest:
            text = f"other bytes answer under this name, from {now.path or 'another path'}"
            yield alert(adapter.address, text, command=USUAL[DriftAction.PLAN])
    recorded = {server.name for server in _kind(history, Server)}
    for name in sorted({*recorded, *missing, *live.servers(), *live.unknown_servers}):
        yield from _server(name, tuple(sorted(missing.get(name, ()))), history, live, damaged)
    for address in live.adapters():
        if address not in history.owned:
            text = "not loaded by fleetctl; it is left alone and takes a slot"
            yield alert(address, text, command=_adopt(address))


def _server(
    name: str,
    missing: tuple[Address, ...],
    history: History,
    live: State,
    damaged: Mapping[str, str],
) -> Iterator[DriftCause]:
    address = server_address(name)
    was, now = history.established.get(address), live.resources.get(address)
    adapters = number_of(len(missing), "adapter")
    lost = f"; {adapters} gone with it" if missing else ""
    stale = stale_routes(name, live)
    if name in live.of_others:
        yield alert(address, live.unknown_servers[name], command="fleetctl plan")
    elif name in live.unknown_servers and name in live.launches:
        text = f"stale launch: {live.unknown_servers[name]}{stale}"
        outage = OutageKind.SERVER_DOWN if stale else None
        yield alert(address, text, command=f"fleetctl server stop {name}", outage=outage)
    elif name in live.unknown_servers:
        text = f"does not answer: {live.unknown_servers[name]}"
        logs = f"fleetctl server logs {name}"
        fault = live.faults.get(address) or Fault(text, logs, OutageKind.SERVER_HUNG)
        is_ours = isinstance(was, Server) and was.flags is not None
        yield of_fault(address, replace(fault, heals=fault.heals and is_ours))
    elif isinstance(was, Server) and now is None:
        away = live.away_hosts.get(was.host)
        put_back = heal if was.flags and not away else plan
        text = f"its machine is away ({away}){lost}" if away else f"the server has ended{lost}"
        yield put_back(address, text, (address, *missing), outage=OutageKind.SERVER_DOWN)
    elif isinstance(was, Server) and now != was:
        text = f"runs with other flags or elsewhere than established{lost}"
        yield plan(address, text, (address, *missing))
    elif missing and now is None:
        text = f"the server is gone{lost}, and the ledger does not know how to start it"
        yield plan(address, text, missing)
    elif missing:
        yield heal(address, why_missing(name, missing, history, live, damaged), missing)
    elif stale:
        # The routes differ, not the server: its repair would stop what serves.
        text = f"the server was started anew{stale}"
        yield heal(address, text, (Address("routes"),))
    if was is None and isinstance(now, Server) and now.digest is not None:
        text = "started by fleetctl, and the ledger does not know it"
        yield alert(address, text, command="fleetctl adopt")


def _hosts(causes: tuple[DriftCause, ...], history: History, live: State) -> Iterator[DriftCause]:
    """Merge the causes of all servers of a host, where they have ended together."""
    hosts: dict[str, set[Address]] = defaultdict(set)
    for server in _kind(history, Server):
        hosts[server.host].add(server.address)
    stopped = {
        cause.subject: cause
        for cause in causes
        if live.knows(cause.subject) and cause.subject not in live.resources
    }
    merged: set[Address] = set()
    for host, servers in hosts.items():
        if len(servers) > 1 and servers <= stopped.keys():
            merged |= servers
            addresses = sorted({differs for name in servers for differs in stopped[name].addresses})
            lost = number_of(len(addresses) - len(servers), "adapter")
            away = live.away_hosts.get(host)
            why = (
                f"the machine is away ({away})"
                if away
                else f"all {len(servers)} servers have ended"
            )
            text = f"{why}; {lost} gone with them"
            remedy = max(stopped[server].remedy for server in servers)
            command = USUAL[DriftAction.PLAN if away else DriftAction.HEAL]
            address, outage = Address(f"host/{host}"), OutageKind.SERVER_DOWN
            yield cause_of(remedy, address, text, addresses, command, outage)
    yield from (cause for cause in causes if cause.subject not in merged)


def _copies(history: History, live: State, damaged: Mapping[str, str]) -> Iterator[DriftCause]:
    """Yield a cause for every damaged copy, however many servers hold the version."""
    users: dict[str, list[LoadedAdapter]] = defaultdict(list)
    for address, adapter in live.adapters().items():
        if adapter.path in damaged and address in history.owned:
            users[adapter.path].append(adapter)
    for path, adapters in users.items():
        names = ", ".join(sorted({adapter.adapter for adapter in adapters}))
        text = (
            f"the served copy of {names} {damaged[path]}; a server that has read it since "
            "gives other answers, and one that reads it may end"
        )
        addresses = [adapter.address for adapter in adapters]
        store_address = Address(f"store/{(adapters[0].digest or path)[:12]}")
        yield alert(store_address, text, addresses, USUAL[DriftAction.HEAL])


def _lost(live: State) -> Iterator[DriftCause]:
    """Yield the adapters that a server lists and yet does not answer with."""
    adapters = live.adapters()
    for address in live.lost:
        if (adapter := adapters.get(address)) is not None:
            text = "the server lists it and answers a gateway's requests for it with 404"
            yield alert(address, text, command=f"fleetctl server logs {adapter.server}")


def _routes(history: History, live: State) -> Iterator[DriftCause]:
    if live.routes_unknown:
        text = f"routes and keys cannot be read: {live.routes_unknown}"
        outage = OutageKind.TABLE_DAMAGED
        yield alert(Address("route/*"), text, command="fleetctl gateway status", outage=outage)
        return
    listed: list[Route | Key] = [*_kind(history, Route), *_kind(history, Key)]
    missing = tuple(
        sorted(resource.address for resource in listed if resource.address not in live.resources)
    )
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        text = f"{len(missing)} of {len(listed)} routes and keys {verb} gone from the routing table"
        yield heal(missing[0] if len(missing) == 1 else Address("routes"), text, missing)
    for resource in listed:
        now = live.resources.get(resource.address)
        if now is None or now == resource:
            continue
        if isinstance(resource, Key) or not isinstance(now, Route):
            text = "another secret opens this client's models"
            yield alert(resource.address, text, command=USUAL[DriftAction.PLAN])
        elif is_diverted(resource, now):
            text = "a run that has not ended took its traffic off servers"
            cut = any(share.percent and not share.servers for share in now.shares)
            text += ", and no server answers its requests" if cut else ""
            yield heal(resource.address, text)
        elif may_be_rollback(resource, now, history):
            text = "the route was changed by hand; it stays as it is until it is released"
            yield plan(resource.address, text, command=f"fleetctl release {resource.alias}")
        else:
            text = "the route was changed by hand and is not the one that was applied: it gives"
            yield plan(resource.address, f"{text} {now.split}")
    for address, extra in live.resources.items():
        if isinstance(extra, Route | Key) and address not in history.owned:
            text = f"a {kind_of_address(address)} that fleetctl did not make"
            yield alert(address, text, command=_adopt(address))


def _adopt(address: Address) -> str:
    """Return the command that adopts a resource; names come from outside, so quoted."""
    quoted = address.replace("'", "'\"'\"'")
    return f"fleetctl adopt '{quoted}'"


def _kind(history: History, kind: type[Kind]) -> list[Kind]:
    return [resource for resource in history.established.values() if isinstance(resource, kind)]
