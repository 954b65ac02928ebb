"""Causes of drift as values: events, the resources that differ, the remedy, the outage."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import partial

from fleet.history import History
from fleet.names import LEDGER, Address, kind_of_address
from fleet.resources import Fault, OutageKind, Route, State


class DriftAction(StrEnum):
    """Action against a cause."""

    HEAL = "heal"
    """`reconcile` puts missing resources back, and never removes any."""
    PLAN = "plan"
    """A person has to look at a plan."""
    ALERT = "alert"
    """A person has to look at the fleet."""


USUAL = {DriftAction.HEAL: "fleetctl reconcile --once", DriftAction.PLAN: "fleetctl plan"}
"""Command that helps, where a cause names no other."""


@dataclass(frozen=True, slots=True)
class DriftCause:
    """An event, and the resources that differ because of the event."""

    subject: Address
    """Resource, host, gateway or stored copy that the event happened to."""
    remedy: DriftAction
    summary: str
    addresses: tuple[Address, ...]
    """Resources that differ, sorted; a subject that differs itself is among them."""
    command: str
    outage: OutageKind | None = None
    """None: clients are answered."""
    since: datetime | None = None
    """Time since which the outage is known; None: no round of `reconcile` has seen it."""

    @property
    def id(self) -> str:
        """Identity of a cause: the same action for the same subject."""
        return f"{self.remedy.value} {self.subject}"


def cause_of(
    remedy: DriftAction,
    subject: Address,
    summary: str,
    addresses: Iterable[Address] = (),
    command: str = "",
    outage: OutageKind | None = None,
) -> DriftCause:
    """Return a cause; without addresses the subject alone differs."""
    differ = tuple(addresses) or (subject,)
    return DriftCause(subject, remedy, summary, differ, command or USUAL[remedy], outage)


heal, plan, alert = (partial(cause_of, remedy) for remedy in DriftAction)
"""Make a cause with a remedy."""


def fault_causes(history: History, live: State) -> Iterator[DriftCause]:
    """Yield the causes of faults of gateways, keys, table and ledger, once a route is applied.

    Before the first route, a fault counts that `reconcile` heals, and a fault of the ledger.
    """
    serves = any(isinstance(kept, Route) for kept in history.established.values())
    for address, fault in live.faults.items():
        kind = kind_of_address(address)
        if kind != "server" and (serves or fault.heals or address == LEDGER):
            yield of_fault(address, fault)


def of_fault(subject: Address, fault: Fault) -> DriftCause:
    """Return the cause of a fault."""
    remedy = DriftAction.HEAL if fault.heals else DriftAction.ALERT
    cause = cause_of(remedy, subject, fault.what, command=fault.command, outage=fault.outage)
    return replace(cause, since=fault.since)


def without_ignored(causes: Iterable[DriftCause], globs: Iterable[str]) -> tuple[DriftCause, ...]:
    """Leave out addresses that match a glob, and causes of which nothing is left."""
    patterns = tuple(globs)

    def counts(address: Address) -> bool:
        return not any(fnmatchcase(address, pattern) for pattern in patterns)

    kept = (replace(cause, addresses=tuple(filter(counts, cause.addresses))) for cause in causes)
    return tuple(cause for cause in kept if cause.addresses)
