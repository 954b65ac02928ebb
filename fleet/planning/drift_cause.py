"""Causes of drift as values: events, the resources that differ, the remedy, the outage."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import partial

from fleet.evals import DriftStatus, EvalRecord, answering, drifts
from fleet.history import History, StepFailed
from fleet.names import LEDGER, Address, adapter_address, kind_of_address, route_address
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
    unanswered: tuple[str, ...] | None = None
    """Aliases without an answer, of an outage of servers or aliases; None: its kind tells."""

    @property
    def id(self) -> str:
        """Identity of a cause: the same action for the same subject."""
        return f"{self.remedy.value} {self.subject}"


def cause_of(
    remedy: DriftAction,
    address: Address,
    summary: str,
    addresses: Iterable[Address] = (),
    command: str = "",
    outage: OutageKind | None = None,
) -> DriftCause:
    """Return a cause; without addresses the subject alone differs."""
    differ = tuple(addresses) or (address,)
    return DriftCause(address, remedy, summary, differ, command or USUAL[remedy], outage)


heal, plan, alert = (partial(cause_of, remedy) for remedy in DriftAction)
"""Make a cause with a remedy."""


def fault_causes(history: History, live: State) -> Iterator[DriftCause]:
    """Yield the causes of faults of gateways, keys, table and ledger, once a route is applied.

    Before the first route, a fault counts that `reconcile` heals, and a fault of the ledger.
    """
    serves = any(isinstance(resource, Route) for resource in history.established.values())
    for address, fault in live.faults.items():
        kind = kind_of_address(address)
        if kind != "server" and (serves or fault.heals or address == LEDGER):
            yield of_fault(address, fault)


def of_fault(address: Address, fault: Fault) -> DriftCause:
    """Return the cause of a fault."""
    remedy = DriftAction.HEAL if fault.heals else DriftAction.ALERT
    cause = cause_of(remedy, address, fault.what, command=fault.command, outage=fault.outage)
    return replace(cause, since=fault.since)


def without_ignored(causes: Iterable[DriftCause], globs: Iterable[str]) -> tuple[DriftCause, ...]:
    """Leave out addresses that match a glob, and causes of which nothing is left."""
    patterns = tuple(globs)

    def counts(address: Address) -> bool:
        return not any(fnmatchcase(address, pattern) for pattern in patterns)

    remaining = (
        replace(cause, addresses=tuple(filter(counts, cause.addresses))) for cause in causes
    )
    return tuple(cause for cause in remaining if cause.addresses)


def failed_causes(failed: Mapping[str, StepFailed], due: Collection[str]) -> tuple[DriftCause, ...]:
    """Return a cause for every failed step that a plan made now asks for again.

    `due`: ids of the steps of that plan.
    """
    return tuple(
        DriftCause(
            Address(event.address),
            DriftAction.ALERT,
            f"`{step}` could not be done, and is still due: {event.summary} ({event.code}). "
            f"{event.detail}".rstrip("."),
            (Address(event.address),),
            "fleetctl plan",
        )
        for step, event in sorted(failed.items())
        if step in due
    )


def quality_causes(past: Mapping[str, Sequence[EvalRecord]], live: State) -> tuple[DriftCause, ...]:
    """Return the answering versions whose last result is far below the library's own evaluation.

    Args:
        past: Evaluations of the ledger by alias, oldest first.
        live: The observed state, with the routes that say which version answers.
    """
    return tuple(_causes(past, live))


def _causes(past: Mapping[str, Sequence[EvalRecord]], live: State) -> Iterator[DriftCause]:
    routes = live.routes()
    for alias, adapter in sorted(answering(live).items()):
        for drift in drifts(past.get(alias, ()), adapter):
            if drift.rule == "library" and drift.standing is DriftStatus.SERVING:
                servers = (
                    server
                    for share in routes[alias].shares
                    if share.adapter == adapter
                    for server in share.servers
                )
                yield DriftCause(
                    route_address(alias),
                    DriftAction.ALERT,
                    f"{adapter} answers with an accuracy of {drift.reason}",
                    tuple(adapter_address(adapter, server) for server in servers),
                    f"fleetctl adapter verify {adapter}",
                )
