"""Holds a history while entries are being added."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime

from fleet.consent import Approval
from fleet.history.apply_events import Document
from fleet.history.signatures import KeyTerm
from fleet.history.values import (
    Block,
    Claim,
    GateEvidence,
    History,
    RolloutMark,
    RolloutStage,
    SmokePass,
    TrafficShift,
    UnfinishedStep,
    UpgradeRecord,
)
from fleet.names import Address, server_of_address
from fleet.plan import Freeze
from fleet.resources import Resource

_LISTED = ("holds", "evidence", "rejected", "marks", "released", "fell", "passes")
"""Fields of `History` sorted by key, without keys that have nothing in them."""
_SETS = "owned", "answered_all", "entry_ids", "returning"


@dataclass(slots=True)
class Past:
    """A history to which entries are being added; the fields are those of `History`."""

    seq: int
    fleet_id: str
    as_of: datetime | None
    freeze: Freeze | None
    settings: Mapping[str, str] | None
    cost_terms: Mapping[str, Document]
    damage: Mapping[str, Mapping[str, str]]
    keys: Mapping[str, KeyTerm]
    stages: dict[str, RolloutStage]
    holds: dict[str, dict[str, Block]]
    cutovers: dict[str, datetime]
    answered_all: set[str]
    boots: dict[str, str]
    owned: set[str]
    unfinished: dict[str, UnfinishedStep]
    established: dict[Address, Resource]
    evidence: dict[str, tuple[GateEvidence, ...]]
    rejected: dict[str, dict[str, GateEvidence]]
    marks: dict[str, tuple[RolloutMark, ...]]
    """By alias: the latest mark of every kind and version stands last."""
    claims: dict[str, Claim]
    released: dict[str, frozenset[str]]
    fell: dict[str, dict[str, Block]]
    served: dict[str, str]
    approvals: dict[str, tuple[Approval, ...]]
    shifts: dict[str, tuple[TrafficShift, ...]]
    durations: dict[str, float]
    passes: dict[str, Mapping[str, SmokePass]]
    returning: set[str]
    upgrades: dict[str, UpgradeRecord]
    entry_ids: set[str]
    on: dict[str, dict[Address, None]] = field(default_factory=dict)
    """By server: addresses of its adapters, so that a stop costs what the server held."""

    @classmethod
    def of(cls, history: History) -> "Past":
        """Return a history that more entries can be added to."""
        values = {item.name: getattr(history, item.name) for item in fields(History)}
        values |= {name: dict(its) for name, its in values.items() if isinstance(its, Mapping)}
        past = cls(**values | {name: set(values[name]) for name in _SETS})
        for address in (*past.owned, *past.established):
            past._list(Address(address))
        return past

    def history(self) -> History:
        """Return the history so far."""
        values = {item.name: getattr(self, item.name) for item in fields(History)}
        for name in _LISTED:
            values[name] = {key: found for key, found in sorted(values[name].items()) if found}
        return History(**values | {name: frozenset(values[name]) for name in _SETS})

    def stage_of(self, alias: str, adapter: str) -> RolloutStage | None:
        """Return the current stage of a version; None: another version is rolled out."""
        stage = self.stages.get(alias)
        return stage if stage and stage.adapter == adapter else None

    def own(self, address: Address) -> None:
        """Note that fleetctl made, or is making, a resource."""
        self.owned.add(address)
        self._list(address)

    def disown(self, address: Address) -> None:
        """Note that a resource is gone."""
        self.established.pop(address, None)
        self.owned.discard(address)
        self.on.get(server_of_address(address), {}).pop(address, None)

    def _list(self, address: Address) -> None:
        if server := server_of_address(address):
            self.on.setdefault(server, {})[address] = None
