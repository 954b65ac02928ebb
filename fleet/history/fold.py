"""Folds ledger entries, in order, into a `History`. `entry.py` lists the kinds of entries."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from fleet.decoding import operation_result, resource_of_plain
from fleet.history.blocks import loaded_bytes
from fleet.history.entry import Entry
from fleet.history.fold_rollouts import RolloutsFold
from fleet.history.values import History, RollbackHold, RolloutStage, UnfinishedStep, latest_time
from fleet.names import Address, address_parts, name_in_address, route_address, server_of_address
from fleet.resources import FULL, Key, LoadedAdapter, Resource, Route, Server, State


def fold_entries(entries: Iterable[Entry]) -> History:
    """Return what the entries, oldest first, amount to; unknown kinds are passed over."""
    past, said = _Past(), set[str]()
    for entry in entries:
        late = str(entry.data.get("entry_id", ""))  # of what was queued while the home hung, and
        past.take(replace(entry, kind="note", data={}) if late in said else entry)  # written twice
        said |= {late} if late else set()
    return past.history()


def settled(history: History, live: State) -> History:
    """Decide by the live state how unfinished steps ended; unobservable steps stay unfinished.

    One whose effect is there finished when it was started; the others never happened.
    """
    past = _Past.of(history)
    for step, each in history.unfinished.items():
        if not live.knows(each.address):
            continue
        del past.unfinished[step]
        changes, after = operation_result(each.operation)
        if changes and live.resources.get(each.address) == after:
            past.became(each.address, after, each.started)
    return past.history()


@dataclass(slots=True)
class _Past:
    """A history while entries are being added."""

    seq: int = 0
    as_of: datetime | None = None
    stages: dict[str, RolloutStage] = field(default_factory=dict)
    holds: dict[str, dict[str, RollbackHold]] = field(default_factory=dict)
    cutovers: dict[str, datetime] = field(default_factory=dict)
    answered_all: set[str] = field(default_factory=set)
    boots: dict[str, str] = field(default_factory=dict)
    owned: dict[str, None] = field(default_factory=dict)
    unfinished: dict[str, UnfinishedStep] = field(default_factory=dict)
    established: dict[Address, Resource] = field(default_factory=dict)
    on: dict[str, dict[Address, None]] = field(default_factory=dict)
    """By server: addresses of its adapters, so that a stop costs what the server held."""
    trials: RolloutsFold = field(default_factory=RolloutsFold)

    @classmethod
    def of(cls, history: History) -> "_Past":
        past = cls(
            history.seq,
            history.as_of,
            dict(history.stages),
            {alias: dict(hold) for alias, hold in history.holds.items()},
            dict(history.cutovers),
            set(history.answered_all),
            dict(history.boots),
            dict.fromkeys(sorted(history.owned)),
            dict(history.unfinished),
            dict(history.established),
            trials=RolloutsFold.of(
                history.evidence,
                history.rejected,
                history.marks,
                history.claims,
                history.evals,
                history.released,
                history.fell,
            ),
        )
        for address in {*past.owned, *past.established}:
            past._list(Address(address))
        return past

    def history(self) -> History:
        return History(
            self.seq,
            self.stages,
            {alias: hold for alias, hold in self.holds.items() if hold},
            self.cutovers,
            frozenset(self.answered_all),
            self.boots,
            frozenset(self.owned),
            self.unfinished,
            self.established,
            *self.trials.fields(),
            as_of=self.as_of,
        )

    def take(self, entry: Entry) -> None:
        """Add an entry."""
        self.seq, self.as_of = entry.seq, latest_time(self.as_of, entry.time, entry.kind)
        data = entry.data
        match entry.kind:
            case "step_started":
                self._started(entry)
            case "step_finished":
                self._finished(entry)
            case "step_failed" | "note" if not data.get("unsure"):
                self.unfinished.pop(str(data.get("step")), None)
            case "apply_finished":
                self.boots |= data.get("boots", {})
                for address in data.get("gone", ()):
                    self._gone(Address(address))
            case "rolled_back":
                self._rolled_back(entry)
            case "released":
                self._released(entry)
            case "adopted":
                self.became(
                    Address(data["address"]), resource_of_plain(data["resource"]), entry.time
                )
                self._booted(data)
            case _:
                self._tried(entry)

    def _tried(self, entry: Entry) -> None:
        """Add an entry about a rollout or a training, which changes no resource."""
        alias = str(entry.data.get("alias"))
        stage = self.stages.get(alias)
        its = stage if stage and stage.adapter == entry.data.get("adapter") else None
        at = (its.entered, its.percent) if its else (None, None)
        match entry.kind:
            case "gate_judged" if self.trials.judged(entry) and its:
                self.stages[alias] = replace(its, restarted=entry.time)
            case "rollout_marked":
                self.trials.marked(entry, *at)
            case "eval_finished":
                self.trials.evaluated(entry)
            case "retrain_claimed":
                self.trials.claimed(entry)
            case "retrain_released":
                self.trials.unclaimed(entry)
            case _:
                pass

    def _started(self, entry: Entry) -> None:
        data = entry.data
        address = Address(data["address"])
        step = UnfinishedStep(data["step"], address, data["operation"], entry.time)
        self.unfinished[step.step] = step
        changes, after = operation_result(step.operation)
        if changes and after is not None:  # whatever comes of it, it is ours
            self._own(address)

    def _finished(self, entry: Entry) -> None:
        data = entry.data
        begun = self.unfinished.pop(data["step"], None)
        operation = begun.operation if begun else data.get("operation", {})
        changes, after = operation_result(operation)
        if changes:
            when = begun.started if begun and data["how"] == "recovered" else entry.time
            self.became(Address(data["address"]), after, when)
        self._booted(data)

    def _booted(self, data: Mapping[str, Any]) -> None:
        if data.get("boot"):
            self.boots[name_in_address(data["address"])] = data["boot"]

    def became(self, address: Address, after: Resource | None, when: datetime) -> None:
        """Note a resource as of `when`; None: the resource is gone."""
        kind, name = address_parts(address)
        match after:
            case None:
                for held in self.on.pop(name, {}) if kind == "server" else ():
                    self._gone(held)
                before = self.established.get(address)
                self._gone(address)
                if isinstance(before, Route):
                    self.stages.pop(before.alias, None)
                if kind == "server":
                    self.boots.pop(name, None)
            case Route():
                self._routed(after, when)
                self._own(address)
            case Server() | LoadedAdapter() | Key():
                self.established[address] = after
                self._own(address)

    def _routed(self, route: Route, when: datetime) -> None:
        """Note a route's stage, and which versions lost their share with it."""
        known = self.established
        before, known[route.address] = known.get(route.address), route
        shares, top = {share.adapter: share.percent for share in route.shares}, route.shares[0]
        for gone in before.shares if isinstance(before, Route) else ():
            if gone.adapter not in shares:
                self.cutovers.pop(gone.adapter, None)
        for adapter, percent in shares.items():
            if percent == FULL or not (isinstance(before, Route) or adapter == top.adapter):
                self.answered_all.add(adapter)
            if percent:
                self.cutovers.pop(adapter, None)
                self.trials.serves(route.alias, adapter, loaded_bytes(known, route, adapter))
            elif adapter != route.shadow:  # it gets copies, and has not lost a share by that
                self.cutovers.setdefault(adapter, when)
        stage = self.stages.get(route.alias)
        if stage is None or (stage.adapter, stage.percent) != (top.adapter, top.percent):
            self.trials.superseded(route.alias, top.adapter)
            if stage is not None and stage.adapter == top.adapter and not top.percent:
                self.trials.fell(route.alias, top.adapter, loaded_bytes(known, route, top.adapter))
            self.stages[route.alias] = RolloutStage(top.adapter, top.percent, when)

    def _rolled_back(self, entry: Entry) -> None:
        data, alias = entry.data, str(entry.data["alias"])
        route = self.established.get(route_address(alias))
        if held := data.get("adapter"):
            said = str(data.get("reason", "")), str(data.get("gate") or "")
            digest = loaded_bytes(self.established, route, held)
            self.holds.setdefault(alias, {})[held] = RollbackHold(
                held, entry.time, entry.by, *said, digest
            )
        self.holds.get(alias, {}).pop(str(data["to"]), None)
        if isinstance(route, Route):
            shares = (replace(e, percent=FULL * (e.adapter == data["to"])) for e in route.shares)
            self._routed(replace(route, shares=tuple(shares)), entry.time)

    def _released(self, entry: Entry) -> None:
        """Forget holds; the route that is live now is where the rollout goes on from."""
        data, alias = entry.data, str(entry.data["alias"])
        self.trials.released(alias, str(data.get("adapter") or ""), self.holds.get(alias, ()))
        if data.get("adapter"):
            self.holds.get(alias, {}).pop(data["adapter"], None)
        else:
            self.holds.pop(alias, None)
        route = resource_of_plain(data["route"]) if data.get("route") else None
        if isinstance(route, Route):
            self.stages.pop(alias, None)
            self._routed(route, entry.time)

    def _own(self, address: Address) -> None:
        self.owned[address] = None
        self._list(address)

    def _list(self, address: Address) -> None:
        if server := server_of_address(address):
            self.on.setdefault(server, {})[address] = None

    def _gone(self, address: Address) -> None:
        self.established.pop(address, None)
        self.owned.pop(address, None)
        self.on.get(server_of_address(address), {}).pop(address, None)
