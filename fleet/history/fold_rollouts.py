"""Folds the entries about rollouts: routes, evidence, marks, rollbacks, claims, and upgrades.

Evidence, marks and claims stay when a route does not change. `FOLDED_ROLLOUTS` joins `fold.FOLDED`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Final

from fleet.codec import resource_of_plain
from fleet.consent import Approval
from fleet.gates import Finding, Verdict
from fleet.history.apply_events import Document
from fleet.history.blocks import loaded_bytes
from fleet.history.events import Entry, LedgerEvent
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
from fleet.history.signatures import KeyTerm
from fleet.history.values import (
    DAY,
    MARK_KINDS,
    Block,
    BlockKind,
    Claim,
    Evidence,
    GateEvidence,
    History,
    RolloutMark,
    RolloutStage,
    SmokePass,
    TrafficShift,
    UnfinishedStep,
    UpgradeDecision,
    UpgradeRecord,
    by_server,
    other_engine,
)
from fleet.names import Address, route_address, server_of_address
from fleet.plan import Freeze
from fleet.resources import FULL, Resource, Route

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


_OF_A_STAGE = ("approve", "advance", "extend")
"""Marks that hold for a single stage."""


def routed(past: Past, route: Route, when: datetime) -> None:
    """Note a route's stage, and the versions that lost their share with the route."""
    known = past.established
    before, top = known.get(route.address), route.shares[0]
    known[route.address] = route
    shares = {share.adapter: share.percent for share in route.shares}
    _shifted(past, before, route, when)
    for gone in before.shares if isinstance(before, Route) else ():
        if gone.adapter not in shares:
            past.cutovers.pop(gone.adapter, None)
    for adapter, percent in shares.items():
        if percent == FULL or not (isinstance(before, Route) or adapter == top.adapter):
            past.answered_all.add(adapter)
        if percent:
            past.cutovers.pop(adapter, None)
            _serves(past, route.alias, adapter, loaded_bytes(known, route, adapter))
        elif adapter != route.shadow:  # it gets copies, and has not lost a share by that
            past.cutovers.setdefault(adapter, when)
    stage = past.stages.get(route.alias)
    if stage is None or (stage.adapter, stage.percent) != (top.adapter, top.percent):
        _superseded(past, route.alias, top.adapter)
        if stage is not None and stage.adapter == top.adapter and not top.percent:
            digest = loaded_bytes(known, route, top.adapter)
            lost = Block(BlockKind.ROLLED_BACK, top.adapter, when, digest=digest)
            past.fell[route.alias] = {**past.fell.get(route.alias, {}), top.adapter: lost}
        past.stages[route.alias] = RolloutStage(top.adapter, top.percent, when)


def _rolled_back(past: Past, event: RolledBack, entry: Entry) -> None:
    """Take a rollback: the version that it held, and the route that it left."""
    route = past.established.get(route_address(event.alias))
    holds = dict(past.holds.get(event.alias, {}))
    if event.adapter:
        digest, gate = loaded_bytes(past.established, route, event.adapter), event.gate or ""
        holds[event.adapter] = Block(
            BlockKind.HELD, event.adapter, entry.time, entry.by, event.reason, gate, digest
        )
    holds.pop(event.to, None)
    past.holds[event.alias] = holds
    if isinstance(route, Route):
        shares = (replace(s, percent=FULL * (s.adapter == event.to)) for s in route.shares)
        routed(past, replace(route, shares=tuple(shares)), entry.time)


def _released(past: Past, event: Released, entry: Entry) -> None:
    """Forget the blocks of a version (none named: of every version), which is judged anew.

    The release is remembered until the version serves. The route that is live now is where the
    rollout goes on from.
    """

    def is_released(adapter: str) -> bool:
        return not event.adapter or adapter == event.adapter

    alias = event.alias
    holds, fell = past.holds.get(alias, {}), past.fell.get(alias, {})
    rejected, marks = past.rejected.get(alias, {}), past.marks.get(alias, ())
    failed = {item.adapter for item in rejected.values()}
    aborted = {mark.adapter for mark in marks if mark.mark == "abort"}
    freed = {name for name in {*holds, *failed, *aborted, *fell} if is_released(name)}
    past.released[alias] = past.released.get(alias, frozenset()) | freed
    past.holds[alias] = {name: block for name, block in holds.items() if not is_released(name)}
    past.fell[alias] = {name: block for name, block in fell.items() if name not in freed}
    past.rejected[alias] = {
        digest: item for digest, item in rejected.items() if not is_released(item.adapter)
    }
    past.evidence[alias] = tuple(
        item
        for item in past.evidence.get(alias, ())
        if item.finding.verdict is not Verdict.FAIL or not is_released(item.adapter)
    )
    past.marks[alias] = tuple(mark for mark in marks if not is_released(mark.adapter))
    route = resource_of_plain(event.route) if event.route else None
    if isinstance(route, Route):
        past.stages.pop(alias, None)
        routed(past, route, entry.time)


