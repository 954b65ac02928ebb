"""Folds ledger entries, in order, into a `History`: a function for every kind of event.

Rollouts, routes and upgrades are folded in `fold_rollouts`, the events are defined by `events`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from fleet.consent import Approval
from fleet.decoding import operation_result, resource_of_plain
from fleet.errors import FleetError
from fleet.history.apply_events import (
    Adopted,
    ApplyFinished,
    ApplyStarted,
    CopyDamaged,
    CostTermsChanged,
    Document,
    Frozen,
    Noted,
    PlanApproved,
    StepFailed,
    StepFinished,
    StepStarted,
    Thawed,
)
from fleet.history.blocks import routed_to
from fleet.history.damage import with_damage
from fleet.history.events import Entry, LedgerEvent
from fleet.history.fold_rollouts import (
    gate_judged,
    released,
    retrain_claimed,
    retrain_released,
    rolled_back,
    rollout_marked,
    routed,
    upgrade_decided,
    upgrade_judged,
)
from fleet.history.freezes import freeze_after
from fleet.history.past import Past
from fleet.history.rollout_events import (
    GateJudged,
    Released,
    RetrainClaimed,
    RetrainReleased,
    RolledBack,
    RolloutMarked,
    UpgradeDecided,
    UpgradeJudged,
)
from fleet.history.settings import with_changes
from fleet.history.signatures import KeyAccepted, keys_after
from fleet.history.values import History, SmokePass, UnfinishedStep, latest_time
from fleet.names import (
    Address,
    adapter_of_address,
    address_parts,
    name_in_address,
    server_of_address,
    step_parts,
)
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State
from fleet.steps import duration_key

STEADY: Final = 1.5
"""Least factor between a duration and the known duration that makes way: so a plan that is made
again shows the same seconds."""


def fold_entries(entries: Iterable[Entry], before: History | None = None) -> History:
    """Return the history that entries, oldest first, amount to; unknown kinds are passed over.

    `before`: that of the entries before these; None: there are none.

    Raises:
        FleetError: FC3043, an entry's resource is none: a field is wrong, a name is no name.
    """
    past = Past.of(before or History())
    for entry in entries:
        entry_id = entry.event.entry_id
        if entry_id in past.entry_ids or entry.is_late_repair:  # a hung home wrote it twice
            entry = replace(entry, event=Noted())  # noqa: PLW2901 (its time counts)
        past.seq, past.as_of = entry.seq, latest_time(past.as_of, entry)
        if not past.keys or isinstance(entry.event, KeyAccepted):
            past.keys = keys_after(past.keys, entry.seq, entry.event, entry.signature)
        take = FOLDED.get(type(entry.event))
        try:
            if take is not None:
                take(past, entry.event, entry)
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
    past = Past.of(history)
    for name, step in history.unfinished.items():
        if not live.knows(step.address):
            continue
        del past.unfinished[name]
        changes, after = operation_result(step.operation)
        is_live = changes and live.resources.get(step.address) == after
        if is_live and step_parts(name)[0] != "divert":  # which its own run undoes
            _established(past, step.address, after, step.started)
    return past.history()


def _apply_started(past: Past, event: ApplyStarted, _: Entry) -> None:
    past.fleet_id = past.fleet_id or event.fleet_id or ""
    past.settings = past.settings if event.settings is None else past.settings or {}


def _apply_finished(past: Past, event: ApplyFinished, _: Entry) -> None:
    """Take the end of an apply, which uses up the approvals of its plan.

    A plan that was carried out half-way keeps its approvals: the same plan is applied again.
    """
    if event.result == "converged":
        past.approvals.pop(event.plan_id, None)
    past.boots |= event.boots
    past.returning -= event.boots.keys()
    if event.settings is not None:
        past.settings = with_changes(past.settings or {}, event.settings)
    for address in event.gone:
        past.disown(Address(address))


def _step_started(past: Past, event: StepStarted, entry: Entry) -> None:
    address = Address(event.address)
    past.unfinished[event.step] = UnfinishedStep(event.step, address, event.operation, entry.time)
    _tried(past, event, event.operation)
    if operation_result(event.operation)[1] is not None:  # whatever comes of it, it is ours
        past.own(address)


def _step_finished(past: Past, event: StepFinished, entry: Entry) -> None:
    begun = past.unfinished.pop(event.step, None)
    operation = begun.operation if begun else event.operation or {}
    changes, after = operation_result(operation)
    _tried(past, event, operation)
    if begun and event.how == "done":
        _took(past, duration_key(step_parts(event.step)[0], after), entry.time - begun.started)
    if changes and step_parts(event.step)[0] != "divert":
        when = begun.started if begun and event.how == "recovered" else entry.time
        _established(past, Address(event.address), after, when)
    _booted(past, event)


def _step_failed(past: Past, event: StepFailed, _: Entry) -> None:
    if not event.unsure:
        past.unfinished.pop(event.step, None)


def _noted(past: Past, event: Noted, _: Entry) -> None:
    if event.step is not None:
        past.unfinished.pop(event.step, None)


def _adopted(past: Past, event: Adopted, entry: Entry) -> None:
    resource = resource_of_plain(event.resource)
    _established(past, Address(event.address), resource, entry.time)
    _booted(past, event)


def _plan_approved(past: Past, event: PlanApproved, entry: Entry) -> None:
    made = Approval(entry.by, entry.time, event.reason, event.accept_outage)
    past.approvals[event.plan_id] = (*past.approvals.get(event.plan_id, ()), made)


def _freeze_changed(past: Past, _: Frozen | Thawed, entry: Entry) -> None:
    past.freeze = freeze_after([entry], past.freeze)


def _cost_terms_changed(past: Past, event: CostTermsChanged, _: Entry) -> None:
    past.cost_terms = with_changes(past.cost_terms, event.changed)


def _copy_damaged(past: Past, event: CopyDamaged, _: Entry) -> None:
    past.damage = with_damage(past.damage, [event])


def _tried(past: Past, event: StepStarted | StepFinished, operation: Document) -> None:
    """Take the begin or the success of a step, for restarts and for smoke tests that were passed.

    A version that is loaded or asked anew has no pass until the end of its smoke test, so that
    a test that fails, or whose run is killed, leaves none.
    """
    name = name_in_address(event.address)
    match event, operation:
        case StepStarted(), {"verb": "start" | "stop"}:
            past.passes.pop(name, None)
            past.returning.add(name)
        case StepFinished(), {"verb": "start" | "stop"} if not operation.get("again"):
            past.returning.discard(name)
        case StepStarted(), {"verb": "load" | "unload" | "smoke"}:
            _put_pass(past, event.address, None)
        case StepFinished(), {"verb": "smoke", "adapter": {"digest": str() | None as digest}}:
            _put_pass(past, event.address, SmokePass(digest, event.launch))
        case _:
            pass


def _put_pass(past: Past, address: str, passed: SmokePass | None) -> None:
    server, adapter = server_of_address(address), adapter_of_address(address)
    others = {n: p for n, p in past.passes.get(server, {}).items() if n != adapter}
    past.passes[server] = {**others, **({adapter: passed} if passed else {})}


def _took(past: Past, key: str, duration: timedelta) -> None:
    """Take the duration of a start or a load that a run did itself; empty key: another step."""
    seconds, known = round(max(duration.total_seconds(), 0.1), 1), past.durations.get(key)
    if key and (known is None or not known / STEADY <= seconds <= known * STEADY):
        past.durations[key] = seconds


def _booted(past: Past, event: StepFinished | Adopted) -> None:
    if event.boot:
        past.boots[address_parts(event.address)[1]] = event.boot


def _established(past: Past, address: Address, after: Resource | None, when: datetime) -> None:
    """Note a resource as of `when`; None: the resource is gone."""
    match after:
        case None:
            _removed(past, address)
        case Route():
            routed(past, after, when)
            past.own(address)
        case Server() | LoadedAdapter() | Key():
            past.established[address] = after
            past.own(address)


def _removed(past: Past, address: Address) -> None:
    """Note that a resource is gone; what is loaded on a server goes with the server."""
    kind, name = address_parts(address)
    before = past.established.get(address)
    past.disown(address)
    if isinstance(before, Route):
        past.stages.pop(before.alias, None)
    if kind == "server":
        past.boots.pop(name, None)
        loaded = past.on.get(name, {}).keys()
        for adapter in sorted(loaded - routed_to(past.established, name)):
            past.disown(adapter)


FOLDED: Final[Mapping[type[LedgerEvent], Callable[[Past, Any, Entry], None]]] = MappingProxyType(
    {
        ApplyStarted: _apply_started,
        ApplyFinished: _apply_finished,
        StepStarted: _step_started,
        StepFinished: _step_finished,
        StepFailed: _step_failed,
        Noted: _noted,
        Adopted: _adopted,
        PlanApproved: _plan_approved,
        Frozen: _freeze_changed,
        Thawed: _freeze_changed,
        CostTermsChanged: _cost_terms_changed,
        CopyDamaged: _copy_damaged,
        RolledBack: rolled_back,
        Released: released,
        GateJudged: gate_judged,
        RolloutMarked: rollout_marked,
        RetrainClaimed: retrain_claimed,
        RetrainReleased: retrain_released,
        UpgradeJudged: upgrade_judged,
        UpgradeDecided: upgrade_decided,
    }
)
"""How an entry of a kind changes the past; no entry of another kind does."""
