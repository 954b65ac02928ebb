"""Pace: which versions an alias should have now, and with what share of its traffic.

The only decision that knows the time. A version starts at the rollout's first weight, moves to
the next when it has baked at this one and every gate passes, and never skips one. What a
person did to the live route (a rollback, an edit) is left as it is and named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from fleet.conditions import Rollout
from fleet.declared import Adapter, Fleet
from fleet.history import History, Hold, Stage
from fleet.names import AdapterName
from fleet.plan import GateDue
from fleet.resources import Route, State
from fleet.standing import FULL, freeable, loaded_on, resident_versions, route_of, routed_to


class Phase(StrEnum):
    """Where an alias stands in its rollout after this plan."""

    FIRST = "first"
    """There was no route: the wanted version takes all traffic."""
    STARTED = "started"
    ADVANCED = "advanced"
    WAITING = "waiting"
    """In a stage that has not baked or whose gates have not passed."""
    RETURNED = "returned"
    """Another version's rollout is no longer declared: the one it began from has it all again."""
    COMPLETE = "complete"
    HELD = "held"
    """The wanted version was rolled back and gets no traffic."""
    EDITED = "edited"
    """The live route was changed by hand; left as it is."""
    FROZEN = "frozen"
    """The routes could not be read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one alias should have now."""

    alias: str
    target: str
    """Full name of the declared version."""
    shares: tuple[tuple[str, int], ...]
    """Full adapter name and percent, the target first; resident at 0 percent too."""
    salt: str
    phase: Phase
    why: str
    held: str = ""
    """What is declared and not done, for the reader; empty when nothing is."""
    gates: tuple[GateDue, ...] = ()


@dataclass(frozen=True, slots=True)
class Paced:
    """What every alias should have now, by alias."""

    wanted: Mapping[str, Wanted]
    loaded: Mapping[str, tuple[str, ...]]
    """By full adapter name: known servers that list it now, sorted."""
    routed: Mapping[str, tuple[str, ...]]
    """By full adapter name: servers that a live route names for it, sorted."""
    freeable: frozenset[tuple[str, str]]
    """(adapter, server): ours, wanted nowhere and without traffic; may be unloaded first."""
    owned: frozenset[str]
    """Addresses that fleetctl created or adopted."""


def pace(fleet: Fleet, live: State, history: History, now: datetime) -> Paced:
    """Decide each alias's versions and shares at `now`.

    A stage whose start is not in the history counts as entered now, so that a lost ledger
    delays a rollout and never speeds one up.
    """
    routes = live.routes()
    resident = resident_versions(live, history) if live.routes_unknown else {}
    wanted = {
        alias: _frozen(adapter, resident.get(alias, ()), live.routes_unknown)
        if live.routes_unknown
        else _alias(fleet, adapter, route_of(fleet, alias, routes), history, now)
        for alias, adapter in sorted(fleet.adapters.items())
    }
    names = frozenset(adapter for each in wanted.values() for adapter, _ in each.shares)
    loaded, routed = loaded_on(live), routed_to(routes)
    idle = frozenset(freeable(fleet, names, loaded, routes, history))
    return Paced(wanted, loaded, routed, idle, history.owned)


def alias_of(adapter: str) -> str:
    """Return the alias in a full adapter name: its first two parts."""
    return "-".join(adapter.split("-", 2)[:2])


def version_of(adapter: str) -> str:
    """Return the version in a full adapter name, such as `2.1.0`."""
    return adapter.rpartition("-v")[2]


