"""Word the upgrades of a plan, stage by stage; select the part that carries an upgrade on."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from fleet.plan import Plan, PlanNote, Reason
from fleet.planning.desired import PlanInput
from fleet.planning.target import TargetPattern, select
from fleet.rollouts import Upgrade, UpgradeStage

SHOWN = 5
"""Upper bound of the aliases that a note names."""


def upgrade_notes(plan_input: PlanInput) -> Iterator[PlanNote]:
    """Yield the upgrades of a plan, stage by stage."""
    for upgrade in plan_input.placement.upgrades:
        for text in _texts(plan_input, upgrade):
            yield PlanNote(text, upgrade.base)


def upgrade_part(plan: Plan, servers: Collection[str]) -> Plan | None:
    """Return the part of a plan that carries an upgrade on; None: other changes belong to it.

    Those were never applied, and a person applies them.
    """
    chosen = tuple(TargetPattern("server", name) for name in sorted(servers))
    part = select(plan, chosen) if chosen else replace(plan, changes=(), steps=())
    asked = all(change.reason in _OF_UPGRADES for change in part.changes)
    return replace(part, settings=()) if asked else None


_OF_UPGRADES = (Reason.UPGRADE, Reason.REPLICA_MOVED)


def _texts(plan_input: PlanInput, upgrade: Upgrade) -> Iterator[str]:
    canary, first, rest = _canary(plan_input, upgrade), upgrade.old[0], upgrade.old[1:]
    yield ", ".join(upgrade.changed)
    match upgrade.stage:
        case UpgradeStage.CANARY | UpgradeStage.JUDGING:
            ready = "runs" if upgrade.stage is UpgradeStage.JUDGING else "starts"
            yield f"canary {canary} {ready} beside {first}; no client's request goes there"
            if upgrade.reason:
                yield (
                    f"{upgrade.reason}, and another version is declared, so nothing is judged: see "
                    f"`python` or `image` of its host, then: fleetctl server stop {canary}"
                )
            if upgrade.results:
                yield f"golden sets on both, by `reconcile`: {'; '.join(map(str, upgrade.results))}"
            yield from _unguarded(upgrade)
            then = f"then {first}'s clients move to {canary}, and {first} is kept as the way back"
            yield then + (f"; then {_listed(rest)}, one after another" if rest else "")
            if waits := awaited_person(upgrade):
                yield waits
        case UpgradeStage.MOVING:
            yield f"approved: {upgrade.reason or 'clients were served so before'}"
            leaving = min(upgrade.hidden)
            if upgrade.kept and upgrade.until:
                yield (
                    f"{leaving} is kept loaded until {_time(upgrade.until)}; the way back: "
                    f"fleetctl upgrade stop {upgrade.base} --reason TEXT, and apply"
                )
            else:
                yield f"clients leave {leaving}, which then stops"
            if waiting := [name for name in upgrade.old if name != leaving]:
                yield f"then {_listed(waiting)}, one after another"
        case UpgradeStage.STOPPED:
            yield f"stopped for all clients: {upgrade.reason}"
            yield (
                f"{_listed(upgrade.old)} as before. Declare other settings, or have these judged "
                f"anew: fleetctl upgrade release {upgrade.base} --reason TEXT"
            )
        case UpgradeStage.NO_ROOM:
            yield from _without_room(upgrade)


def awaited_person(upgrade: Upgrade) -> str:
    """Return the aliases that keep an upgrade waiting for a person, as a sentence; empty: none."""
    if upgrade.stage is not UpgradeStage.JUDGING or upgrade.awaited or upgrade.passed:
        return ""
    undecided = [result.alias for result in upgrade.results if not result.passed]
    waits = [f"{undecided[0]} is undecided"] if undecided else []
    waits += [f"nothing judges {upgrade.unguarded[0]}"] if upgrade.unguarded else []
    return (
        f"{' and '.join(waits)}, and the upgrade waits: fleetctl upgrade approve {upgrade.base} "
        "--reason TEXT, or stop"
    )


def _without_room(upgrade: Upgrade) -> Iterator[str]:
    engine_alone = all(text.startswith(("vllm:", "python:")) for text in upgrade.changed)
    stay = "servers go on as they are"
    if not upgrade.held:
        then = stay if engine_alone else "servers restart in their place"
        why = upgrade.reason or ("clients were served so before" if upgrade.results else "")
        yield f"no free device, so {then}{f': {why}' * bool(why)}"
        yield from _unguarded(upgrade)
        return
    yield (
        f"no free device for a canary, so nothing is judged and {stay}. What helps: a further "
        f"device like {upgrade.old[0]}'s for the time of the upgrade, with room for all versions"
    )
    if not engine_alone:
        yield (
            "to restart servers in their place, which nothing judges: fleetctl upgrade advance "
            f"{upgrade.base} --reason TEXT, and apply"
        )


def _canary(plan_input: PlanInput, upgrade: Upgrade) -> str:
    """Return the canary of a plan: the one that runs, or the one that starts."""
    there = (name for names in plan_input.placement.beside.values() for name in names)
    servers = plan_input.placement.servers
    found = (name for name in there if servers[name].base == upgrade.base)
    return upgrade.canary or next(found, "a further server")


def _unguarded(upgrade: Upgrade) -> Iterator[str]:
    if not upgrade.unguarded:
        return
    lacks = f"nothing judges {_listed(upgrade.unguarded)}: no golden set is a gate there"
    declare = "declare `golden` for their adapters, and a gate on it for their rollouts"
    match upgrade.stage, upgrade.results:
        case UpgradeStage.NO_ROOM, _:
            yield f"{lacks}. What helps: a further device, and to have them judged {declare}"
        case _, ():
            yield f"{lacks}, so the upgrade waits for a person. To have them judged, {declare}"
        case _:
            yield f"{lacks}. Once the others are judged, the upgrade waits for a person"


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
