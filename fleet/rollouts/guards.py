"""Finds the guards that keep a share from rising: change windows, doubtful clocks and verdicts.

Every plan passes these guards: with a clock that is behind, a bake, a pause or an override
would end when it should not, and a verdict that does not follow from its counts is no verdict.
Taking traffic back needs neither.

Also the versions that are loaded as shadows: copies of requests, and no traffic of clients.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from fleet.history import SKEW, GateEvidence, History, RolloutMark, distrust, judge_again
from fleet.names import version_of
from fleet.policies import ChangeWindow, RolloutPolicy
from fleet.resources import Route, State
from fleet.rollouts import messages
from fleet.rollouts.targets import AliasTarget, Phase
from fleet.spec import AdapterSpec, FleetSpec

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
    history: History,
    evidence: Iterable[GateEvidence],
    now: datetime,
    marks: Iterable[RolloutMark] = (),
) -> str:
    """Return why no share may rise now, as a sentence without its full stop; empty: shares may.

    Only evidence and marks on which the rise would rest are checked, so that a long ledger and
    many gates cost a plan nothing.
    """
    last = history.as_of
    if last is not None and last - now > SKEW:
        return (
            f"the clock is behind the ledger (FC5108): it is {messages.time(now)} here, and the "
            f"ledger has an entry of {messages.time(last)}"
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
    wanted: AliasTarget,
    route: Route | None,
    history: History,
) -> AliasTarget:
    """Return an alias's target with the shadow version among the loaded ones.

    A shadow that is no longer declared goes. A shadow that has ever served stays as long as any
    version that was replaced.
    """
    shadow = adapter.shadow.adapter if adapter.shadow else ""
    before = route.shadow if route is not None else ""
    gone = before if before != shadow else ""
    holds = history.holds.get(wanted.alias, {})
    served = gone in history.cutovers or gone in holds or gone == wanted.target
    shares = tuple(
        (name, percent) for name, percent in wanted.shares if name != gone or percent or served
    )
    if shadow and shares and shadow in fleet.versions and shadow not in dict(shares):
        shares = (*shares, (shadow, 0))
    return wanted if shares == wanted.shares else replace(wanted, shares=shares)


def held_for_silent(made: AliasTarget, route: Route | None, live: State) -> AliasTarget:
    """Keep the live shares where a version would get more traffic and none of its servers answered.

    A version that is taken out leaves its traffic to another on the same servers all the same.
    """
    if route is None or not live.unknown_servers:
        return made
    shares = dict(made.shares)
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
        if not silent or (made.phase is Phase.ROLLED_BACK and losing <= silent):
            continue
        names = " and ".join(sorted(silent))
        text = f"{version_of(share.adapter)} stays at {share.percent} %: {names} did not answer"
        kept = tuple((other.adapter, other.percent) for other in route.shares)
        return replace(made, shares=kept, salt=route.salt, phase=Phase.WAITING, why="", held=text)
    return made
