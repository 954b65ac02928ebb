"""Finds the guards that keep a share from rising, and words the messages about such versions.

Every plan passes these guards: with a clock that is behind, a bake, a pause or an override
would end when it should not, and a verdict that does not follow from its counts is no verdict.
Taking traffic back needs neither.

Also the versions that are loaded as shadows: copies of requests, and no traffic of clients.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from fleet.history import (
    SKEW,
    Block,
    BlockKind,
    Evidence,
    GateEvidence,
    History,
    RolloutMark,
    distrust,
    judge_again,
)
from fleet.names import version_of
from fleet.plan import NO_EVIDENCE
from fleet.policies import ChangeWindow, RolloutPolicy
from fleet.resources import Route, State
from fleet.rollouts.targets import AliasTarget, GateResult, Phase
from fleet.spec import AdapterSpec, FleetSpec


def time(moment: datetime) -> str:
    """Return a moment for people, UTC where the moment is."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def decided(decision: Block | RolloutMark) -> str:
    """Return author, time and reason of a decision, as text."""
    reason = f" ({decision.reason})" if decision.reason else ""
    return f"by {decision.by} at {time(decision.at)}{reason}"


def stays_out(alias: str, target: str, why: str) -> str:
    """Say why a version gets no traffic, and how the version may come again."""
    return (
        f"{version_of(target)} {why} and gets no traffic. To roll it out again: "
        f"fleetctl release {alias}"
    )


def begins(
    version: str, weight: int, offline: Sequence[GateResult], said: RolloutMark | None
) -> str:
    """Say how a version may begin: by golden sets, an override, or a person."""
    if accepted := [result for result in offline if result.accepted]:
        over = "; ".join(f"{result.gate.name} {result.accepted}" for result in accepted)
        return f"{version} begins at {weight} %: {over}"
    unsure = [f"{result.gate.name} {result.status}" for result in offline if not result.passed]
    if unsure:
        word = {"approve": "approved", "advance": "sent on"}[said.mark] if said else "let on"
        by = f"{word} by {said.by}" if said else word
        return f"{version} begins at {weight} %: {by}, {', '.join(unsure)}"
    return f"{version} has passed its golden sets and begins at {weight} %"


def rejected(alias: str, target: str, evidence: GateEvidence) -> str:
    """Say that a gate rejects a version's bytes."""
    return (
        f"{version_of(target)} held: {by_evidence(evidence)}. To accept it all the same, "
        f"declare an override; to judge it anew: fleetctl release {alias}"
    )


def by_evidence(evidence: GateEvidence) -> str:
    """Say by which evidence bytes are rejected, such as `digest 61636d652d73 rejected by ...`."""
    digest = evidence.digests.get("adapter", "")[:12]
    which = f"digest {digest} rejected" if digest else "rejected"
    reason = evidence.finding.reason
    return f"{which} by evidence #{evidence.seq}, gate {evidence.gate} ({reason})"


def not_served(why: str, declare: str) -> str:
    """Say that no version answers for an alias, and how that ends."""
    return f"NOT SERVED, for no other version is there: {why}. To serve it, {declare}"


def taken_out(block: Block) -> str:
    """Name the blocked version with the same bytes, and the block's author, time and reason."""
    how = "aborted" if block.kind is BlockKind.ABORTED else "rolled back"
    cause = f"{how} {decided(block)}"
    return f"has the bytes of {version_of(block.adapter)}, which was {cause}"


def given_up(alias: str, target: str) -> str:
    """Say that a rollout ended without a verdict."""
    return (
        f"{version_of(target)} gets no traffic: its gates could not tell in the time they "
        f"had. To roll it out again: fleetctl release {alias}"
    )


def void(mark: RolloutMark) -> str:
    """Say that a person's mark on a stage counts no more."""
    said = "approval" if mark.mark == "approve" else mark.mark
    since = time(mark.void) if mark.void else ""
    return (
        f" (the {said} by {mark.by} of {time(mark.at)} counts no more: since {since} the stage is "
        "judged anew, for its engine, base, golden set or bytes have changed)"
    )


def halted(at: str, mark: RolloutMark) -> str:
    """Name the author and the end of a halt; `at` begins the sentence."""
    reason = f" ({mark.reason})" if mark.reason else ""
    if mark.until is not None:
        return f"{at}: paused by {mark.by} until {time(mark.until)}{reason}, then it goes on"
    return f"{at}: held by {mark.by} since {time(mark.at)}{reason}"


def open_gates(judged: Iterable[GateResult]) -> str:
    """Say which gates do not let a version go on, and why."""
    unmet = [result for result in judged if not result.passed]
    bare = [
        result.gate.name for result in unmet if result.status == NO_EVIDENCE and not result.void
    ]
    said = [f"{NO_EVIDENCE} for gate {', '.join(bare)}"] if bare else []
    said += [f"{NO_EVIDENCE} for gate {e.gate.name}, which was {e.detail}" for e in unmet if e.void]
    said += [
        f"gate {result.gate.name} is {result.status} ({result.detail})"
        for result in unmet
        if result.status != NO_EVIDENCE
    ]
    return "; ".join(said)


