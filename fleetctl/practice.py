"""Practising rollbacks as often as is declared: whose turn it is, and one at a time carried out."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from fleetctl.session import Session

if TYPE_CHECKING:
    from datetime import datetime

    from fleet.history import Entry, History
    from fleet.maintenance import DrillRecord
    from fleet.resources import State
    from runtime.gateway.table import RoutingTable
    from runtime.rollback.drill import DrillResult


async def turns(
    session: Session, live: "State", entries: "Sequence[Entry]"
) -> "tuple[DrillRecord, ...]":
    """Return the turn of every alias whose rollout declares `drill`, the most urgent first."""
    from fleet.errors import FleetError  # noqa: PLC0415
    from fleet.history import fold_entries, settled  # noqa: PLC0415
    from fleet.maintenance import due_drills  # noqa: PLC0415 (keeps `--help` fast)
    from runtime.gateway.control import LocalGateways  # noqa: PLC0415

    fleet, now = session.fleet(), session.now()
    if not any(fleet.rollouts[each.rollout].drill for each in fleet.adapters.values()):
        return ()
    gateways = LocalGateways(session.state_dir, envoys=session.envoys())
    try:
        table, _ = await gateways.read_table()
    except FleetError:  # `observe` says so, and nothing is drilled by routes that nobody knows
        return ()
    finally:
        await gateways.close()
    history = settled(fold_entries(entries), live)
    since = {
        alias: min(lost)
        for alias, entry in table.aliases.items()
        if (lost := [at for e in entry.shares if (at := history.cutovers.get(e.adapter))])
    }
    return due_drills(fleet, entries, since, _waits(session, live, history, table, now), now)


def _waits(
    session: Session, live: "State", history: "History", table: "RoutingTable", now: "datetime"
) -> dict[str, str]:
    """Return by alias what prevents a drill now."""
    from fleet.errors import FleetError  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.history import fallback_check, loaded_digests  # noqa: PLC0415
    from fleet.rollouts import Phase, closed_until, decide_rollouts  # noqa: PLC0415
    from runtime.rollback.publish import choose_target  # noqa: PLC0415

    fleet, digests, found = session.fleet(), loaded_digests(history), dict[str, str]()
    for alias, wanted in decide_rollouts(fleet, live, history, now).wanted.items():
        until = closed_until(fleet.rollouts[fleet.adapters[alias].rollout], now)
        if alias not in table.aliases:
            found[alias] = "it has no route"
        elif wanted.phase not in (Phase.COMPLETE, Phase.SOAKING, Phase.HELD):
            found[alias] = f"its rollout is under way ({wanted.phase})"
        elif until:
            found[alias] = f"nothing is changed until {until:%Y-%m-%d %H:%M} UTC"
        else:
            against = partial(fallback_check, history, alias, digests)
            try:
                choose_target(alias, table.aliases[alias], None, against)
            except FleetError as error:
                first = error.diagnostics[0].summary
                found[alias] = f"{first[:1].lower()}{first[1:]}"
    return found


async def practise(session: Session, live: "State") -> None:
    """Carry out one drill that is due, if any; whatever comes of it, the round goes on.

    No traffic moves. One that fails is written down, told to people once until one succeeds, and
    tried again an hour later.
    """
    from fleet.errors import FleetError, LockHeldError  # noqa: PLC0415 (keeps `--help` fast)
    from fleetctl.drilling import drill_one  # noqa: PLC0415

    entries = await asyncio.to_thread(session.ledger().read)
    now = session.now()
    due = [each for each in await turns(session, live, entries) if each.may_begin(now)]
    if not due:
        return
    one = due[0]
    try:
        result = await drill_one(session, one.alias, None, (), live=False)
    except LockHeldError:
        click.echo(f"A drill of {one.alias} is due and waits: another run is at work.", err=True)
        return
    except FleetError as error:
        why = error.diagnostics[0]
        nobody = {"target": "", "live": False, "complete": False, "reason": why.detail}
        session.ledger().append("drilled", [{"alias": one.alias, **nobody}])
        await _failed(session, one, "", [f"{why.summary}: {why.detail}"])
        return
    for line in result.warnings:
        click.echo(f"Note: drill of {one.alias}: {line}", err=True)
    click.echo(f"Drilled, as often as declared: {result.sentence}", err=True)
    if not result.complete:
        await _failed(session, one, result.target, _reasons(result))


def _reasons(result: "DrillResult") -> list[str]:
    return [*result.failures, *result.smoke.failures]


async def _failed(session: Session, drill: "DrillRecord", target: str, reasons: list[str]) -> None:
    from fleet.maintenance import failed_drill  # noqa: PLC0415 (keeps `--help` fast)
    from fleetctl.telling import tell_occasions  # noqa: PLC0415

    told = f"a rollback of {drill.alias} would not succeed now: {'; '.join(reasons)}"
    click.echo(f"Warning: {told}. Once that is mended: fleetctl rollback {drill.alias} --drill",
               err=True)  # fmt: skip
    since = drill.last.isoformat() if drill.last else "the beginning"
    about = failed_drill(drill.alias, target, reasons, session.now(), f"after {since}")
    for line in await tell_occasions(session, [about]):
        click.echo(f"Warning: {line}", err=True)


def row(drill: "DrillRecord") -> dict[str, Any]:
    """Return a turn as status shows it."""
    from fleet.config import format_duration  # noqa: PLC0415 (keeps `--help` fast)

    return {
        "alias": drill.alias,
        "turn": drill.turn.value,
        "every": format_duration(drill.every),
        "last": _iso(drill.last),
        "tried": _iso(drill.tried),
        "due": _iso(drill.due),
        "waits": drill.waits,
    }


def _iso(moment: "datetime | None") -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
