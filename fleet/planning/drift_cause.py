"""Causes of drift as values."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleet.names import Address
from fleet.resources import OutageKind


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