def decide(alias: str, *, begun: bool = True) -> str:
    """Say how a person decides; time helps only a version that has traffic."""
    ways = "approve|advance|extend|abort" if begun else "approve|advance|abort"
    return f"Decide: fleetctl rollout {ways} {alias}"


WEEK = 7 * 24 * 60
"""In minutes."""


def closed_until(rollout: RolloutPolicy, now: datetime) -> datetime | None:
    """Return when the rollout may go on again; None: now."""
    return closed_windows_until(rollout.no_promote, rollout.offsets, now)


def closed_windows_until(
    windows: Sequence[ChangeWindow], offsets: Sequence[int], now: datetime
) -> datetime | None:
    """Return when the windows that are closed now open again; None: all are open.

    Where the clocks of the time zone change in the course of the year, a window holds by every
    offset that the year has: at its edges it is up to an hour longer than written.
    """
    until = now.astimezone(UTC)
    for _ in range(2 * len(windows) * len(offsets) + 1):
        ends = [
            end
            for window in windows
            for offset in offsets
            if (end := _end(window, offset, until)) is not None
        ]
        if not ends or max(ends) - now > timedelta(minutes=WEEK):
            break
        until = max(ends)
    return until if until > now else None


def _end(window: ChangeWindow, offset: int, moment: datetime) -> datetime | None:
    """Return the end of the window around `moment`, UTC; None: no window."""
    local = moment + timedelta(minutes=offset)
    place = local.weekday() * 24 * 60 + local.hour * 60 + local.minute
    length = (window.ends - window.begins) % WEEK
    since = (place - window.begins) % WEEK
    if since >= length:
        return None
    whole = moment.replace(second=0, microsecond=0)
    return whole + timedelta(minutes=length - since)


def doubt(
    history: History, evidence: Iterable[Evidence], now: datetime, marks: Iterable[RolloutMark] = ()
) -> str:
    """Return why no share may rise now, as a sentence without its full stop; empty: shares may.

    Only evidence and marks on which the rise would rest are checked, so that a long ledger and
    many gates cost a plan nothing.
    """
    last = history.as_of
    if last is not None and last - now > SKEW:
        return (
            f"the clock is behind the ledger (FC5108): it is {time(now)} here, and the "
            f"ledger has an entry of {time(last)}"
        )
    for item in evidence:
        differs = judge_again(item.finding, item.gate)
        if differs:
            return (
                f"evidence #{item.seq}, gate {item.gate}, does not follow from its counts "
                f"(FC5130): {differs}. To judge it anew: fleetctl release {item.alias}"
            )
        if why := distrust(history.keys, item.seq, item.signature):
            return (
                f"evidence #{item.seq}, gate {item.gate}, is not believed (FC5130): {why}. "
                f"To judge it anew: fleetctl release {item.alias}"
            )
    for mark in marks:
        if why := distrust(history.keys, mark.seq, mark.signature):
            return f"the mark `{mark.mark}` of entry {mark.seq} is not believed (FC5130): {why}"
    return ""


def shadowed(
    fleet: FleetSpec,
    adapter: AdapterSpec,
    target: AliasTarget,
    route: Route | None,
    history: History,
) -> AliasTarget:
    """Return an alias's target with the shadow version among the loaded ones.

    A shadow that is no longer declared goes. A shadow that has ever served stays as long as any
    version that was replaced.
    """
    shadow = adapter.shadow.adapter if adapter.shadow else ""
    before = route.shadow if route is not None else ""
    old = before if before != shadow else ""
    holds = history.holds.get(target.alias, {})
    served = old in history.cutovers or old in holds or old == target.target
    shares = tuple(
        (name, percent) for name, percent in target.shares if name != old or percent or served
    )
    if shadow and shares and shadow in fleet.versions and shadow not in dict(shares):
        shares = (*shares, (shadow, 0))
    return target if shares == target.shares else replace(target, shares=shares)


def held_for_silent(target: AliasTarget, route: Route | None, live: State) -> AliasTarget:
    """Keep the live shares where a version would get more traffic and none of its servers answered.

    A version that is taken out leaves its traffic to another on the same servers all the same.
    """
    if route is None or not live.unknown_servers:
        return target
    shares = dict(target.shares)
    for share in route.shares:
        silent = live.unknown_servers.keys() & set(share.servers)
        if shares.get(share.adapter, 0) <= share.percent or len(silent) < len(share.servers):
            continue
        losing = {
            server
            for other in route.shares
            if shares.get(other.adapter, 0) < other.percent
            for server in other.servers
        }
        if not silent or (target.phase is Phase.ROLLED_BACK and losing <= silent):
            continue
        names = " and ".join(sorted(silent))
        text = f"{version_of(share.adapter)} stays at {share.percent} %: {names} did not answer"
        split = tuple((other.adapter, other.percent) for other in route.shares)
        return replace(
            target, shares=split, salt=route.salt, phase=Phase.WAITING, why="", held=text
        )
    return target
