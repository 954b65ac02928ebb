"""Drill rollbacks of a project: of an alias, of all that are due, or one a round as declared."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from fleet.alerting import failed_drill
from fleet.codec import plain
from fleet.config import format_duration
from fleet.errors import FleetError, LockHeldError, did_you_mean
from fleet.history import (
    DrillRefused,
    Entry,
    History,
    Released,
    clock_behind,
    fallback_check,
    kept_out,
    loaded_digests,
    same_bytes,
    settled,
    tampered_evidence,
)
from fleet.names import alias_of, route_address, version_of
from fleet.resources import State
from fleet.rollouts import Phase, closed_until, decide_rollouts
from fleet.rules import DrillRecord, due_drills, last_drills
from fleet.spec import AdapterFacts
from runtime.deadline import call_with_timeout
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import RoutingTable
from runtime.operations.notify import notify_once
from runtime.operations.rollouts.rollback import check_fallbacks, smoke_inputs
from runtime.rollback.drill import DrillResult, drill
from runtime.rollback.publish import choose_target
from runtime.workspace import ProjectContext, Workspace

PERCENTILES: Final = (("p50", 50), ("p99", 99), ("slowest", 100))
"""Names and percentages of the times in `drill_times`."""


async def drill_one(
    workspace: Workspace, alias: str, to: str | None, smoke: Sequence[str], *, live: bool
) -> DrillResult:
    """Drill the rollback of an alias, under the lease.

    While the ledger's home is down a dry drill goes on without a lease, as a rollback does.

    Raises:
        FleetError: no such alias or version, a rollout is under way, or another run holds
            the fleet.
    """
    gateways = LocalGateways(workspace.state_dir, envoys=workspace.machines.envoys())
    outbox, holder = workspace.ledger.outbox(), f"{workspace.by} (run {workspace.run}, drill)"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(gateways)
        try:
            call_with_timeout(lambda: stack.enter_context(workspace.ledger.open().lease(holder)))
        except LockHeldError:
            raise
        except (FleetError, OSError) as error:  # also where the home does not answer in time
            workspace.warn(f"no lease: {error}")
        return await drill(
            alias,
            to,
            gateways,
            outbox,
            live=live,
            doubts=lambda names: check_fallbacks(workspace, outbox, alias, names),
            inputs=smoke or await asyncio.to_thread(smoke_inputs, workspace, outbox, alias),
        )


async def notify_failed_drill(workspace: Workspace, result: DrillResult) -> list[str]:
    """Notify that a rollback would not succeed now; return warnings."""
    about = failed_drill(result.alias, result.target, _reasons(result), workspace.now())
    try:
        return await notify_once(workspace, [about])
    except (FleetError, OSError) as error:
        return [f"no notice was sent: {error}"]


def drill_times(results: Sequence[DrillResult]) -> dict[str, Any]:
    """Return the times of successful drills of an alias, in seconds.

    The 99th percentile is the smallest time that 99 % do not exceed.
    """
    last = results[-1]
    flips = sorted(result.seconds for result in results)
    times = {name: flips[-(-part * len(flips) // 100) - 1] for name, part in PERCENTILES}
    smoke_s = sorted(result.smoke.seconds for result in results)[len(results) // 2]
    flip = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in times.items())
    moved = "there and back" if last.live else "no traffic moved"
    sentence = (
        f"{len(results)} drills of {last.alias} to {last.target} ({moved}): to the last "
        f"gateway's acknowledgement {flip}; smoke test {smoke_s:.2f} s"
    )
    return {
        "alias": last.alias,
        "target": last.target,
        "live": last.live,
        "drills": len(results),
        **{f"{name}_s": round(seconds, 4) for name, seconds in times.items()},
        "smoke_p50_s": round(smoke_s, 4),
        "sentence": sentence,
    }


async def aliases_to_drill(
    workspace: Workspace, longest: timedelta | None, *, declared: bool
) -> tuple[list[str], list[str]]:
    """Return the aliases that are due for a drill, and those without a version to go back to.

    `longest`: time since the last successful drill after which an alias is due; None: all are.
    `declared`: the interval is that of the alias's rollout; without an interval none is due.
    """
    table = await read_routing_table(workspace)
    intervals = _declared(workspace.project) if declared else dict.fromkeys(table.aliases, longest)
    entries = workspace.ledger.open().standing()
    last, history, now = last_drills(entries), workspace.ledger.history(), workspace.now()
    digests = loaded_digests(history)
    due: list[str] = []
    stuck: list[str] = []
    for alias in sorted(table.aliases.keys() & intervals):
        interval = intervals[alias]
        if interval and alias in last and now - last[alias] < interval:
            continue
        (stuck if _obstacle(history, digests, table, alias) else due).append(alias)
    return due, stuck


def _obstacle(history: History, digests: Mapping[str, str], table: RoutingTable, alias: str) -> str:
    """Return why an alias has no version to go back to; empty: there is a version."""
    objections = partial(fallback_check, history, alias, digests)
    try:
        choose_target(alias, table.aliases[alias], None, objections)
    except FleetError as error:
        summary = error.diagnostics[0].summary
        return f"{summary[:1].lower()}{summary[1:]}"
    return ""


def _declared(project: ProjectContext) -> dict[str, timedelta | None]:
    """Return the drill intervals of aliases whose rollout declares `drill`."""
    fleet = project.fleet()
    return {
        alias: interval
        for alias, adapter in fleet.adapters.items()
        if (interval := fleet.rollouts[adapter.rollout].drill)
    }


async def read_routing_table(workspace: Workspace) -> RoutingTable:
    """Return the newest routing table."""
    async with LocalGateways(workspace.state_dir, envoys=workspace.machines.envoys()) as gateways:
        return (await gateways.read_table())[0]


async def drill_records(
    workspace: Workspace, live: State, entries: Sequence[Entry]
) -> tuple[DrillRecord, ...]:
    """Return the record of every alias whose rollout declares `drill`, the most urgent first."""
    fleet, now = workspace.project.fleet(), workspace.now()
    if not _declared(workspace.project):
        return ()
    try:
        table = await read_routing_table(workspace)
    except FleetError:  # `observe` reports the same; without routes nothing is drilled
        return ()
    history = settled(workspace.ledger.history(), live)
    cutovers, digests = history.cutovers, loaded_digests(history)
    since = {
        alias: min(times)
        for alias, entry in table.aliases.items()
        if (times := [at for share in entry.shares if (at := cutovers.get(share.adapter))])
    }
    waits: dict[str, str] = {}
    for alias, wanted in decide_rollouts(fleet, live, history, now).wanted.items():
        until = closed_until(fleet.rollouts[fleet.adapters[alias].rollout], now)
        if alias not in table.aliases:
            waits[alias] = "it has no route"
        elif wanted.phase not in (Phase.COMPLETE, Phase.SOAKING, Phase.HELD):
            waits[alias] = f"its rollout is under way ({wanted.phase})"
        elif until:
            waits[alias] = f"nothing is changed until {until:%Y-%m-%d %H:%M} UTC"
        elif obstacle := _obstacle(history, digests, table, alias):
            waits[alias] = obstacle
    return due_drills(fleet, entries, since, waits, now)


async def drill_next_due(workspace: Workspace, live: State) -> None:
    """Carry out the most urgent drill that is due; a drill that fails does not end the round.

    No traffic moves. A failed drill is recorded, notified once until a drill of the alias
    succeeds, and repeated an hour later.
    """
    entries = await asyncio.to_thread(workspace.ledger.open().standing)
    now = workspace.now()
    due = [item for item in await drill_records(workspace, live, entries) if item.may_begin(now)]
    if not due:
        return
    record = due[0]
    try:
        result = await drill_one(workspace, record.alias, None, (), live=False)
    except LockHeldError:
        workspace.inform(f"A drill of {record.alias} is due and waits: another run is at work.")
        return
    except FleetError as error:
        why = error.diagnostics[0]
        workspace.ledger.open().append([DrillRefused(record.alias, why.detail)])
        await _report_failed(workspace, record, "", [f"{why.summary}: {why.detail}"])
        return
    for line in result.warnings:
        workspace.inform(f"Note: drill of {record.alias}: {line}")
    workspace.inform(f"Drilled, as often as declared: {result.sentence}")
    if not result.complete:
        await _report_failed(workspace, record, result.target, _reasons(result))


def _reasons(result: DrillResult) -> list[str]:
    return [*result.failures, *result.smoke.failures]


async def _report_failed(
    workspace: Workspace, record: DrillRecord, target: str, reasons: list[str]
) -> None:
    text = (
        f"a rollback of {record.alias} would not succeed now: {'; '.join(reasons)}. Once that is "
        f"mended: fleetctl rollback {record.alias} --drill"
    )
    workspace.warn(text)
    since = record.last.isoformat() if record.last else "the beginning"
    about = failed_drill(record.alias, target, reasons, workspace.now(), f"after {since}")
    workspace.warn(*await notify_once(workspace, [about]))


def drill_document(record: DrillRecord) -> dict[str, Any]:
    """Return a record as a document of `status`."""
    return {
        "alias": record.alias,
        "turn": record.urgency.value,
        "every": format_duration(record.every),
        "last": _iso(record.last),
        "tried": _iso(record.tried),
        "due": _iso(record.due),
        "waits": record.waits,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


@dataclass(frozen=True, slots=True)
class Release:
    """The versions that were released, or the route that was accepted."""

    versions: tuple[str, ...] = ()
    """Full names of the released versions, sorted."""
    route_accepted: bool = False
    """Whether the live route was accepted in place of a version."""
    nothing: bool = False
    """Whether nothing was kept out and the route is as applied: nothing was written."""


def release_versions(workspace: Workspace, alias: str, version: str | None, reason: str) -> Release:
    """Lift all that keeps versions of an alias out, and accept its live route. Moves no traffic.

    `version`: such as `2.2.0`; None: every version that is kept out.

    Raises:
        FleetError: FC5123, no such alias; FC5124, the version is not held.
    """
    table = asyncio.run(read_routing_table(workspace))
    entries = workspace.ledger.open().read()
    history = workspace.ledger.history()
    holds = kept_out(history, alias) | history.fell.get(alias, {}).keys()
    entry = table.aliases.get(alias)
    tampered = alias in tampered_evidence(entries, history, {alias})
    # A release vouches for the clock here.
    late = clock_behind(entries, workspace.now()) is not None
    if entry is None and not (holds or tampered):
        detail = f"`{alias}` has neither a route nor a hold."
        hint = did_you_mean(alias, sorted(table.aliases))
        raise FleetError.of("FC5123", "No such alias", detail, hint=hint, command="fleetctl status")
    versions = _locked(workspace.project, alias) if version else {}
    known = {version_of(name): name for name in (*versions, *holds)}
    named = same_bytes(history, versions, alias, known[version]) if version in known else set()
    named |= {known[version]} & holds if version in known else set()  # given up
    if version is not None and not named:
        held = ", ".join(sorted(map(version_of, holds)))
        detail = f"{version} of `{alias}` is not held; held are {held or 'none'}."
        raise FleetError.of("FC5124", "The version is not held", detail, command="fleetctl status")
    route = entry.route(alias) if entry else None
    if not (holds or tampered or late) and history.established.get(route_address(alias)) == route:
        return Release(nothing=True)
    event = Released(alias, reason, plain(route))
    events = [replace(event, adapter=name) for name in sorted(named)]
    workspace.ledger.open().append(events or [event])
    freed = tuple(sorted(named or holds))
    return Release(freed, route_accepted=not freed)


def _locked(project: ProjectContext, alias: str) -> Mapping[str, AdapterFacts]:
    """Return the alias's versions in the lock; none where the declarations cannot be read."""
    try:
        found = project.fleet().versions
    except (FleetError, OSError):
        return {}
    return {name: facts for name, facts in found.items() if alias_of(name) == alias}
