"""Folds ledger entries, in order, into a `History`: a function for every kind of event.

Rollouts, routes and upgrades are folded in `fold_rollouts`, the events are defined by `events`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar

from fleet.codec import operation_result, resource_of_plain
from fleet.consent import Approval
from fleet.errors import FleetError, FrozenError
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
from fleet.history.events import Entry, LedgerEvent
from fleet.history.fold_rollouts import FOLDED_ROLLOUTS, Past, routed
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
from fleet.plan import Freeze, Plan, SettingChange
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State
from fleet.steps import duration_key

Damage: TypeAlias = Mapping[str, Mapping[str, str]]
"""By path of a copy that was damaged: the boot of every server that may have read it."""

MAY_ANSWER_OTHER_BYTES: Final = (
    "it may answer other bytes: its copy was damaged while the server could read it, and a server "
    "keeps what it read; it is loaded again from a fresh path"
)
"""Reason against an unsure adapter, as part of a sentence."""


def with_damage(damage: Damage, found: Iterable[CopyDamaged]) -> Damage:
    """Return the damage known so far and in further events."""
    known = {path: dict(boots) for path, boots in damage.items()}
    for event in found:
        known.setdefault(event.path, {}).update(event.boots)
    return known


def marked_unsure(live: State, damage: Damage) -> State:
    """Return the live state with every adapter marked that may answer other bytes.

    A boot that is not known may be that of the damage.
    """

    def is_unsure(adapter: LoadedAdapter) -> bool:
        boots = damage.get(adapter.path, {})
        then, now = boots.get(adapter.server), live.boots.get(adapter.server)
        return then is not None and (not then or not now or then == now)

    marked = {
        address: replace(adapter, unsure=True)
        for address, adapter in live.adapters().items()
        if is_unsure(adapter)
    }
    return replace(live, resources={**live.resources, **marked}) if marked else live


def found_damage(
    faults: Mapping[str, str], history: History, live: State
) -> tuple[CopyDamaged, ...]:
    """Return the events of damage that the ledger does not know yet, sorted by path.

    Args:
        faults: By path as servers list it: what is wrong with the copy.
        history: The ledger, folded.
        live: The observed state. A server that does not answer may have read the copy, too.
    """
    events = []
    for path, fault in sorted(faults.items()):
        users = [adapter for adapter in live.adapters().values() if adapter.path == path]
        digest = next((adapter.digest for adapter in users if adapter.digest), "")
        boots = {adapter.server: live.boots.get(adapter.server, "") for adapter in users}
        boots |= {
            held.server: history.boots.get(held.server, "")
            for held in history.established.values()
            if isinstance(held, LoadedAdapter) and held.digest == digest
            if held.server in live.unknown_servers
        }
        if boots.items() - history.damage.get(path, {}).items():
            events.append(CopyDamaged(digest, path, fault, dict(sorted(boots.items()))))
    return tuple(events)


def freeze_after(entries: Iterable[Entry], before: Freeze | None = None) -> Freeze | None:
    """Return the freeze that holds after entries, oldest first; None: there is none.

    `before`: the freeze that holds before the entries. The first of two freezes counts.
    """
    for entry in entries:
        match entry.event:
            case Frozen(reason=reason):
                before = before or Freeze(entry.by, entry.time, reason)
            case Thawed():
                before = None
            case _:
                pass
    return before


def frozen_fleet(freeze: Freeze, stopped: str) -> FrozenError:
    """Return the error of work that a freeze stops; `stopped` is a clause without full stop."""
    detail = (
        f"{freeze.by} froze it at {freeze.at:%Y-%m-%d %H:%M} UTC: {freeze.reason}. {stopped}; "
        "`plan`, healing, gates and `rollback` go on."
    )
    hint = "Ask first whether the reason is over; then:"
    command = "fleetctl thaw"
    return FrozenError.of("FC6067", "The fleet is frozen", detail, hint=hint, command=command)


Value = TypeVar("Value")
_RESOURCES: Final = re.compile(r"clients\.[^.]+\.(?:adapters\.[^.]+\.(?:version|base)|keys\.[^.]+)")
"""Paths of values that the live state shows as adapters, routes and keys."""
_ACTING: Final = frozenset(
    {"python", "image", "vllm", "engine", "address", "store", "url", "paths", "library", "model"}
    | {"flags", "listen", "admin", "secret", "gateways", "retrain", "command", "judge", "notify"}
)
"""Parts of paths: commands run, contact, read or write what is declared there."""
_OF_RAY: Final = re.compile(r"hosts\.[^.]+\.(?:cluster|node|token|insecure)")
"""Paths of the same; the words are also names that hosts have."""


def settings_due(declared: Mapping[str, str], history: History) -> tuple[SettingChange, ...]:
    """Return the settings that differ from the last apply, by path.

    All, where nothing was ever applied; none, where an earlier release applied and recorded none.
    """
    applied = history.settings
    if applied is None:
        if history.owned or history.established:
            return ()
        applied = {}
    return tuple(
        SettingChange(
            path,
            applied.get(path),
            declared.get(path),
            not _ACTING.isdisjoint(path.split(".")) or _OF_RAY.fullmatch(path) is not None,
        )
        for path in sorted(declared.keys() | applied.keys())
        if applied.get(path) != declared.get(path) and _RESOURCES.fullmatch(path) is None
    )


def settings_to_record(
    plan: Plan, declared: Mapping[str, str], history: History
) -> dict[str, str | None]:
    """Return the settings that are in force once a plan is carried out, by path; None: the default.

    The first apply after one of an earlier release records all that is declared.
    """
    if history.settings is None and not plan.settings and (history.owned or history.established):
        return {path: value for path, value in declared.items() if not _RESOURCES.fullmatch(path)}
    return {setting.path: setting.after for setting in plan.settings}


def with_changes(
    before: Mapping[str, Value], recorded: Mapping[str, Value | None]
) -> dict[str, Value]:
    """Return settings, or documents by key, after a record of those that changed; None: gone."""
    merged = {**before, **recorded}
    return {path: value for path, value in merged.items() if value is not None}


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
        **FOLDED_ROLLOUTS,
    }
)
"""How an entry of a kind changes the past; no entry of another kind does."""
