"""Drift: what left the state that applies and rollbacks established, grouped by cause.

Declarations that are not applied yet are no drift. A dead server is one cause, however many
adapters went with it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TypeVar

from fleet.history import History
from fleet.names import Address, server_address
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State

Kind = TypeVar("Kind", bound=Resource)

_HEAL = "fleetctl reconcile --once"
_PLAN = "fleetctl plan"
_ADOPT = "fleetctl adopt"
_STATUS = "fleetctl status"
_ENDED = "the server has ended"


class DriftAction(StrEnum):
    """What to do about a cause."""

    HEAL = "heal"
    """`reconcile` puts back what is missing; it adds and never removes."""
    PLAN = "plan"
    """A person has to look at a plan."""
    ALERT = "alert"
    """A person has to look at the fleet."""


@dataclass(frozen=True, slots=True)
class DriftCause:
    """An event, and everything that is not as it was because of the event."""

    subject: Address
    """What the event happened to."""
    remedy: DriftAction
    summary: str
    """One sentence."""
    addresses: tuple[Address, ...]
    """What differs, sorted; a subject that differs itself is among them."""
    command: str
    """What helps."""

    @property
    def id(self) -> str:
        """Identity of a cause: the same action for the same subject."""
        return f"{self.remedy.value} {self.subject}"


def classify_drift(
    history: History, live: State, damaged: Mapping[str, str] = MappingProxyType({})
) -> tuple[DriftCause, ...]:
    """Return the causes of all drift, the ones to be looked at first, then by subject.

    Args:
        history: With what was established; `settled` by the same live state.
        live: What was observed now. What it does not know is an alert, never missing.
        damaged: By digest: what is wrong with the copy that servers load from.
    """
    order = {DriftAction.ALERT: 0, DriftAction.PLAN: 1, DriftAction.HEAL: 2}
    found = [
        *_hosts(tuple(_servers(history, live)), history),
        *_copies(history, live, damaged),
        *_lost(live),
        *_routes(history, live),
        *_gateways(history, live),
    ]
    return tuple(sorted(found, key=lambda cause: (order[cause.remedy], cause.subject)))


def without_ignored(causes: Iterable[DriftCause], globs: Iterable[str]) -> tuple[DriftCause, ...]:
    """Leave out addresses that match a glob, and causes of which nothing is left."""
    patterns = tuple(globs)
    kept = (
        replace(
            cause,
            addresses=tuple(
                address
                for address in cause.addresses
                if not any(fnmatchcase(address, pattern) for pattern in patterns)
            ),
        )
        for cause in causes
    )
    return tuple(resource for resource in kept if resource.addresses)


def _servers(history: History, live: State) -> Iterator[DriftCause]:
    missing: dict[str, list[Address]] = defaultdict(list)
    for adapter in _kind(history, LoadedAdapter):
        now = live.resources.get(adapter.address)
        if now is None and live.knows(adapter.address):
            missing[adapter.server].append(adapter.address)
        elif isinstance(now, LoadedAdapter) and now.digest != adapter.digest:
            text = f"other bytes answer under this name, from {now.path or 'another path'}"
            yield DriftCause(adapter.address, DriftAction.ALERT, text, (adapter.address,), _PLAN)
    known = {server.name for server in _kind(history, Server)}
    for name in sorted(known | missing.keys() | set(live.servers()) | set(live.unknown_servers)):
        yield from _server(name, tuple(sorted(missing.get(name, ()))), history, live)
    for address, now in live.resources.items():
        if isinstance(now, LoadedAdapter) and address not in history.owned:
            text = "not loaded by fleetctl; it is left alone and takes a slot"
            yield DriftCause(address, DriftAction.ALERT, text, (address,), _adopt(address))


def _server(
    name: str, missing: tuple[Address, ...], history: History, live: State
) -> Iterator[DriftCause]:
    """Return the cause of what is wrong with a server."""
    address = server_address(name)
    was, now = history.established.get(address), live.resources.get(address)
    lost = f"; {_number(len(missing), 'adapter')} gone with it" if missing else ""
    if name in live.unknown_servers:
        text = f"does not answer: {live.unknown_servers[name]}"
        yield DriftCause(address, DriftAction.ALERT, text, (address,), _STATUS)
    elif isinstance(was, Server) and now is None:
        remedy = DriftAction.HEAL if was.flags else DriftAction.PLAN
        command = _HEAL if was.flags else _PLAN
        yield DriftCause(address, remedy, f"{_ENDED}{lost}", (address, *missing), command)
    elif isinstance(was, Server) and now != was:
        text = f"runs with other flags or elsewhere than established{lost}"
        yield DriftCause(address, DriftAction.PLAN, text, (address, *missing), _PLAN)
    elif missing and now is None:
        text = f"the server is gone{lost}, and the ledger does not know how to start it"
        yield DriftCause(address, DriftAction.PLAN, text, missing, _PLAN)
    elif missing:
        before, boot = history.boots.get(name), live.boots.get(name)
        again = before is not None and boot is not None and before != boot
        what = "the server was restarted" if again else "adapters were unloaded by others"
        text = f"{what}; {_number(len(missing), 'adapter')} missing"
        yield DriftCause(address, DriftAction.HEAL, text, missing, _HEAL)
    if was is None and isinstance(now, Server) and now.digest is not None:
        text = "started by fleetctl, and the ledger does not know it"
        yield DriftCause(address, DriftAction.ALERT, text, (address,), _ADOPT)


def _hosts(causes: tuple[DriftCause, ...], history: History) -> Iterator[DriftCause]:
    """Merge the causes of all servers of a host, where they have ended together."""
    hosts: dict[str, list[Address]] = defaultdict(list)
    for server in _kind(history, Server):
        hosts[server.host].append(server.address)
    ended = {cause.subject: cause for cause in causes if cause.summary.startswith(_ENDED)}
    whole = {
        host: sorted(servers)
        for host, servers in hosts.items()
        if len(servers) > 1 and ended.keys() >= set(servers)
    }
    merged = {server for servers in whole.values() for server in servers}
    yield from (
        cause for cause in causes if cause.subject not in merged or cause.subject not in ended
    )
    for host, servers in whole.items():
        addresses = sorted({address for server in servers for address in ended[server].addresses})
        lost = len(addresses) - len(servers)
        text = f"all {len(servers)} servers have ended; {_number(lost, 'adapter')} gone with them"
        remedy = max(ended[server].remedy for server in servers)
        yield DriftCause(Address(f"host/{host}"), remedy, text, tuple(addresses), _HEAL)


def _copies(history: History, live: State, damaged: Mapping[str, str]) -> Iterator[DriftCause]:
    """Return one cause per damaged copy, however many servers hold what it should be."""
    users: dict[str, list[LoadedAdapter]] = defaultdict(list)
    for address, adapter in live.adapters().items():
        digest = adapter.digest or ""
        if digest in damaged and address in history.owned:
            users[digest].append(adapter)
    for digest, held in users.items():
        names = ", ".join(sorted({note.adapter for note in held}))
        text = (
            f"the served copy of {names} {damaged[digest]}; a server that reads it again "
            "gives other answers, or ends"
        )
        addresses = tuple(note.address for note in held)
        yield DriftCause(Address(f"store/{digest[:12]}"), DriftAction.ALERT, text, addresses, _HEAL)


def _lost(live: State) -> Iterator[DriftCause]:
    """Yield what a server lists and yet does not answer with; what it does not list is missing."""
    for address in live.lost:
        if address in live.resources:
            text = "the server lists it and answers a gateway's requests for it with 404"
            yield DriftCause(address, DriftAction.ALERT, text, (address,), _STATUS)


def _gateways(history: History, live: State) -> Iterator[DriftCause]:
    """Yield gateways that do not serve as declared, once there is something to serve."""
    if not _kind(history, Route):
        return
    for name, fault in live.gateways.items():
        address = Address(f"gateway/{name}")
        yield DriftCause(address, DriftAction.ALERT, fault.what, (address,), fault.command)


def _routes(history: History, live: State) -> Iterator[DriftCause]:
    if live.routes_unknown:
        address = Address("route/*")
        text = f"routes and keys cannot be read: {live.routes_unknown}"
        yield DriftCause(address, DriftAction.ALERT, text, (address,), _STATUS)
        return
    kept: list[Route | Key] = [*_kind(history, Route), *_kind(history, Key)]
    gone = tuple(
        sorted(resource.address for resource in kept if resource.address not in live.resources)
    )
    if gone:
        verb = "is" if len(gone) == 1 else "are"
        text = f"{len(gone)} of {len(kept)} routes and keys {verb} gone from the routing table"
        subject = gone[0] if len(gone) == 1 else Address("routes")
        yield DriftCause(subject, DriftAction.HEAL, text, gone, _HEAL)
    for resource in kept:
        now = live.resources.get(resource.address)
        if now is None or now == resource:
            continue
        if isinstance(resource, Route):
            text = "the route was changed by hand; it stays as it is until it is released"
            command = f"fleetctl release {resource.alias}"
            yield DriftCause(resource.address, DriftAction.PLAN, text, (resource.address,), command)
        else:
            text = "another secret opens this client's models"
            yield DriftCause(resource.address, DriftAction.ALERT, text, (resource.address,), _PLAN)
    for address, extra in live.resources.items():
        if isinstance(extra, Route | Key) and address not in history.owned:
            what = "route" if isinstance(extra, Route) else "key"
            text = f"a {what} that fleetctl did not make"
            yield DriftCause(address, DriftAction.ALERT, text, (address,), _adopt(address))


def _adopt(address: Address) -> str:
    """Return the command that takes on one resource; others may have named it, so quoted."""
    quoted = address.replace("'", "'\"'\"'")
    return f"{_ADOPT} '{quoted}'"


def _number(count: int, noun: str) -> str:
    """Return `1 adapter is`, `2 adapters are`."""
    return f"{count} {noun} is" if count == 1 else f"{count} {noun}s are"


def _kind(history: History, kind: type[Kind]) -> list[Kind]:
    return [resource for resource in history.established.values() if isinstance(resource, kind)]