def _alias(
    fleet: Fleet, adapter: Adapter, route: Route | None, history: History, now: datetime
) -> Wanted:
    alias, target = adapter.alias, str(adapter.name)
    rollout = fleet.rollouts[adapter.rollout]
    holds = history.holds.get(alias, {})
    if route is None:
        if target in holds:
            text = _held_text(alias, holds[target])
            return Wanted(alias, target, (), "", Phase.HELD, "rolled back", text)
        why = f"{version_of(target)} is the first version of `{alias}`"
        return Wanted(alias, target, ((target, FULL),), target, Phase.FIRST, why)
    shares = {each.adapter: each.percent for each in route.shares}
    stage = history.stages.get(alias)
    ours = stage if stage is not None and stage.adapter == target else None
    percent = shares.get(target, 0)
    if target in holds:
        wanted = _rolled_back(target, route, shares, holds)
    elif percent == FULL:
        wanted = Wanted(alias, target, _listed(shares), route.salt, Phase.COMPLETE, "")
    elif ours is not None and ours.percent > 0 and ours.percent != percent:
        why = f"the live route gives {version_of(target)} {percent} %, set by hand"
        wanted = Wanted(alias, target, _listed(shares), route.salt, Phase.EDITED, why)
        text = (
            f"{alias}: its route was changed by hand, {version_of(target)} has {percent} % and not "
            f"{ours.percent} %. It stays as it is; to go on from there: fleetctl release {alias}"
        )
        wanted = replace(wanted, held=text)
    elif stage is not None and percent > 0 and _abandoned(stage, target, shares):
        wanted = _returned(target, route, stage.adapter)
    elif percent == 0:
        wanted = _started(target, route, rollout, stage.adapter if stage else "", holds)
    else:
        entered = ours.entered if ours is not None else None
        wanted = _staged(fleet, target, route, rollout, entered=entered, now=now)
    kept = _without_retired(wanted, rollout, shares, history, now)
    return replace(kept, gates=_gates(fleet, rollout, kept))


def _started(
    target: str, route: Route, rollout: Rollout, staged: str, holds: Mapping[str, Hold]
) -> Wanted:
    """Give the target its first weight, the stable version the rest, all others nothing."""
    stable = _stable(route, target, staged, holds)
    weight = rollout.weights[0] if stable else FULL
    others = {each.adapter: 0 for each in route.shares}
    shares = {**others, **({stable: FULL - weight} if stable else {}), target: weight}
    why = f"{version_of(target)} is declared and begins at {weight} %"
    return Wanted(route.alias, target, _ordered(shares, target), target, Phase.STARTED, why)


def _abandoned(stage: Stage, target: str, shares: Mapping[str, int]) -> bool:
    """Say whether a rollout of another version stands as the ledger left it, half-way."""
    return stage.adapter != target and 0 < stage.percent == shares.get(stage.adapter)


def _returned(target: str, route: Route, gone: str) -> Wanted:
    """Give all traffic back at once: the target served before the rollout and never stopped."""
    shares = {**{each.adapter: 0 for each in route.shares}, target: FULL}
    why = f"{version_of(target)} is declared again and takes over from {version_of(gone)}"
    return Wanted(route.alias, target, _ordered(shares, target), route.salt, Phase.RETURNED, why)


def _staged(
    fleet: Fleet,
    target: str,
    route: Route,
    rollout: Rollout,
    *,
    entered: datetime | None,
    now: datetime,
) -> Wanted:
    """Move the target to the next weight when it may, and say what it waits for if not."""
    shares = {each.adapter: each.percent for each in route.shares}
    percent, version = shares[target], version_of(target)
    stay = Wanted(route.alias, target, _listed(shares), route.salt, Phase.WAITING, "")
    at = f"{route.alias}: {version} stays at {percent} %"
    if entered is None:
        text = f"{at}: the ledger does not say since when. To start its bake: fleetctl adopt"
        return replace(stay, held=text)
    ready = entered + rollout.bake
    if now < ready:
        return replace(stay, held=f"{at}, baking until {_time(ready)}")
    missing = [name for name in rollout.gates if name in fleet.gates]
    if missing:
        return replace(stay, held=f"{at}: no evidence for gate {', '.join(missing)}")
    weight = min((each for each in rollout.weights if each > percent), default=FULL)
    stable = _stable(route, target, target, {})
    rest = {stable: FULL - weight} if stable else {}
    shares = {**dict.fromkeys(shares, 0), **rest, target: weight}
    why = f"{version} has baked at {percent} % and goes to {weight} %"
    return Wanted(route.alias, target, _ordered(shares, target), route.salt, Phase.ADVANCED, why)


