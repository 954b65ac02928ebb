"""Folds ledger entries, in order, into a `History`. `events.py` defines the events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import assert_never

from fleet.decoding import operation_result, resource_of_plain
from fleet.errors import FleetError
from fleet.history.apply_events import (
    Adopted,
    ApplyFinished,
    ApplyStarted,
    CopyDamaged,
    CostTermsChanged,
    Frozen,
    Noted,
    PassiveEvent,
    PlanApproved,
    StepFailed,
    StepFinished,
    StepStarted,
    Thawed,
)
from fleet.history.blocks import loaded_bytes, routed_to
from fleet.history.damage import with_damage
from fleet.history.events import Entry
from fleet.history.fold_rollouts import RolloutsFold
from fleet.history.freezes import freeze_after
from fleet.history.rollout_events import (
    GateJudged,
    Released,
    RetrainClaimed,
    RetrainReleased,
    RolledBack,
    RolloutMarked,
)
from fleet.history.settings import with_changes
from fleet.history.upgrade_events import UpgradeFields
from fleet.history.values import (
    Block,
    BlockKind,
    History,
    RolloutStage,
    UnfinishedStep,
    latest_time,
)
from fleet.names import Address, address_parts, route_address, server_of_address, step_parts
from fleet.plan import Freeze
from fleet.resources import FULL, Key, LoadedAdapter, Resource, Route, Server, State


def fold_entries(entries: Iterable[Entry], before: History | None = None) -> History:
    """Return the history that entries, oldest first, amount to; unknown kinds are passed over.

    `before`: that of the entries before these; None: there are none.

    Raises:
        FleetError: FC3043, an entry's resource is none: a field is wrong, a name is no name.
    """
    past = _Past.of(before or History())
    for entry in entries:
        entry_id = entry.event.entry_id
        if entry_id in past.entry_ids or entry.is_late_repair:  # a hung home wrote it twice
            entry = replace(entry, event=Noted())  # noqa: PLW2901 (its time counts)
        try:
            past.take(entry)
        except (ValueError, KeyError) as error:
            raise FleetError.of(
                "FC3043",
                "Ledger entry has a wrong resource",
                f"Entry {entry.seq}, by {entry.by}: {error}. fleetctl writes no such entry.",
                hint="Put the ledger back from a backup; what is live goes on meanwhile.",
                command="fleetctl history --limit 5",
            ) from None
        past.entry_ids |= {entry_id} if entry_id else set()
    return past.history()


def settled(history: History, live: State) -> History:
    """Decide by the live state how unfinished steps ended; unobservable steps stay unfinished.

    A step whose effect is live counts as finished at its start; any other step never happened.
    """
    past = _Past.of(history)
    for name, step in history.unfinished.items():
        if not live.knows(step.address):
            continue
        del past.unfinished[name]
        changes, after = operation_result(step.operation)
        is_live = changes and live.resources.get(step.address) == after
        if is_live and step_parts(name)[0] != "divert":  # which its own run undoes
            past.became(step.address, after, step.started)
    return past.history()


_LISTED = ("holds", "evidence", "rejected", "marks", "released", "fell", "passes")
"""Fields of `History` sorted by key, without keys that have nothing in them."""
_SETS = "owned", "answered_all", "entry_ids", "returning"


@dataclass(slots=True)
class _Past(RolloutsFold):
    """A history while entries are being added."""

    seq: int = 0
    fleet_id: str = ""
    as_of: datetime | None = None
    freeze: Freeze | None = None
    settings: Mapping[str, str] | None = None
    stages: dict[str, RolloutStage] = field(default_factory=dict)
    holds: dict[str, dict[str, Block]] = field(default_factory=dict)
    cutovers: dict[str, datetime] = field(default_factory=dict)
    answered_all: set[str] = field(default_factory=set)
    boots: dict[str, str] = field(default_factory=dict)
    owned: set[str] = field(default_factory=set)
    unfinished: dict[str, UnfinishedStep] = field(default_factory=dict)
    established: dict[Address, Resource] = field(default_factory=dict)
    damage: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    on: dict[str, dict[Address, None]] = field(default_factory=dict)
    """By server: addresses of its adapters, so that a stop costs what the server held."""

    @classmethod
    def of(cls, history: History) -> "_Past":
        values = {item.name: getattr(history, item.name) for item in fields(History)}
        values |= {name: dict(its) for name, its in values.items() if isinstance(its, Mapping)}
        past = cls(**values | {name: set(values[name]) for name in _SETS})
        for address in (*past.owned, *past.established):
            past._list(Address(address))
        return past

    def history(self) -> History:
        values = {item.name: getattr(self, item.name) for item in fields(History)}
        for name in _LISTED:
            values[name] = {key: found for key, found in sorted(values[name].items()) if found}
        return History(**values | {name: frozenset(values[name]) for name in _SETS})

    def take(self, entry: Entry) -> None:  # noqa: C901, PLR0912 (a case a kind)
        """Add an entry."""
        self.seq, self.as_of = entry.seq, latest_time(self.as_of, entry)
        self.consented(entry)
        match entry.event:
            case StepStarted() as event:
                self._started(event, entry.time)
            case StepFinished() as event:
                self._finished(event, entry.time)
            case StepFailed(unsure=False, step=step) | Noted(step=str(step)):
                self.unfinished.pop(step, None)
            case ApplyStarted(settings=settings, fleet_id=drawn):
                self.fleet_id = self.fleet_id or drawn or ""
                self.settings = self.settings if settings is None else self.settings or {}
            case ApplyFinished(boots=boots, gone=gone, settings=settings):
                self.boots |= boots
                self.returning -= boots.keys()
                if settings is not None:
                    self.settings = with_changes(self.settings or {}, settings)
                for address in gone:
                    self._gone(Address(address))
            case RolledBack() as event:
                self._rolled_back(event, entry)
            case Released() as event:
                self._released(event, entry.time)
            case Frozen() | Thawed():
                self.freeze = freeze_after([entry], self.freeze)
            case Adopted() as event:
                self.became(Address(event.address), resource_of_plain(event.resource), entry.time)
                self._booted(event)
            case CostTermsChanged(changed=changed):
                self.cost_terms = with_changes(self.cost_terms, changed)
            case CopyDamaged() as event:
                self.damage = with_damage(self.damage, [event])
            case GateJudged() as event:
                stage = self._stage(event)
                if self.judged(event, entry) and stage:
                    self.stages[event.alias] = replace(stage, restarted=entry.time)
            case RolloutMarked() as event:
                self.marked(event, entry, self._stage(event))
            case RetrainClaimed() | RetrainReleased() as event:
                self.claimed(event, entry)
            case UpgradeFields() as event:
                self.upgraded(event, entry)
            case PassiveEvent() | StepFailed() | Noted() | PlanApproved():
                pass
            case event:
                assert_never(event)

    def _stage(self, event: GateJudged | RolloutMarked) -> RolloutStage | None:
        """Return the current stage of the version of an event."""
        stage = self.stages.get(event.alias)
        return stage if stage and stage.adapter == event.adapter else None

    def _started(self, event: StepStarted, time: datetime) -> None:
        address = Address(event.address)
        self.unfinished[event.step] = UnfinishedStep(event.step, address, event.operation, time)
        self.tried(event, event.operation)
        if operation_result(event.operation)[1] is not None:  # whatever comes of it, it is ours
            self._own(address)

    def _finished(self, event: StepFinished, time: datetime) -> None:
        begun = self.unfinished.pop(event.step, None)
        operation = begun.operation if begun else event.operation or {}
        changes, after = operation_result(operation)
        self.tried(event, operation)
        self.timed(event, after, time - begun.started if begun else None)
        if changes and step_parts(event.step)[0] != "divert":
            when = begun.started if begun and event.how == "recovered" else time
            self.became(Address(event.address), after, when)
        self._booted(event)

    def _booted(self, event: StepFinished | Adopted) -> None:
        if event.boot:
            _, server = address_parts(event.address)
            self.boots[server] = event.boot

    def became(self, address: Address, after: Resource | None, when: datetime) -> None:
        """Note a resource as of `when`; None: the resource is gone."""
        kind, name = address_parts(address)
        match after:
            case None:
                before = self.established.get(address)
                self._gone(address)
                if isinstance(before, Route):
                    self.stages.pop(before.alias, None)
                if kind == "server":
                    self.boots.pop(name, None)
                    held = self.on.get(name, {}).keys()
                    for adapter in sorted(held - routed_to(self.established, name)):
                        self._gone(adapter)
            case Route():
                self._routed(after, when)
                self._own(address)
            case Server() | LoadedAdapter() | Key():
                self.established[address] = after
                self._own(address)

    def _routed(self, route: Route, when: datetime) -> None:
        """Note a route's stage, and the versions that lost their share with the route."""
        known = self.established
        before, known[route.address] = known.get(route.address), route
        self.shifted(before, route, when)
        shares, top = {share.adapter: share.percent for share in route.shares}, route.shares[0]
        for gone in before.shares if isinstance(before, Route) else ():
            if gone.adapter not in shares:
                self.cutovers.pop(gone.adapter, None)
        for adapter, percent in shares.items():
            if percent == FULL or not (isinstance(before, Route) or adapter == top.adapter):
                self.answered_all.add(adapter)
            if percent:
                self.cutovers.pop(adapter, None)
                self.serves(route.alias, adapter, loaded_bytes(known, route, adapter))
            elif adapter != route.shadow:  # it gets copies, and has not lost a share by that
                self.cutovers.setdefault(adapter, when)
        stage = self.stages.get(route.alias)
        if stage is None or (stage.adapter, stage.percent) != (top.adapter, top.percent):
            self.superseded(route.alias, top.adapter)
            if stage is not None and stage.adapter == top.adapter and not top.percent:
                digest = loaded_bytes(known, route, top.adapter)
                lost = Block(BlockKind.ROLLED_BACK, top.adapter, when, digest=digest)
                self.fell[route.alias] = {**self.fell.get(route.alias, {}), top.adapter: lost}
            self.stages[route.alias] = RolloutStage(top.adapter, top.percent, when)

    def _rolled_back(self, event: RolledBack, entry: Entry) -> None:
        route = self.established.get(route_address(event.alias))
        holds = dict(self.holds.get(event.alias, {}))
        if event.adapter:
            digest, gate = loaded_bytes(self.established, route, event.adapter), event.gate or ""
            holds[event.adapter] = Block(
                BlockKind.HELD, event.adapter, entry.time, entry.by, event.reason, gate, digest
            )
        holds.pop(event.to, None)
        self.holds[event.alias] = holds
        if isinstance(route, Route):
            shares = (replace(s, percent=FULL * (s.adapter == event.to)) for s in route.shares)
            self._routed(replace(route, shares=tuple(shares)), entry.time)

    def _released(self, event: Released, time: datetime) -> None:
        """Forget holds; the route that is live now is where the rollout goes on from."""
        alias, left = event.alias, self.holds.pop(event.alias, {})
        self.release(alias, event.adapter or "", left)
        if event.adapter:
            self.holds[alias] = {name: left[name] for name in left if name != event.adapter}
        route = resource_of_plain(event.route) if event.route else None
        if isinstance(route, Route):
            self.stages.pop(alias, None)
            self._routed(route, time)

    def _own(self, address: Address) -> None:
        self.owned.add(address)
        self._list(address)

    def _list(self, address: Address) -> None:
        if server := server_of_address(address):
            self.on.setdefault(server, {})[address] = None

    def _gone(self, address: Address) -> None:
        self.established.pop(address, None)
        self.owned.discard(address)
        self.on.get(server_of_address(address), {}).pop(address, None)