def _gate_judged(past: Past, event: GateJudged, entry: Entry) -> None:
    """Take a judged gate; where it shows that what serves has changed, the stage begins anew."""
    alias = event.alias
    made = GateEvidence(
        alias, event.adapter, event.gate, Finding.of(event.finding),
        {key: digest for key, digest in event.digests.items() if digest},
        entry.time, entry.seq, entry.signature,
        stable=event.stable, percent=event.percent, fingerprint=event.fingerprint,
        since=event.since or entry.time,
    )  # fmt: skip
    before = {item.gate: item for item in past.evidence.get(alias, ())}
    same = {gate: item for gate, item in before.items() if item.adapter == made.adapter}
    valid = {gate: item for gate, item in same.items() if not _outdates(made, item)}
    # Findings on traffic of the version before tell the usual rates until the next findings.
    usual = {gate: item for gate, item in before.items() if item.percent and gate not in same}
    made = _with_servers(made, valid.values())
    now = {**usual, **valid, made.gate: made}
    past.evidence[alias] = tuple(now[gate] for gate in sorted(now))
    _superseded(past, alias, made.adapter)
    digest = made.digests.get("adapter")
    if made.finding.verdict is Verdict.FAIL and digest:
        past.rejected[alias] = {**past.rejected.get(alias, {}), digest: made}
    if len(valid) == len(same):
        return
    past.marks[alias] = tuple(
        replace(mark, void=mark.void or entry.time)
        if mark.adapter == made.adapter and mark.mark in _OF_A_STAGE
        else mark
        for mark in past.marks.get(alias, ())
    )
    if stage := past.stage_of(alias, made.adapter):
        past.stages[alias] = replace(stage, restarted=entry.time)


def _rollout_marked(past: Past, event: RolloutMarked, entry: Entry) -> None:
    """Take a person's mark in the version's stage, if the version has a stage yet.

    Marks that are not known are passed over, like kinds of entries.
    """
    if event.mark not in MARK_KINDS:
        return
    ended = ("hold", "pause") if event.mark == "resume" else (event.mark,)
    past.marks[event.alias] = tuple(
        mark
        for mark in past.marks.get(event.alias, ())
        if mark.adapter != event.adapter or mark.mark not in ended
    )
    stage = past.stage_of(event.alias, event.adapter)
    if event.mark != "resume":
        made = RolloutMark(
            event.mark,
            event.adapter,
            stage.entered if stage else None,
            event.reason,
            entry.by,
            entry.time,
            stage.percent if stage else None,
            event.until,
            event.digest or "",
            seq=entry.seq,
            signature=entry.signature,
        )
        past.marks[event.alias] += (made,)


def _retrain_claimed(past: Past, event: RetrainClaimed, entry: Entry) -> None:
    """Take a claim, unless another author's claim runs; a claim without an end is over."""
    by, until = event.by or entry.by, event.until or entry.time
    known = past.claims.get(event.alias)
    if known is None or known.by == by or known.until <= entry.time:
        past.claims[event.alias] = Claim(by, until, event.reason, entry.time)


def _retrain_released(past: Past, event: RetrainReleased, _: Entry) -> None:
    """Take the end of a claim."""
    past.claims.pop(event.alias, None)


def _upgrade_judged(past: Past, event: UpgradeJudged, entry: Entry) -> None:
    """Take a verdict on a canary server; a failure ends the upgrade."""
    record, settings = past.upgrades.get(event.base, UpgradeRecord()), event.settings
    finding = Finding.of(event.finding)
    made = Evidence(
        event.alias, event.adapter, event.gate, finding,
        event.digests, entry.time, entry.seq, entry.signature,
    )  # fmt: skip
    known = {(v.alias, v.gate): v for v in record.verdicts.get(settings, ())}
    known[made.alias, made.gate] = made
    listed = tuple(known[key] for key in sorted(known))
    record = replace(record, verdicts={**record.verdicts, settings: listed})
    if finding.verdict is Verdict.FAIL:
        reason = f"{made.alias}, {made.gate}: {finding.reason}"
        record = _decided(record, settings, "stop", reason, entry)
    past.upgrades[event.base] = _with_proven(record, event.old)