def _rolled_back(
    target: str, route: Route, shares: Mapping[str, int], holds: Mapping[str, Hold]
) -> Wanted:
    """Keep the live route, with whatever the held target still has given to the stable one."""
    text = _held_text(route.alias, holds[target])
    why = f"{version_of(target)} was rolled back"
    stable = _stable(route, target, target, holds)
    taken = dict(shares)
    if shares.get(target) and stable:
        taken |= {target: 0, stable: shares[stable] + shares[target]}
    return Wanted(route.alias, target, _listed(taken), route.salt, Phase.HELD, why, text)


def _stable(route: Route, target: str, staged: str, holds: Mapping[str, Hold]) -> str:
    """Return the version to fall back on: the oldest one that serves and is in no rollout.

    Where none serves beside the target, the newest resident one; empty when there is none.
    """
    rest = [each for each in route.shares if each.adapter != target]
    others = [each for each in rest if each.adapter not in holds] or rest
    serving = [each.adapter for each in others if each.percent > 0]
    settled = [each for each in serving if each != staged]
    if settled or serving:
        return (settled or serving)[-1]
    return others[0].adapter if others else ""


def _without_retired(
    wanted: Wanted,
    rollout: Rollout,
    before: Mapping[str, int],
    history: History,
    now: datetime,
) -> Wanted:
    """Drop versions that have had no share for as long as they are retained."""
    holds = history.holds.get(wanted.alias, {})

    def over(adapter: str, percent: int) -> bool:
        hold = holds.get(adapter)
        since = history.cutovers.get(adapter) or (hold.at if hold else None)
        idle = percent == 0 and before.get(adapter) == 0
        kept = adapter == wanted.target and hold is None
        return idle and not kept and since is not None and now - since >= rollout.retain

    return replace(wanted, shares=tuple(each for each in wanted.shares if not over(*each)))


def _gates(fleet: Fleet, rollout: Rollout, wanted: Wanted) -> tuple[GateDue, ...]:
    if wanted.phase not in (Phase.STARTED, Phase.ADVANCED, Phase.WAITING):
        return ()
    if dict(wanted.shares)[wanted.target] == FULL:
        return ()
    found = (fleet.gates[name] for name in rollout.gates if name in fleet.gates)
    return tuple(
        GateDue(
            wanted.alias, each.name, each.metric, f"{each.threshold:g} {each.unit}".strip(),
            "no evidence",
        )
        for each in found
    )  # fmt: skip


def _frozen(adapter: Adapter, resident: tuple[str, ...], reason: str) -> Wanted:
    """Keep what is loaded, and touch no route."""
    shares = tuple((each, 0) for each in resident)
    return Wanted(adapter.alias, str(adapter.name), shares, "", Phase.FROZEN, reason)


def _listed(shares: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(shares.items())


def _ordered(shares: Mapping[str, int], target: str) -> tuple[tuple[str, int], ...]:
    """Put the target first, then the others by version, newest first."""

    def rank(adapter: str) -> tuple[bool, object, str]:
        return adapter == target, AdapterName.parse(adapter).version, adapter

    return tuple((each, shares[each]) for each in sorted(shares, key=rank, reverse=True))


def _held_text(alias: str, hold: Hold) -> str:
    reason = f" ({hold.reason})" if hold.reason else ""
    return (
        f"{alias}: {version_of(hold.adapter)} was rolled back by {hold.by} at {_time(hold.at)}"
        f"{reason} and gets no traffic. To roll it out again: fleetctl release {alias}"
    )


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
