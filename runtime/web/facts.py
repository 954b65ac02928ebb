"""Define the facts of an operator's pages, and the makers of documents that are handed in.

The plain form of a page's facts is its `.json`, its table is its `.csv`, and its HTML is made from
nothing else. The facts of a client's pages have types of their own, in `client_facts`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from fleet.alerting import Alert, WhyWorse
from fleet.costing import Bill, MonthCost
from fleet.history import Entry
from fleet.plan import Plan
from fleet.planning import DriftCause
from fleet.rollouts import RolloutStatus
from fleet.spec import FleetSpec
from runtime.web.usage import HourFacts, UsageFacts

Document: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Documents:
    """Makers of documents that command lines print too; handed in, as `plans` makes them."""

    rollout: Callable[[FleetSpec, RolloutStatus], Document]
    cause: Callable[[DriftCause], Document]
    cost: Callable[[Bill, str | None], tuple[Document, tuple[Document, ...]]]
    """Report of a month and its rounded lines, of a client or of all."""
    client_costs: Callable[[Bill | None, MonthCost | None, Iterable[str]], Mapping[str, Document]]
    """Cost of clients beside their fees, by name: of a bill, the month before, further clients."""
    cost_days: Callable[[MonthCost], tuple[Document, ...]]
    """Cost of devices by day and client."""
    invoice: Callable[[Bill, str], tuple[Document, Document]]
    """Invoice of a client and its report."""
    alerts: Callable[[Sequence[Alert]], list[dict[str, Any]]]
    """Alerts that are open, with a sentence."""
    why: Callable[[WhyWorse], dict[str, Any]]
    plan: Callable[[Plan], str]
    """A plan as text."""
    sentence: Callable[[Entry], str]
    report: Callable[[Iterable[Entry], str, str, datetime], Document]
    """The report of a rollout to its client: entries, alias, full adapter name, now."""


@dataclass(frozen=True, slots=True)
class Heading:
    """The head of an operator's page."""

    fleet: str
    as_of: str
    """Time of the reading, ISO 8601, to the minute."""
    problem: str
    """Why a later reading failed; empty: the figures are of now."""
    frozen: str
    outages: int
    alerts: int
    drift: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VersionShare:
    """A version of an alias with its share of the requests."""

    version: str
    percent: int
    requests: int | None
    """Since the split last changed; None: not counted."""
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AliasRow:
    """An alias on the list of models."""

    alias: str
    client: str
    base: str
    tier: str
    declared: str
    state: str
    """`serving`, `rollout`, `waits`, `down` or `unknown`."""
    note: str
    since: str | None
    promise_s: float | None
    """Promised p95; None: none is declared."""
    versions: tuple[VersionShare, ...]
    requests: int
    """Of the last day, as all that follows."""
    errors: int
    refused: int
    """For a limit, or without a turn in time."""
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True)
class FleetPage:
    """The page `/`."""

    heading: Heading
    totals: Document
    hosts: tuple[Document, ...]
    servers: tuple[Document, ...]
    causes: tuple[Document, ...]
    """Outages alone."""
    aliases: tuple[AliasRow, ...]


@dataclass(frozen=True, slots=True)
class ModelsPage:
    """The page `/models`."""

    heading: Heading
    aliases: tuple[AliasRow, ...]


@dataclass(frozen=True, slots=True)
class ModelPage:
    """The page `/models/ALIAS`."""

    heading: Heading
    alias: AliasRow
    rollout: Document
    usage: UsageFacts
    hours: tuple[HourFacts, ...]
    versions: tuple[Document, ...]
    evals: tuple[Document, ...]
    events: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class RolloutsPage:
    """The page `/rollouts`; rollouts that wait for a person come first."""

    heading: Heading
    rollouts: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class AlertsPage:
    """The page `/alerts`: alerts that are open, and those that ended."""

    heading: Heading
    alerts: tuple[Document, ...]
    ended: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class DriftPage:
    """The page `/drift`."""

    heading: Heading
    causes: tuple[Document, ...]
    retraining: tuple[Document, ...]
    drills: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class PlansPage:
    """The page `/plans`: applies, newest first."""

    heading: Heading
    applies: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class PlanPage:
    """The page `/plans/RUN`: an apply with its steps."""

    heading: Heading
    apply: Document
    steps: tuple[Document, ...]