def _upgrade_decided(past: Past, event: UpgradeDecided, entry: Entry) -> None:
    """Take a decision about an upgrade; a mark that is not known is passed over."""
    record, settings = past.upgrades.get(event.base, UpgradeRecord()), event.settings
    match event.mark:
        case "release":
            record = replace(
                record,
                verdicts={k: v for k, v in record.verdicts.items() if k != settings},
                decisions={k: v for k, v in record.decisions.items() if k != settings},
            )
        case "approve" | "advance" | "stop":
            record = _decided(record, settings, event.mark, event.reason, entry)
        case _:
            return
    past.upgrades[event.base] = _with_proven(record, event.old)


def _decided(
    record: UpgradeRecord, settings: str, mark: str, reason: str, entry: Entry
) -> UpgradeRecord:
    made = UpgradeDecision(mark, reason, entry.by, entry.time, entry.seq, entry.signature)
    return replace(record, decisions={**record.decisions, settings: made})


def _with_proven(record: UpgradeRecord, old: str) -> UpgradeRecord:
    """Note that clients were served with the settings that new ones were compared with."""
    return replace(record, proven=record.proven | {old}) if old else record


def _shifted(past: Past, before: Resource | None, after: Route, at: datetime) -> None:
    """Note the traffic that a change of a route moved, without the shifts of a day before."""
    if not isinstance(before, Route):
        return
    old = {share.adapter: share.percent for share in before.shares}
    moved = sum(max(share.percent - old.get(share.adapter, 0), 0) for share in after.shares)
    if moved:
        recent = (shift for shift in past.shifts.get(after.alias, ()) if at - shift.at < DAY)
        past.shifts[after.alias] = (*recent, TrafficShift(at, moved))


def _serves(past: Past, alias: str, adapter: str, digest: str) -> None:
    """Note that a version has traffic: whatever it, or its bytes, were released from is over.

    `digest`: of its bytes as they are loaded; empty: not known.
    """
    if digest:
        past.served[adapter] = digest
    past.released[alias] = past.released.get(alias, frozenset()) - {adapter}
    past.fell[alias] = {
        name: block
        for name, block in past.fell.get(alias, {}).items()
        if name != adapter and not (digest and block.digest == digest)
    }


def _superseded(past: Past, alias: str, adapter: str) -> None:
    """Forget the marks on stages of all versions but the version that is rolled out now."""
    past.marks[alias] = tuple(
        mark
        for mark in past.marks.get(alias, ())
        if mark.adapter == adapter or mark.mark not in _OF_A_STAGE
    )


def _outdates(new: GateEvidence, old: GateEvidence) -> bool:
    """Say whether `new` was found on another engine, base, golden set or other bytes than `old`."""
    if old.fingerprint and new.fingerprint and old.fingerprint != new.fingerprint:
        return True
    if other_engine(old.digests.get("base", ""), new.digests.get("base", "")):
        return True
    names = ["adapter"]
    names += ["golden"] if old.gate == new.gate else []
    names += ["stable"] if old.stable == new.stable else []
    return any(
        name in old.digests and name in new.digests and old.digests[name] != new.digests[name]
        for name in names
    )


def _with_servers(new: GateEvidence, kept: Iterable[GateEvidence]) -> GateEvidence:
    """Return evidence with the servers that are away, so that they are known when they return."""
    known: dict[str, str] = {}
    for record in (*kept, new):
        known |= by_server(record.digests.get("base", ""))
    base = " ".join(f"{server}={digest}" for server, digest in sorted(known.items()) if server)
    return replace(new, digests={**new.digests, "base": base}) if base else new


FOLDED_ROLLOUTS: Final[Mapping[type[LedgerEvent], Callable[[Past, Any, Entry], None]]] = {
    RolledBack: _rolled_back,
    Released: _released,
    GateJudged: _gate_judged,
    RolloutMarked: _rollout_marked,
    RetrainClaimed: _retrain_claimed,
    RetrainReleased: _retrain_released,
    UpgradeJudged: _upgrade_judged,
    UpgradeDecided: _upgrade_decided,
}
